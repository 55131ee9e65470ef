"""The console, wired."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from services.console.auditing import Audit
from services.console.consumers import HANDLERS
from services.console.http import api
from services.console.settings import ConsoleSettings
from services.console.setup import Setup
from shared.runtime.service import Context, Parts, Service


@asynccontextmanager
async def build(context: Context[ConsoleSettings]) -> AsyncIterator[Parts]:
    lifetime = context.settings.owner_token_lifetime
    setup = Setup(context.pool, context.tokens.signer, context.clock, lifetime)
    yield Parts(values={api.SETUP: setup, api.AUDIT: Audit(context.pool)}, handlers=HANDLERS)


SERVICE = Service(
    name="console",
    summary="People: set-up, tokens, audit",
    settings=ConsoleSettings,
    build=build,
    routes=api.ROUTES,
)
