"""Channels: what waits for them, when to wake them, and whether their token lives."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from shared.db.pool import Connection
from shared.runtime.http import Reach

NEWER_DEVICES = """
UPDATE device SET sequence = news.sequence
FROM unnest($1::uuid[], $2::bigint[]) AS news (device_id, sequence)
WHERE device.device_id = news.device_id AND device.sequence < news.sequence
RETURNING device.device_id
"""

CLOSE_OTHERS = """
UPDATE channel SET open = false, next_push_at = NULL, waiting_since = NULL, traceparent = NULL
WHERE device_id = ANY($1::uuid[]) AND open AND channel_id <> ALL($2::uuid[])
"""

REPLACE_CHANNELS = """
INSERT INTO channel (channel_id, device_id, open, topic, push, push_updated_at)
SELECT * FROM unnest($1::uuid[], $2::uuid[], $3::bool[], $4::text[], $5::text[], $6::timestamptz[])
ON CONFLICT (channel_id) DO UPDATE SET
    open = excluded.open,
    topic = excluded.topic,
    push = excluded.push,
    push_updated_at = excluded.push_updated_at,
    dead_at = CASE WHEN excluded.push_updated_at > channel.push_updated_at
                   THEN NULL ELSE channel.dead_at END,
    next_push_at = CASE WHEN channel.waiting_since IS NOT NULL AND excluded.open
                         AND excluded.push_updated_at > channel.push_updated_at
                        THEN now() ELSE channel.next_push_at END
"""

WORK_WAITS = """
INSERT INTO channel
    (channel_id, device_id, waiting_since, next_push_at, traceparent, queued_sequence)
SELECT channel_id, device_id, now(), now(), traceparent, sequence
FROM unnest($1::uuid[], $2::uuid[], $3::text[], $4::bigint[])
  AS work (channel_id, device_id, traceparent, sequence)
ON CONFLICT (channel_id) DO UPDATE SET
    waiting_since = coalesce(channel.waiting_since, excluded.waiting_since),
    next_push_at = CASE WHEN channel.waiting_since IS NULL THEN excluded.next_push_at
                        ELSE coalesce(channel.next_push_at, excluded.next_push_at) END,
    traceparent = coalesce(channel.traceparent, excluded.traceparent),
    queued_sequence = greatest(channel.queued_sequence, excluded.queued_sequence)
    WHERE channel.emptied_sequence < excluded.queued_sequence
"""

NOT_NOW = """
UPDATE channel SET waiting_since = coalesce(waiting_since, now()),
                   next_push_at = now() + $2::interval
WHERE channel_id = ANY($1::uuid[])
"""

# `before` is for what is measured only: a claim beside this may have moved the row on.
ANSWERED = """
UPDATE channel SET
    attempts = CASE WHEN news.answered THEN 0 ELSE channel.attempts END,
    waiting_since = CASE WHEN news.queue_empty THEN NULL ELSE channel.waiting_since END,
    next_push_at = CASE WHEN news.queue_empty THEN NULL
                        WHEN news.answered AND channel.waiting_since IS NOT NULL
                        THEN now() + $6::interval
                        ELSE channel.next_push_at END,
    traceparent = CASE WHEN news.queue_empty THEN NULL ELSE channel.traceparent END,
    emptied_sequence = CASE WHEN news.queue_empty THEN news.sequence
                            ELSE channel.emptied_sequence END
FROM unnest($1::uuid[], $2::uuid[], $3::bool[], $4::bool[], $5::bigint[])
  AS news (channel_id, device_id, answered, queue_empty, sequence)
JOIN channel AS before USING (channel_id)
WHERE channel.channel_id = news.channel_id AND channel.queued_sequence < news.sequence
RETURNING channel.channel_id, before.attempts, before.last_push_at
"""

# A channel heard of first when its queue was empty again: what is told late must not wake it.
EMPTIED = """
INSERT INTO channel (channel_id, device_id, emptied_sequence)
SELECT channel_id, device_id, sequence
FROM unnest($1::uuid[], $2::uuid[], $3::bool[], $4::bool[], $5::bigint[])
  AS news (channel_id, device_id, answered, queue_empty, sequence)
WHERE queue_empty
ON CONFLICT (channel_id) DO NOTHING
"""

WAKE_DEVICE = """
UPDATE channel SET waiting_since = coalesce(waiting_since, now()), next_push_at = now()
WHERE device_id = $1 AND open
RETURNING channel_id
"""

# Topics first, by steps through the index, and of each only what waits longest: behind a refused
# certificate the whole fleet may be due, and a look must not read it. Topics are few.
_DUE = "next_push_at IS NOT NULL AND open AND dead_at IS NULL AND push IS NOT NULL"
CLAIM_DUE = f"""
WITH RECURSIVE topics AS (
    (SELECT topic FROM channel WHERE {_DUE} ORDER BY topic LIMIT 1)
    UNION ALL
    SELECT (SELECT channel.topic FROM channel
            WHERE {_DUE} AND channel.topic > topics.topic ORDER BY channel.topic LIMIT 1)
    FROM topics WHERE topic IS NOT NULL
), due AS (
    SELECT oldest.* FROM topics CROSS JOIN LATERAL (
        SELECT channel_id, next_push_at FROM channel
        WHERE channel.topic = topics.topic AND next_push_at <= $1 AND {_DUE}
        ORDER BY next_push_at LIMIT $3
        FOR UPDATE SKIP LOCKED
    ) AS oldest
    WHERE NOT EXISTS (SELECT FROM circuit WHERE circuit.topic = topics.topic AND open_until > $1)
    ORDER BY next_push_at LIMIT $3
)
UPDATE channel SET next_push_at = $1::timestamptz + $2::interval, attempts = attempts + 1
FROM due WHERE channel.channel_id = due.channel_id
RETURNING channel.channel_id, device_id, topic, push, push_updated_at, waiting_since, attempts,
          channel.next_push_at AS leased_until, traceparent
"""

# What was heard while the push was on its way (another token, an answer, new work) has said when
# the next one is due, and it stands: the plan made here is for a channel that nobody moved.
SETTLE = """
UPDATE channel SET
    last_push_at = CASE WHEN news.push_id <> '' THEN $6 ELSE channel.last_push_at END,
    last_push_id = CASE WHEN news.push_id <> '' THEN news.push_id ELSE channel.last_push_id END,
    dead_at = CASE WHEN news.dead_reason <> ''
                    AND news.token_since IS NOT DISTINCT FROM channel.push_updated_at
                   THEN $6 ELSE channel.dead_at END,
    dead_reason = coalesce(nullif(news.dead_reason, ''), channel.dead_reason),
    next_push_at = CASE WHEN channel.next_push_at = news.leased_until THEN news.next_push_at
                        ELSE channel.next_push_at END
FROM unnest($1::uuid[], $2::text[], $3::text[], $4::timestamptz[], $5::timestamptz[],
            $7::timestamptz[])
  AS news (channel_id, push_id, dead_reason, token_since, next_push_at, leased_until)
WHERE channel.channel_id = news.channel_id
"""

WITHIN = """
SELECT $2::uuid[] IS NULL OR EXISTS (SELECT FROM device WHERE device_id = $1 AND groups && $2)
"""

OF_DEVICE = """
SELECT channel_id, open, topic, push_updated_at, dead_at, dead_reason, waiting_since, next_push_at,
       attempts, last_push_at, last_push_id
FROM channel WHERE device_id = $1 ORDER BY channel_id
"""


@dataclass(frozen=True)
class PushChannel:
    """What a device-state event says of one channel."""

    channel_id: UUID
    device_id: UUID
    open: bool
    topic: str | None
    push: str | None
    push_updated_at: datetime | None


@dataclass(frozen=True)
class Due:
    """A channel claimed for one push."""

    channel_id: UUID
    device_id: UUID
    topic: str
    push: str
    push_updated_at: datetime | None
    waiting_since: datetime | None
    attempts: int
    leased_until: datetime
    traceparent: str | None


@dataclass(frozen=True)
class Woken:
    """A channel as it was when the device spoke: pushes since it last did, and the last of them."""

    channel_id: UUID
    attempts: int
    last_push_at: datetime | None


@dataclass(frozen=True)
class Settled:
    """How one push ended. `next_push_at` None: do not push again until something changes."""

    channel_id: UUID
    leased_until: datetime
    push_id: str
    dead_reason: str
    token_since: datetime | None
    next_push_at: datetime | None


async def newer(tx: Connection, sequences: dict[UUID, int]) -> set[UUID]:
    """Which devices this news is newer for; their guard is raised."""
    rows = await tx.fetch(NEWER_DEVICES, list(sequences), list(sequences.values()))
    return {row["device_id"] for row in rows}


async def replace(tx: Connection, devices: Sequence[UUID], channels: Sequence[PushChannel]) -> None:
    """Make the channels of these devices exactly these."""
    await tx.execute(CLOSE_OTHERS, list(devices), [c.channel_id for c in channels if c.open])
    await tx.execute(
        REPLACE_CHANNELS,
        [c.channel_id for c in channels],
        [c.device_id for c in channels],
        [c.open for c in channels],
        [c.topic for c in channels],
        [c.push for c in channels],
        [c.push_updated_at for c in channels],
    )


async def work_waits(
    tx: Connection, channels: Sequence[tuple[UUID, UUID, str | None, int]]
) -> None:
    """(channel, device, trace, sequence): due now, unless a push for earlier work is unanswered
    yet, or the queue was emptied since.
    """
    await tx.execute(WORK_WAITS, *([one[n] for one in channels] for n in range(4)))


async def not_now(tx: Connection, channels: Sequence[UUID], wait: timedelta) -> None:
    await tx.execute(NOT_NOW, list(channels), wait)


async def answered(
    tx: Connection, news: Sequence[tuple[UUID, UUID, bool, bool, int]], wait: timedelta
) -> dict[UUID, Woken]:
    """(channel, device, the device itself spoke, its queue is empty, sequence): stop or restart the
    schedule, unless work was queued since.

    Returns the channels as they were before.
    """
    rows = await tx.fetch(ANSWERED, *([one[n] for one in news] for n in range(5)), wait)
    before = {row["channel_id"]: Woken(**row) for row in rows}
    if unheard := [one for one in news if one[0] not in before]:
        await tx.execute(EMPTIED, *([one[n] for one in unheard] for n in range(5)))
    return before


async def wake_device(tx: Connection, device_id: UUID) -> int:
    return len(await tx.fetch(WAKE_DEVICE, device_id))


async def claim_due(tx: Connection, now: datetime, lease: timedelta, limit: int) -> list[Due]:
    """Take channels to push; who crashes holding them gives them back after `lease`."""
    return [Due(**row) for row in await tx.fetch(CLAIM_DUE, now, lease, limit)]


async def settle(tx: Connection, results: Sequence[Settled], now: datetime) -> None:
    await tx.execute(
        SETTLE,
        [r.channel_id for r in results],
        [r.push_id for r in results],
        [r.dead_reason for r in results],
        [r.token_since for r in results],
        [r.next_push_at for r in results],
        now,
        [r.leased_until for r in results],
    )


async def within(tx: Connection, device_id: UUID, reach: Reach) -> bool:
    """Whether somebody with these groups may see the device, should there be one."""
    return bool(await tx.fetchval(WITHIN, device_id, reach))


async def of_device(tx: Connection, device_id: UUID) -> list[dict[str, object]]:
    return [dict(row) for row in await tx.fetch(OF_DEVICE, device_id)]
