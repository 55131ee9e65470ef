"""Fences that command_queue has not confirmed yet."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from shared.db.pool import Connection

# A fence that takes effect now (`ends` NULL) overrides one that waits to.
ADD = """
INSERT INTO fence (enrollment_id, device_id, generation, state, ends, actor, requested_at, due_at)
SELECT enrollment_id, device_id, generation, state, ends, actor, $7, $7
FROM unnest($1::uuid[], $2::uuid[], $3::int[], $4::text[], $5::text[], $6::text[])
  AS news (enrollment_id, device_id, generation, state, ends, actor)
ON CONFLICT (enrollment_id) DO UPDATE SET
    generation = excluded.generation,
    state = excluded.state,
    ends = CASE WHEN excluded.ends IS NULL THEN NULL ELSE coalesce(fence.ends, excluded.ends) END,
    due_at = excluded.due_at
"""
CLAIM = """
UPDATE fence SET due_at = $1::timestamptz + $2::interval * power(2, least(attempts, 6)),
                 attempts = attempts + 1
WHERE enrollment_id IN (
    SELECT enrollment_id FROM fence WHERE due_at <= $1 ORDER BY due_at LIMIT $3
    FOR UPDATE SKIP LOCKED)
RETURNING enrollment_id, device_id, generation, state, ends, actor
"""
OF_ENROLLMENT = """
SELECT enrollment_id, device_id, generation, state, ends, actor FROM fence WHERE enrollment_id = $1
"""
SETTLE = "DELETE FROM fence WHERE enrollment_id = $1 AND generation = $2 AND state = $3"
COUNT = "SELECT count(*) FROM fence"


@dataclass(frozen=True, slots=True)
class Fence:
    """`ends` set: the enrollment ends for this reason once command_queue has confirmed."""

    enrollment_id: UUID
    device_id: UUID
    generation: int
    state: str
    ends: str | None = None
    actor: str | None = None


async def add(tx: Connection, fences: Sequence[Fence], now: datetime) -> None:
    await tx.execute(
        ADD,
        [f.enrollment_id for f in fences],
        [f.device_id for f in fences],
        [f.generation for f in fences],
        [f.state for f in fences],
        [f.ends for f in fences],
        [f.actor for f in fences],
        now,
    )


async def claim(tx: Connection, now: datetime, wait: timedelta, limit: int) -> list[Fence]:
    """Take fences to tell; who crashes holding them gives them back after `wait`, doubling."""
    return [Fence(**row) for row in await tx.fetch(CLAIM, now, wait, limit)]


async def of_enrollment(tx: Connection, enrollment_id: UUID) -> Fence | None:
    row = await tx.fetchrow(OF_ENROLLMENT, enrollment_id)
    return Fence(**row) if row else None


async def settle(tx: Connection, fence: Fence) -> bool:
    """Forget a fence that was told; False: it was replaced meanwhile."""
    done = await tx.execute(SETTLE, fence.enrollment_id, fence.generation, fence.state)
    return str(done) == "DELETE 1"


async def waiting(tx: Connection) -> int:
    return int(await tx.fetchval(COUNT))
