"""Whose state is told next: anew, or because it waits for its TokenUpdate."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
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
# Ids rise with time. Who repeats its Authenticate has been told of, and holds nobody up.
NEWCOMERS = """
SELECT enrollment_id, device_id, state = 'pending' AND generation = 1 AS waits, authenticated_at
FROM enrollment WHERE enrollment_id > (SELECT newcomers FROM retelling)
ORDER BY enrollment_id LIMIT $1
"""
GO_ON = "UPDATE retelling SET newcomers = $1"


@dataclass(frozen=True, slots=True)
class Newcomer:
    """An enrollment; `waits`: it began, and its first TokenUpdate has not come."""

    enrollment_id: UUID
    device_id: UUID
    waits: bool
    authenticated_at: datetime


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


async def newcomers(tx: Connection, limit: int) -> Sequence[Newcomer]:
    """The next enrollments in the order they began."""
    return [Newcomer(**row) for row in await tx.fetch(NEWCOMERS, limit)]


async def passed(tx: Connection, last: UUID) -> None:
    """Go on behind this enrollment."""
    await tx.execute(GO_ON, last)
