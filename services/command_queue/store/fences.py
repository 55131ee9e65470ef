"""Fences, freezes and charges: what stands between a command and a device."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from shared.db.pool import Connection

# A fence never goes back: the state of a lower generation, or the same again, changes nothing.
RAISE = """
INSERT INTO fence (enrollment_id, device_id, generation, state, fenced_at)
SELECT *, $5 FROM unnest($1::uuid[], $2::uuid[], $3::int[], $4::text[])
ON CONFLICT (enrollment_id) DO UPDATE SET
    device_id = excluded.device_id, generation = excluded.generation, state = excluded.state,
    ordinal = nextval('ordinal'), fenced_at = excluded.fenced_at
WHERE fence.generation < excluded.generation
   OR fence.generation = excluded.generation AND fence.state <> excluded.state
RETURNING enrollment_id
"""

# The projection obeys at once, also one that has not heard of the enrollment yet.
OBEY = """
INSERT INTO enrollment AS e (enrollment_id, device_id, generation, state, fenced)
SELECT enrollment_id, device_id, generation,
       CASE state WHEN 'reauthenticated' THEN 'pending' WHEN 'quarantined' THEN 'quarantined'
                  ELSE 'ended' END,
       state
FROM unnest($1::uuid[], $2::uuid[], $3::int[], $4::text[])
     AS told (enrollment_id, device_id, generation, state)
ON CONFLICT (enrollment_id) DO UPDATE SET
    generation = excluded.generation, state = excluded.state, fenced = excluded.fenced
WHERE e.generation < excluded.generation
   OR e.generation = excluded.generation AND excluded.fenced <> 'reauthenticated'
"""

OF_DEVICES = "SELECT enrollment_id, ordinal, generation, state FROM fence WHERE device_id = ANY($1)"


@dataclass(frozen=True, slots=True)
class Fence:
    """What enrollment demands before it answers: see architecture §4."""

    enrollment_id: UUID
    device_id: UUID
    generation: int
    state: str


@dataclass(frozen=True, slots=True)
class Raised:
    """A fence that stands; commands with a lower ordinal were asked for before it."""

    enrollment_id: UUID
    ordinal: int
    generation: int
    state: str


async def raise_up(tx: Connection, fences: Sequence[Fence], now: datetime) -> set[UUID]:
    """Record fences, one an enrollment; return the enrollments for which that was news."""
    columns = _columns(fences)
    news = {row["enrollment_id"] for row in await tx.fetch(RAISE, *columns, now)}
    await tx.execute(OBEY, *columns)
    return news


async def of_devices(tx: Connection, devices: Sequence[UUID]) -> dict[UUID, Raised]:
    """Return the fences of these devices' enrollments, by enrollment."""
    rows = await tx.fetch(OF_DEVICES, devices)
    return {row["enrollment_id"]: Raised(**row) for row in rows}


def _columns(fences: Sequence[Fence]) -> list[list[Any]]:
    return [[getattr(one, name) for one in fences] for name in Fence.__dataclass_fields__]
