"""Fences, freezes and charges: what stands between a command and a device."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from services.command_queue.store import devices
from shared.db.pool import Connection

# A fence never goes back: the state of a lower generation, or the same again, changes nothing.
RAISE = """
INSERT INTO fence (enrollment_id, device_id, generation, state, fenced_at)
SELECT *, $5 FROM unnest($1::uuid[], $2::uuid[], $3::int[], $4::text[])
ON CONFLICT (enrollment_id) DO UPDATE SET
    device_id = excluded.device_id, generation = excluded.generation, state = excluded.state,
    ordinal = nextval('ordinal'), fenced_at = excluded.fenced_at, shown = false
WHERE fence.generation < excluded.generation
   OR fence.generation = excluded.generation AND fence.state <> excluded.state
RETURNING enrollment_id
"""

# The projection obeys at once, also one that has not heard of the enrollment yet.
OBEY = """
INSERT INTO enrollment (enrollment_id, device_id, generation, state)
SELECT enrollment_id, device_id, generation,
       CASE state WHEN 'reauthenticated' THEN 'pending' WHEN 'quarantined' THEN 'quarantined'
                  ELSE 'ended' END
FROM unnest($1::uuid[], $2::uuid[], $3::int[], $4::text[])
     AS told (enrollment_id, device_id, generation, state)
ON CONFLICT (enrollment_id) DO UPDATE SET
    generation = excluded.generation, state = excluded.state
WHERE enrollment.generation < excluded.generation
   OR enrollment.generation = excluded.generation AND excluded.state <> 'pending'
"""

# Enrollments that are good until this moment, and of which no erase and no removal of their profile
# is out or was acknowledged. Asked before the fence stands: a repeat finds nothing.
UNASKED = """
SELECT named.enrollment_id FROM unnest($1::uuid[]) AS named (enrollment_id)
JOIN enrollment AS e USING (enrollment_id)
WHERE e.state = 'enrolled' AND NOT EXISTS (
    SELECT FROM pending AS p JOIN command AS c USING (command_id)
    WHERE p.device_id = e.device_id AND p.state IN ('sent', 'deferred', 'cancel_requested')
      AND c.request_type IN ('EraseDevice', 'RemoveProfile') AND c.command_class = 'destructive'
) AND NOT EXISTS (
    SELECT FROM outcome AS o
    CROSS JOIN LATERAL (
        SELECT request_type, command_class FROM any_command
        WHERE any_command.command_id = o.command_id OFFSET 0
    ) AS c
    WHERE o.device_id = e.device_id AND o.enrollment_id = e.enrollment_id
      AND o.command_id > $2 AND o.state = 'acknowledged'
      AND c.request_type IN ('EraseDevice', 'RemoveProfile') AND c.command_class = 'destructive'
)
"""

OF_DEVICES = """
SELECT enrollment_id, ordinal, generation, state, shown, fenced_at FROM fence
WHERE device_id = ANY($1)
"""
SHOW = "UPDATE fence SET shown = true WHERE enrollment_id = ANY($1::uuid[]) AND NOT shown"
TAKE_DOWN = "DELETE FROM fence WHERE enrollment_id = ANY($1::uuid[])"


@dataclass(frozen=True, slots=True)
class Fence:
    """What enrollment demands before it answers: see architecture §4."""

    enrollment_id: UUID
    device_id: UUID
    generation: int
    state: str


@dataclass(frozen=True, slots=True)
class Raised:
    """A fence that was raised; commands with a lower ordinal were asked for before it.

    `shown`: device-state events have caught up with it.
    """

    enrollment_id: UUID
    ordinal: int
    generation: int
    state: str
    shown: bool
    fenced_at: datetime


async def raise_up(tx: Connection, fences: Sequence[Fence], now: datetime) -> set[UUID]:
    """Record fences, one an enrollment; return the enrollments for which that was news."""
    rows = await tx.fetch(RAISE, *_columns(fences), now)
    news = {row["enrollment_id"] for row in rows}
    if news:
        obeyed = [one for one in fences if one.enrollment_id in news]
        await tx.execute(OBEY, *_columns(obeyed))
        await devices.look_closer(tx, {one.device_id for one in obeyed})
    return news


async def of_devices(tx: Connection, device_ids: Sequence[UUID]) -> dict[UUID, Raised]:
    """Return the fences of these devices' enrollments, by enrollment."""
    rows = await tx.fetch(OF_DEVICES, device_ids)
    return {row["enrollment_id"]: Raised(**row) for row in rows}


async def show(tx: Connection, enrollments: Collection[UUID]) -> None:
    """Note that device-state has caught up with these enrollments' fences."""
    await tx.execute(SHOW, list(enrollments))


async def take_down(tx: Connection, enrollments: Collection[UUID]) -> None:
    """Forget fences whose reason never came to pass."""
    await tx.execute(TAKE_DOWN, list(enrollments))


def _columns(fences: Sequence[Fence]) -> list[list[Any]]:
    return [[getattr(one, name) for one in fences] for name in Fence.__dataclass_fields__]


async def unasked(tx: Connection, enrollments: Sequence[UUID], after: UUID) -> set[UUID]:
    """Those that end now although nobody asked, by a command above `after`, for what ends them."""
    return {row["enrollment_id"] for row in await tx.fetch(UNASKED, enrollments, after)}
