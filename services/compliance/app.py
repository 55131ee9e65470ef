"""compliance, wired."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from services.compliance import baseline
from services.compliance.consumers import handlers
from services.compliance.editing import Editor
from services.compliance.http import api
from services.compliance.jobs import jobs
from services.compliance.judging import Judge
from services.compliance.previews import Previews
from services.compliance.queries import Reader
from services.compliance.settings import ComplianceSettings
from shared.runtime.jobs import Wake
from shared.runtime.service import Context, Parts, Service


@asynccontextmanager
async def build(context: Context[ComplianceSettings]) -> AsyncIterator[Parts]:
    settings, pool, clock = context.settings, context.pool, context.clock
    judge, changed = Judge(clock), Wake()
    editor = Editor(pool, clock, changed)
    if settings.seed_baseline:
        await baseline.seed(editor)
    yield Parts(
        values={
            api.EDITOR: editor,
            api.READER: Reader(pool),
            api.PREVIEWS: Previews(pool, clock),
        },
        handlers=handlers(judge, clock),
        jobs=jobs(settings, pool, clock, judge, changed),
    )


SERVICE = Service(
    name="compliance",
    summary="Judges devices by policies, with reasons",
    settings=ComplianceSettings,
    build=build,
    routes=api.ROUTES,
)
