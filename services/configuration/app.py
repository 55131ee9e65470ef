"""configuration, wired."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from services.configuration.consumers import HANDLERS
from services.configuration.declarations import Declarations
from services.configuration.http import internal
from services.configuration.settings import ConfigurationSettings
from shared.runtime.service import Context, Parts, Service


@asynccontextmanager
async def build(context: Context[ConfigurationSettings]) -> AsyncIterator[Parts]:
    values = {internal.DECLARATIONS: Declarations(context.pool)}
    yield Parts(values=values, handlers=HANDLERS)


SERVICE = Service(
    name="configuration",
    summary="Knows what each device should have",
    settings=ConfigurationSettings,
    build=build,
    routes=internal.ROUTES,
)
