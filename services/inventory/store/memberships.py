"""Who is in which group. Rows of devices are locked before, those of groups after them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from shared.db.pool import Connection
from shared.runtime.http import Reach

# Of the named devices, those that nobody knows or that are in none of the groups.
OUTSIDE = """
SELECT count(*) FROM unnest($1::uuid[]) AS named (device_id)
WHERE NOT EXISTS (
    SELECT FROM device WHERE device.device_id = named.device_id AND device.sequence > 0
      AND ($2::uuid[] IS NULL OR EXISTS (
          SELECT FROM membership AS m WHERE m.device_id = named.device_id AND m.group_id = ANY($2)))
)
"""
ADD = """
WITH added AS (
    INSERT INTO membership (device_id, group_id, added_at, added_by)
    SELECT device_id, $1, $3, $4 FROM unnest($2::uuid[]) AS named (device_id)
    ON CONFLICT DO NOTHING RETURNING device_id
), noted AS (
    INSERT INTO grouped_device SELECT device_id FROM added ON CONFLICT DO NOTHING
), counted AS (
    UPDATE device_group SET members = members + (SELECT count(*) FROM added) WHERE group_id = $1
)
SELECT device_id FROM added ORDER BY device_id
"""
REMOVE = """
WITH removed AS (
    DELETE FROM membership WHERE group_id = $1 AND device_id = ANY($2::uuid[]) RETURNING device_id
), counted AS (
    UPDATE device_group SET members = members - (SELECT count(*) FROM removed) WHERE group_id = $1
)
SELECT device_id FROM removed ORDER BY device_id
"""
OVERFULL = """
SELECT count(*) FROM (
    SELECT FROM membership WHERE device_id = ANY($1::uuid[])
    GROUP BY device_id HAVING count(*) > $2
) AS too_many
"""
LEAVE = """
WITH fled AS (DELETE FROM grouped_device WHERE device_id = ANY($1::uuid[]))
DELETE FROM membership WHERE device_id = ANY($1::uuid[]) RETURNING device_id, group_id
"""
LOCK_GROUPS = """
SELECT FROM device_group WHERE group_id = ANY($1::uuid[]) ORDER BY group_id FOR NO KEY UPDATE
"""
COUNT_OFF = """
UPDATE device_group SET members = members - gone.count
FROM (SELECT group_id, count(*) FROM unnest($1::uuid[]) AS left_by (group_id) GROUP BY group_id)
    AS gone
WHERE device_group.group_id = gone.group_id
"""
# A group that is being dissolved counts no more, although some of its members have not left yet.
OF_DEVICES = """
SELECT device_id, ARRAY(
    SELECT group_id FROM membership AS m JOIN device_group USING (group_id)
    WHERE m.device_id = named.device_id AND deleted_at IS NULL ORDER BY group_id
) AS groups
FROM unnest($1::uuid[]) AS named (device_id) ORDER BY device_id
"""
AMONG = """
SELECT device_id FROM membership WHERE group_id = $1 AND device_id = ANY($2::uuid[])
"""
SOME = "SELECT device_id FROM membership WHERE group_id = $1 ORDER BY device_id LIMIT $2"
PAGE = """
SELECT m.device_id, coalesce(d.name, d.reported_name) AS name, d.serial, d.platform, m.added_at,
       m.added_by
FROM membership AS m LEFT JOIN device AS d USING (device_id)
WHERE m.group_id = $1 AND ($2::uuid IS NULL OR m.device_id > $2)
ORDER BY m.device_id LIMIT $3
"""


async def outside(tx: Connection, device_ids: Sequence[UUID], reach: Reach) -> int:
    """How many of these are not known, or not within reach."""
    return int(await tx.fetchval(OUTSIDE, list(device_ids), reach))


async def add(
    tx: Connection, group_id: UUID, device_ids: Sequence[UUID], at: datetime, by: str
) -> list[UUID]:
    """Put devices into a group; returns those that were not in it, by id."""
    return [row["device_id"] for row in await tx.fetch(ADD, group_id, list(device_ids), at, by)]


async def remove(tx: Connection, group_id: UUID, device_ids: Sequence[UUID]) -> list[UUID]:
    """Take devices out of a group; returns those that were in it, by id."""
    return [row["device_id"] for row in await tx.fetch(REMOVE, group_id, list(device_ids))]


async def overfull(tx: Connection, device_ids: Sequence[UUID], most: int) -> int:
    """How many of these devices are in more than `most` groups."""
    return int(await tx.fetchval(OVERFULL, list(device_ids), most))


async def leave(tx: Connection, device_ids: Sequence[UUID]) -> set[UUID]:
    """Take devices that are no more out of all their groups; returns those that were in any."""
    rows = await tx.fetch(LEAVE, list(device_ids))
    if rows:
        groups = [row["group_id"] for row in rows]
        await tx.execute(LOCK_GROUPS, sorted(set(groups)))
        await tx.execute(COUNT_OFF, groups)
    return {row["device_id"] for row in rows}


async def of_devices(tx: Connection, device_ids: Sequence[UUID]) -> list[tuple[UUID, list[UUID]]]:
    """(device, all its groups), by device."""
    rows = await tx.fetch(OF_DEVICES, list(device_ids))
    return [(row["device_id"], row["groups"]) for row in rows]


async def among(tx: Connection, group_id: UUID, device_ids: Sequence[UUID]) -> list[UUID]:
    """Which of these are in a group; nothing is locked."""
    return [row["device_id"] for row in await tx.fetch(AMONG, group_id, list(device_ids))]


async def some(tx: Connection, group_id: UUID, limit: int) -> list[UUID]:
    """Members of a group by id; nothing is locked."""
    return [row["device_id"] for row in await tx.fetch(SOME, group_id, limit)]


async def page(
    tx: Connection, group_id: UUID, after: UUID | None, limit: int
) -> list[dict[str, Any]]:
    """Members by id, with what people know them by."""
    return [dict(row) for row in await tx.fetch(PAGE, group_id, after, limit)]
