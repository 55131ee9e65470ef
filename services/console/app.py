"""The console, wired."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from services.console import bundle
from services.console.asking import Asking
from services.console.auditing import Audit
from services.console.bundle import Bundle
from services.console.consumers import HANDLERS
from services.console.http import (
    api,
    assets,
    device_page,
    device_pages,
    devices,
    keys,
    overview,
    overview_page,
    own,
)
from services.console.http.door import ConsoleDoor
from services.console.jobs import jobs_of
from services.console.sessions import Sessions
from services.console.settings import ConsoleSettings
from services.console.setup import Setup
from services.console.views.live import Announcer, Hub
from services.console.views.queries import Views
from shared.runtime.service import Context, Parts, Service


@asynccontextmanager
async def build(context: Context[ConsoleSettings]) -> AsyncIterator[Parts]:
    settings, pool, clock = context.settings, context.pool, context.clock
    signer, sessions = context.tokens.signer, Sessions(pool, clock)
    hub = Hub(settings.database_url)
    async with Announcer(pool).running(), hub.running():
        yield Parts(
            values={
                keys.SETUP: Setup(pool, signer, clock, settings.owner_token_lifetime),
                keys.AUDIT: Audit(pool),
                keys.SESSIONS: sessions,
                keys.ASKING: Asking(context.internal, signer),
                keys.BUNDLE: Bundle.load(settings.assets_dir, bundle.OWN),
                keys.VIEWS: Views(pool, clock),
                keys.HUB: hub,
            },
            handlers=HANDLERS,
            jobs=jobs_of(sessions, settings, pool, clock),
            door=ConsoleDoor(sessions, settings.address),
        )


SERVICE = Service(
    name="console",
    summary="People: set-up, tokens, audit, lists of devices",
    settings=ConsoleSettings,
    build=build,
    routes=(
        *api.ROUTES,
        *assets.ROUTES,
        *own.ROUTES,
        *devices.ROUTES,
        *overview.ROUTES,
        *overview_page.ROUTES,
        *device_pages.ROUTES,
        *device_page.ROUTES,
    ),
)
