"""Whose state is told anew next."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

from shared.db.pool import Connection

START = UUID(int=0)

# An estimate, kept by autovacuum; -1 or 0 while it has none.
ESTIMATE = "SELECT greatest(reltuples, 0)::bigint FROM pg_class WHERE oid = 'device'::regclass"
NEXT = """
SELECT device_id FROM device
WHERE device_id > (SELECT after FROM retelling) AND known
ORDER BY device_id LIMIT $1
"""
MOVE = "UPDATE retelling SET after = $1"


async def devices(tx: Connection) -> int:
    """About how many devices there are."""
    estimate: int = await tx.fetchval(ESTIMATE)
    return estimate


async def next_devices(tx: Connection, limit: int) -> Sequence[UUID]:
    """The next of this round, in the order of their ids; fewer than `limit` end it."""
    return [row["device_id"] for row in await tx.fetch(NEXT, limit)]


async def move(tx: Connection, after: UUID) -> None:
    """Go on behind this device; START begins a new round."""
    await tx.execute(MOVE, after)
