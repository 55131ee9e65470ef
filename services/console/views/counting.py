"""Counting devices as they change, so that no page counts them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from uuid import UUID

from services.console.store import view_tallies as tallies
from shared.db.pool import Connection


@asynccontextmanager
async def counted(tx: Connection, device_ids: Collection[UUID]) -> AsyncIterator[None]:
    """Whatever the block does to these devices, whose locks are held, is counted after it."""
    before = await tallies.kinds(tx, device_ids)
    yield
    after = await tallies.kinds(tx, device_ids)
    after.subtract(before)
    await tallies.add(tx, after)
