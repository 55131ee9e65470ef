"""push_notifier, wired."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from services.push_notifier.certificates import Certificates
from services.push_notifier.consumers import handlers
from services.push_notifier.history import History
from services.push_notifier.http import api
from services.push_notifier.jobs import jobs
from services.push_notifier.sending import Sender
from services.push_notifier.settings import PushSettings
from services.push_notifier.store.encrypted import ENCRYPTED
from shared.runtime.jobs import Wake
from shared.runtime.service import Context, Parts, Service


@asynccontextmanager
async def build(context: Context[PushSettings]) -> AsyncIterator[Parts]:
    settings, pool, clock = context.settings, context.pool, context.clock
    due = Wake()
    certificates = Certificates(pool, context.cipher, context.internal, settings, clock)
    sender = Sender(context.road, context.sealing.keyring, certificates, settings, clock)
    try:
        yield Parts(
            values={
                api.CERTIFICATES: certificates,
                api.HISTORY: History(pool, clock, due),
            },
            handlers=handlers(settings, due),
            jobs=jobs(settings, pool, clock, certificates, sender, due),
        )
    finally:
        certificates.close()


SERVICE = Service(
    name="push_notifier",
    summary="Wakes devices and looks after push certificates",
    settings=PushSettings,
    build=build,
    encrypted=ENCRYPTED,
    routes=api.ROUTES,
)
