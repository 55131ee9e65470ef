"""Static groups, without their members."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from shared.db.pool import Connection
from shared.runtime.http import Reach

_COLUMNS = """
    group_id, name, description, protected, members, created_at, created_by, changed_at, changed_by
"""

CREATE = """
INSERT INTO device_group (
    group_id, name, description, protected, created_at, created_by, changed_at, changed_by
)
VALUES ($1, $2, $3, $4, $5, $6, $5, $6)
"""
CHANGE = """
UPDATE device_group SET name = $2, description = $3, protected = $4, changed_at = $5,
                        changed_by = $6
WHERE group_id = $1
"""
DELETE = """
UPDATE device_group SET deleted_at = $2, changed_at = $2, changed_by = $3 WHERE group_id = $1
"""
ONE = f"""
SELECT {_COLUMNS} FROM device_group
WHERE group_id = $1 AND deleted_at IS NULL AND ($2::uuid[] IS NULL OR group_id = ANY($2))
"""
# Whose rights or members change has the devices' rows already: devices first, then groups.
LOCK = f"{ONE} FOR NO KEY UPDATE"
PAGE = f"""
SELECT {_COLUMNS} FROM device_group
WHERE deleted_at IS NULL AND ($1::uuid IS NULL OR group_id > $1)
  AND ($2::uuid[] IS NULL OR group_id = ANY($2))
  AND ($3::text IS NULL OR strpos(lower(name), lower($3)) > 0)
ORDER BY group_id LIMIT $4
"""

# Two people may choose one name, or the last free place, at the same time: the second waits.
TAKE_TURNS = "SELECT pg_advisory_xact_lock(hashtext('muster_inventory_groups'))"
NAME_TAKEN = """
SELECT EXISTS (SELECT FROM device_group WHERE lower(name) = lower($1) AND deleted_at IS NULL
                                          AND group_id <> $2)
"""
COUNT = "SELECT count(*) FROM device_group WHERE deleted_at IS NULL"

DISSOLVING = """
SELECT group_id FROM device_group
WHERE deleted_at IS NOT NULL AND dissolved_at IS NULL ORDER BY deleted_at LIMIT 1
"""
DISSOLVED = """
UPDATE device_group SET dissolved_at = $2, members = 0
WHERE group_id = $1 AND deleted_at IS NOT NULL AND dissolved_at IS NULL
"""
STATES = """
SELECT group_id, name, description, protected, dissolved_at IS NOT NULL AS deleted
FROM device_group WHERE group_id = ANY($1::uuid[]) ORDER BY group_id FOR NO KEY UPDATE
"""


@dataclass(frozen=True)
class Group:
    group_id: UUID
    name: str
    description: str | None
    protected: bool
    members: int
    created_at: datetime
    created_by: str
    changed_at: datetime
    changed_by: str


async def create(
    tx: Connection,
    group_id: UUID,
    name: str,
    description: str | None,
    *,
    protected: bool,
    at: datetime,
    by: str,
) -> None:
    await tx.execute(CREATE, group_id, name, description, protected, at, by)


async def change(
    tx: Connection,
    group_id: UUID,
    name: str,
    description: str | None,
    *,
    protected: bool,
    at: datetime,
    by: str,
) -> None:
    await tx.execute(CHANGE, group_id, name, description, protected, at, by)


async def delete(tx: Connection, group_id: UUID, at: datetime, by: str) -> None:
    """Hide a group from everybody; its members leave afterwards."""
    await tx.execute(DELETE, group_id, at, by)


async def one(tx: Connection, group_id: UUID, reach: Reach) -> Group | None:
    row = await tx.fetchrow(ONE, group_id, reach)
    return None if row is None else Group(**row)


async def lock(tx: Connection, group_id: UUID, reach: Reach) -> Group | None:
    """Read a group and keep others from changing it until the transaction ends."""
    row = await tx.fetchrow(LOCK, group_id, reach)
    return None if row is None else Group(**row)


async def page(
    tx: Connection, after: UUID | None, reach: Reach, text: str | None, limit: int
) -> list[Group]:
    """Groups by id, those whose name holds `text`."""
    return [Group(**row) for row in await tx.fetch(PAGE, after, reach, text, limit)]


async def name_taken(tx: Connection, name: str, besides: UUID) -> bool:
    """Whether another group has the name; until the transaction ends nobody else may ask."""
    await tx.execute(TAKE_TURNS)
    return bool(await tx.fetchval(NAME_TAKEN, name, besides))


async def count(tx: Connection) -> int:
    """How many groups there are; after `name_taken` nobody adds one meanwhile."""
    return int(await tx.fetchval(COUNT))


async def dissolving(tx: Connection) -> UUID | None:
    """Return the deleted group that has waited longest for its end."""
    found: UUID | None = await tx.fetchval(DISSOLVING)
    return found


async def dissolved(tx: Connection, group_id: UUID, at: datetime) -> bool:
    """Note that nothing is left of a deleted group; False: somebody else did."""
    done: str = await tx.execute(DISSOLVED, group_id, at)
    return done == "UPDATE 1"


async def states(tx: Connection, group_ids: Sequence[UUID]) -> list[dict[str, Any]]:
    """What the others are told of these groups, by id; their rows are locked."""
    return [dict(row) for row in await tx.fetch(STATES, list(group_ids))]
