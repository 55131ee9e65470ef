"""`muster run webhooks`: tells webhooks, in a process that cannot sign for the console.

It calls addresses that people typed, so it is the first that would be broken into (decision 52).
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager

from services.console.jobs import webhook_jobs
from services.console.settings import ConsoleSettings
from services.console.webhooks.sending import Sending
from shared.runtime import outbound
from shared.runtime.service import Context, Parts, Service


@asynccontextmanager
async def build(context: Context[ConsoleSettings]) -> AsyncIterator[Parts]:
    async with (
        outbound.opened(context.settings) as client,
        aclosing(Sending(context.pool, context.clock, context.cipher, client)) as sending,
    ):
        yield Parts(jobs=webhook_jobs(sending))


WORKER = Service(
    name="console",
    summary="Tells webhooks of events",
    settings=ConsoleSettings,
    build=build,
    routes=(),
    jobs_only=True,
)
