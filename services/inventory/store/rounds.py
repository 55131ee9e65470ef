"""How far the round has come in which groups are told anew."""

from __future__ import annotations

from uuid import UUID

from shared.db.pool import Connection

START = UUID(int=0)

# An estimate, kept by autovacuum; -1 or 0 while it has none.
ESTIMATE = "SELECT greatest(reltuples, 0)::bigint FROM pg_class WHERE oid = $1::text::regclass"
NEXT_DEVICES = """
SELECT device_id FROM grouped_device
WHERE device_id > (SELECT device_after FROM retelling) ORDER BY device_id LIMIT $1
"""
NEXT_GROUPS = """
SELECT group_id FROM device_group
WHERE group_id > (SELECT group_after FROM retelling) ORDER BY group_id LIMIT $1
"""
MOVE = "UPDATE retelling SET device_after = $1, group_after = $2"


async def sizes(tx: Connection) -> tuple[int, int]:
    """About how many devices with groups there are, and how many groups."""
    devices: int = await tx.fetchval(ESTIMATE, "grouped_device")
    groups: int = await tx.fetchval(ESTIMATE, "device_group")
    return devices, groups


async def next_devices(tx: Connection, limit: int) -> list[UUID]:
    """The next of this round by id; fewer than `limit` end it."""
    return [row["device_id"] for row in await tx.fetch(NEXT_DEVICES, limit)]


async def next_groups(tx: Connection, limit: int) -> list[UUID]:
    return [row["group_id"] for row in await tx.fetch(NEXT_GROUPS, limit)]


async def move(tx: Connection, device_after: UUID, group_after: UUID) -> None:
    """Go on behind these; START begins a new round."""
    await tx.execute(MOVE, device_after, group_after)
