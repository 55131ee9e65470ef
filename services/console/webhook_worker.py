"""`muster run webhooks`: tells webhooks, in a process that holds what this needs and nothing else.

It calls addresses that people typed, so it is the first that would be broken into: it cannot sign
for the console (decision 52), and opens no other secret and reads no other table (decision 70).
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager

from services.console.jobs import webhook_jobs
from services.console.settings import ConsoleSettings
from services.console.store import webhooks
from services.console.webhooks.sending import Sending
from shared.runtime import outbound
from shared.runtime.service import Context, Parts, Service
from shared.runtime.settings import SettingsError
from shared.sealed import WEBHOOK_KEYS


@asynccontextmanager
async def build(context: Context[ConsoleSettings]) -> AsyncIterator[Parts]:
    if await webhooks.reaches_more(context.pool):
        raise SettingsError(
            "MUSTER_CONSOLE_DATABASE_URL: its role has more rights than this needs; "
            "name muster_webhooks"
        )
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
    keys=WEBHOOK_KEYS,
)
