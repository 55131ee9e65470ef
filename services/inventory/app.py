"""inventory, wired."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from services.inventory.consumers import handlers
from services.inventory.http import api
from services.inventory.jobs import jobs
from services.inventory.queries import Inventory
from services.inventory.settings import InventorySettings
from shared.runtime.service import Context, Parts, Service


@asynccontextmanager
async def build(context: Context[InventorySettings]) -> AsyncIterator[Parts]:
    settings, pool, clock = context.settings, context.pool, context.clock
    yield Parts(
        values={api.INVENTORY: Inventory(pool, clock)},
        handlers=handlers(settings, clock),
        jobs=jobs(settings, pool, clock),
    )


SERVICE = Service(
    name="inventory",
    summary="Knows what is true of each device, now and before",
    settings=InventorySettings,
    build=build,
    routes=api.ROUTES,
)
