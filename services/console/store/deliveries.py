"""Deliveries of events to webhooks: made once, claimed with a lease, kept for a while."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from services.console.store.webhooks import IS_ALARM
from shared.db.pool import Connection, Pool

ADD = """
INSERT INTO delivery (delivery_id, webhook_id, event_id, event_type, subject, body, made_at,
                      next_at)
SELECT delivery_id, webhook_id, event_id, event_type, subject, body, made_at, made_at
FROM unnest($1::uuid[], $2::uuid[], $3::uuid[], $4::text[], $5::text[], $6::text[],
            $7::timestamptz[])
    AS new (delivery_id, webhook_id, event_id, event_type, subject, body, made_at)
ON CONFLICT (webhook_id, event_id) DO NOTHING
"""
# What was switched off is told of alarms for a while more, and of nothing else.
_TOLD: Final = f"(w.enabled OR w.alarms_until > {{0}} AND d.event_type IN ({IS_ALARM}))"
IN_GROUP = """
SELECT device_id FROM device WHERE device_id = ANY($1::uuid[]) AND groups @> ARRAY[$2::uuid]
"""
DUE = f"""
SELECT w.webhook_id FROM webhook w
WHERE w.rests_until <= $1 AND EXISTS (
    SELECT FROM delivery d
    WHERE d.webhook_id = w.webhook_id AND d.state = 'waiting' AND d.next_at <= $1
      AND {_TOLD.format("$1")})
"""
# Another worker's claim is passed by, not waited for.
CLAIM = f"""
UPDATE delivery SET attempts = attempts + 1, next_at = $3
WHERE delivery_id = (
    SELECT d.delivery_id FROM delivery d JOIN webhook w USING (webhook_id)
    WHERE d.webhook_id = $1 AND d.state = 'waiting' AND d.next_at <= $2
      AND w.rests_until <= $2 AND {_TOLD.format("$2")}
    ORDER BY d.next_at, d.delivery_id LIMIT 1 FOR UPDATE OF d SKIP LOCKED)
RETURNING delivery_id, event_id, body, attempts
"""
DELIVERED = """
UPDATE delivery SET state = 'delivered', last_at = $2, last_result = $3
WHERE delivery_id = $1 AND state = 'waiting'
"""
FAILED = """
UPDATE delivery SET state = $4, next_at = $5, last_at = $2, last_result = $3
WHERE delivery_id = $1 AND state = 'waiting'
"""
WELL = """
UPDATE webhook SET failures = 0, rests_until = '-infinity' WHERE webhook_id = $1 AND failures > 0
"""
ILL = """
UPDATE webhook SET failures = failures + 1,
    rests_until = $2::timestamptz
        + least(interval '5 minutes', interval '1 second' * 2 ^ least(failures, 10))
WHERE webhook_id = $1
"""
PAGE = """
SELECT delivery_id, event_id, event_type, subject, state, attempts, made_at, next_at, last_at,
       last_result
FROM delivery
WHERE webhook_id = $1 AND ($2::text IS NULL OR state = $2)
  AND ($3::uuid IS NULL OR delivery_id < $3)
ORDER BY delivery_id DESC LIMIT $4
"""
AGAIN = """
UPDATE delivery SET state = 'waiting', attempts = 0, next_at = $3
WHERE webhook_id = $1 AND delivery_id = $2 AND state <> 'waiting' RETURNING true
"""
AGAIN_DEAD = """
UPDATE delivery SET state = 'waiting', attempts = 0, next_at = $2
WHERE webhook_id = $1 AND state = 'dead'
"""
SWEEP = """
DELETE FROM delivery WHERE delivery_id IN (
    SELECT delivery_id FROM delivery
    WHERE state <> 'waiting' AND made_at <= $1 AND (state <> 'dead' OR made_at <= $2)
    LIMIT 1000)
RETURNING true
"""


@dataclass(frozen=True)
class Claimed:
    """To be sent now; `attempts` counts this one."""

    delivery_id: UUID
    event_id: UUID
    body: str
    attempts: int


@dataclass(frozen=True)
class Delivery:
    """As the log shows it."""

    delivery_id: UUID
    event_id: UUID
    event_type: str
    subject: str
    state: str
    attempts: int
    made_at: datetime
    next_at: datetime
    last_at: datetime | None
    last_result: str | None


async def add(tx: Connection, rows: Sequence[tuple[Any, ...]]) -> None:
    """Delivery, webhook, event, type, subject, body, time; an event is told a webhook once."""
    await tx.execute(ADD, *zip(*rows, strict=True))


async def in_group(tx: Connection, devices: list[UUID], group_id: UUID) -> set[UUID]:
    """Those of the devices that are in the group."""
    return {row["device_id"] for row in await tx.fetch(IN_GROUP, devices, group_id)}


async def due(pool: Pool, now: datetime) -> list[UUID]:
    """Webhooks that have something to be told now."""
    return [row["webhook_id"] for row in await pool.fetch(DUE, now)]


async def claim(pool: Pool, webhook_id: UUID, now: datetime, lease: datetime) -> Claimed | None:
    """The next one; nobody else claims it before the lease is over."""
    row = await pool.fetchrow(CLAIM, webhook_id, now, lease)
    return Claimed(**dict(row)) if row else None


async def delivered(
    tx: Connection, webhook_id: UUID, delivery_id: UUID, now: datetime, result: str
) -> None:
    await tx.execute(DELIVERED, delivery_id, now, result)
    await tx.execute(WELL, webhook_id)


async def failed(
    tx: Connection,
    webhook_id: UUID,
    delivery_id: UUID,
    now: datetime,
    result: str,
    next_at: datetime | None,
) -> None:
    """It is tried again then, or is dead; the webhook rests a while, longer each time."""
    state = "waiting" if next_at else "dead"
    await tx.execute(FAILED, delivery_id, now, result, state, next_at or now)
    await tx.execute(ILL, webhook_id, now)


async def page(
    pool: Pool, webhook_id: UUID, state: str | None, before: UUID | None, limit: int
) -> list[Delivery]:
    """At most `limit` older than `before`, newest first."""
    found = await pool.fetch(PAGE, webhook_id, state, before, limit)
    return [Delivery(**dict(row)) for row in found]


async def again(tx: Connection, webhook_id: UUID, delivery_id: UUID, now: datetime) -> bool:
    """False: there is none, or it waits already."""
    return bool(await tx.fetchval(AGAIN, webhook_id, delivery_id, now))


async def again_dead(tx: Connection, webhook_id: UUID, now: datetime) -> None:
    await tx.execute(AGAIN_DEAD, webhook_id, now)


async def sweep(pool: Pool, delivered_before: datetime, dead_before: datetime) -> int:
    """Forget at most a thousand that are over."""
    return len(await pool.fetch(SWEEP, delivered_before, dead_before))
