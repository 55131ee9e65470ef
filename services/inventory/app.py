"""inventory, wired."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from services.inventory.consumers import handlers
from services.inventory.groups import Groups
from services.inventory.http import api
from services.inventory.http import groups as groups_api
from services.inventory.jobs import jobs
from services.inventory.membership import Membership
from services.inventory.queries import Inventory
from services.inventory.settings import InventorySettings
from shared.runtime.jobs import Wake
from shared.runtime.service import Context, Parts, Service


@asynccontextmanager
async def build(context: Context[InventorySettings]) -> AsyncIterator[Parts]:
    settings, pool, clock = context.settings, context.pool, context.clock
    deleted = Wake()
    yield Parts(
        values={
            api.INVENTORY: Inventory(pool, clock),
            groups_api.GROUPS: Groups(pool, clock, deleted),
            groups_api.MEMBERSHIP: Membership(pool, clock),
        },
        handlers=handlers(settings, clock),
        jobs=jobs(settings, pool, clock, deleted),
    )


SERVICE = Service(
    name="inventory",
    summary="Knows what is true of each device, now and before",
    settings=InventorySettings,
    build=build,
    routes=[*api.ROUTES, *groups_api.ROUTES],
)
