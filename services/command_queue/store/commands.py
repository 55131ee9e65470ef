"""Commands: what was asked, by whom, and how far it is."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID

from shared.db.pool import Connection, Record
from shared.runtime.http import Reach

# A key that is taken keeps its command: what would repeat it is left out.
ADD = """
WITH asked AS (
    SELECT * FROM unnest(
        $1::uuid[], $2::text[], $3::text[], $4::text[], $5::text[], $6::bytea[], $7::bool[],
        $8::jsonb[], $9::text[], $10::bytea[], $11::text[], $12::text[], $13::text[], $14::text[],
        $15::text[], $16::smallint[], $17::int[], $18::timestamptz[], $19::timestamptz[],
        $20::text[], $21::text[], $22::text[]
    ) AS asked (
        command_id, kind, request_type, section, command_class, body, secret, summary,
        profile_identifier, digest, actor, reason, idempotency_key, state, hold_reason, priority,
        target_count, created_at, expires_at, correlation_id, traceparent, reach
    )
), fresh AS (
    INSERT INTO request_key (actor, idempotency_key, command_id, digest)
    SELECT actor, idempotency_key, command_id, digest FROM asked
    ORDER BY actor, idempotency_key
    ON CONFLICT DO NOTHING RETURNING command_id
)
INSERT INTO command (
    command_id, kind, request_type, section, command_class, body, secret, summary,
    profile_identifier, actor, reason, state, hold_reason, priority, target_count, created_at,
    expires_at, correlation_id, traceparent, reach, sweep_at
)
SELECT command_id, kind, request_type, section, command_class, body, secret, summary,
       profile_identifier, actor, reason, state, hold_reason, priority, target_count, created_at,
       expires_at, correlation_id, traceparent, reach::uuid[],
       least(expires_at, created_at + $23::interval)
FROM asked JOIN fresh USING (command_id)
RETURNING command_id, ordinal
"""

FIND_BY_KEY = """
SELECT k.command_id, k.actor, k.idempotency_key, k.digest, c.state, c.command_class,
       c.hold_reason, c.target_count, c.created_at, c.expires_at
FROM unnest($1::text[], $2::text[]) AS asked (actor, idempotency_key)
CROSS JOIN LATERAL (
    SELECT * FROM request_key AS taken
    WHERE taken.actor = asked.actor AND taken.idempotency_key = asked.idempotency_key OFFSET 0
) AS k
LEFT JOIN LATERAL (SELECT * FROM command WHERE command.command_id = k.command_id OFFSET 0) AS c
     ON true
"""
# Asked only for keys of commands that are over: every other request is spared the partitions.
FIND_PAST = """
SELECT command_id, state, command_class, hold_reason, target_count, created_at, expires_at
FROM past_command
WHERE command_id = ANY($1::uuid[]) AND command_id BETWEEN $2 AND $3
"""
# The limit keeps each statement short: a busy day's keys are many.
FORGET_KEYS = """
DELETE FROM request_key WHERE command_id IN (
    SELECT command_id FROM request_key WHERE command_id < $1 ORDER BY command_id LIMIT $2
)
RETURNING command_id
"""

# Who has rights on some groups sees what was asked for within these groups, and nothing wider.
GET = """
SELECT * FROM any_command WHERE command_id = $1 AND ($2::uuid[] IS NULL OR reach <@ $2)
"""
PROGRESS = """
SELECT state, count(*) AS targets FROM (
    SELECT state FROM pending WHERE command_id = $1
    UNION ALL SELECT state FROM outcome WHERE command_id = $1
    UNION ALL SELECT 'waiting' FROM waiting WHERE command_id = $1
) AS target GROUP BY state
"""
UNEXPANDED = """
SELECT (SELECT sum(size) FROM target WHERE command_id = $1) AS unexpanded,
       (SELECT sum(size) FROM parked WHERE command_id = $1) AS parked
"""

# A device that has left their groups since is left out of what they see.
_WITHIN: Final = """
($4::uuid[] IS NULL OR EXISTS (
    SELECT FROM device_scope AS s WHERE s.device_id = {0}.device_id AND s.groups && $4))
"""
TARGETS = f"""
SELECT * FROM (
    (SELECT channel_id AS target_id, device_id, state, NULL AS reason, NULL::jsonb AS errors,
            NULL::jsonb AS answer, deliveries, deferrals, queued_at, sent_at,
            NULL::timestamptz AS finished_at
     FROM pending WHERE command_id = $1 AND ($2::uuid IS NULL OR channel_id > $2)
       AND {_WITHIN.format("pending")}
     ORDER BY channel_id LIMIT $3)
    UNION ALL
    (SELECT channel_id, device_id, state, reason, errors, answer, deliveries, deferrals,
            queued_at, NULL, finished_at
     FROM outcome WHERE command_id = $1 AND ($2::uuid IS NULL OR channel_id > $2)
       AND {_WITHIN.format("outcome")}
     ORDER BY channel_id LIMIT $3)
    UNION ALL
    (SELECT target_id, device_id, 'waiting', NULL, NULL, NULL, 0, 0, NULL, NULL, NULL
     FROM waiting WHERE command_id = $1 AND ($2::uuid IS NULL OR target_id > $2)
       AND {_WITHIN.format("waiting")}
     ORDER BY target_id LIMIT $3)
) AS target
ORDER BY target_id LIMIT $3
"""

QUEUE_OF_DEVICE = """
SELECT p.command_id, p.channel_id, p.state, p.deliveries, p.deferrals, p.queued_at, p.sent_at,
       c.kind, c.command_class, c.actor, c.state AS command_state, c.expires_at
FROM pending AS p JOIN command AS c ON c.command_id = p.command_id
WHERE p.device_id = $1
ORDER BY p.channel_id, p.priority DESC, p.seq LIMIT $2
"""
HISTORY_OF_DEVICE = """
SELECT o.command_id, o.channel_id, o.state, o.reason, o.errors, o.deliveries, o.deferrals,
       o.queued_at, o.finished_at, c.kind, c.command_class, c.actor
FROM (
    SELECT * FROM outcome WHERE device_id = $1 AND command_id < $2
    ORDER BY command_id DESC LIMIT $3
) AS o LEFT JOIN any_command AS c ON c.command_id = o.command_id
ORDER BY o.command_id DESC
"""

CANCEL = """
UPDATE command
SET state = 'cancelled', ended_at = $2, ended_by = $3, end_reason = $4, sweep_at = $2
WHERE command_id = $1 AND state IN ('active', 'held')
RETURNING command_id
"""

CANCELLED_AMONG = """
SELECT command_id FROM command WHERE command_id = ANY($1::uuid[]) AND state = 'cancelled'
"""

# Nothing of it is open any more: what was active has run its course, and all of it is history.
FINISH = """
WITH done AS (
    DELETE FROM command AS c
    WHERE c.command_id IN (
        SELECT due.command_id FROM command AS due
        WHERE due.sweep_at <= $1
          AND NOT EXISTS (SELECT FROM pending AS p WHERE p.command_id = due.command_id)
          AND NOT EXISTS (SELECT FROM target AS t WHERE t.command_id = due.command_id)
          AND NOT EXISTS (SELECT FROM waiting AS w WHERE w.command_id = due.command_id)
          AND NOT EXISTS (SELECT FROM parked AS k WHERE k.command_id = due.command_id)
        ORDER BY due.sweep_at LIMIT $2 FOR UPDATE SKIP LOCKED
    )
    RETURNING *
)
INSERT INTO past_command (
    command_id, kind, request_type, section, command_class, summary, actor, reason, state,
    hold_reason, priority, target_count, created_at, expires_at, ended_at, ended_by, end_reason,
    correlation_id, reach
)
SELECT command_id, kind, request_type, section, command_class, summary, actor, reason,
       CASE state WHEN 'active' THEN 'finished' WHEN 'held' THEN 'expired' ELSE state END,
       hold_reason, priority, target_count, created_at, expires_at, coalesce(ended_at, $1),
       ended_by, end_reason, correlation_id, reach
FROM done
RETURNING command_id
"""
# Its targets are still at it. Each pause is as long as the command is old: few looks a command.
LOOK_LATER = """
UPDATE command SET sweep_at = least(expires_at, $1 + greatest($2::interval, $1 - created_at))
WHERE command_id IN (
    SELECT command_id FROM command
    WHERE sweep_at <= $1 AND expires_at > $1 AND state IN ('active', 'held')
    ORDER BY sweep_at LIMIT $3 FOR UPDATE SKIP LOCKED
)
RETURNING command_id
"""
EXPIRE = """
UPDATE command SET state = 'expired', ended_at = $1, end_reason = 'not done in time'
WHERE command_id IN (
    SELECT command_id FROM command
    WHERE sweep_at <= $1 AND expires_at <= $1 AND state IN ('active', 'held')
    ORDER BY sweep_at LIMIT $2 FOR UPDATE SKIP LOCKED
)
RETURNING command_id
"""
DUE = """
SELECT command_id, state, end_reason, expires_at FROM command
WHERE sweep_at <= $1 AND state IN ('cancelled', 'expired') ORDER BY sweep_at LIMIT $2
"""
# Only answers are awaited: come back when they are overdue.
POSTPONE = """
UPDATE command AS c SET sweep_at = c.expires_at + $3::interval
WHERE c.command_id = ANY($1::uuid[]) AND c.expires_at + $3::interval > $2
  AND NOT EXISTS (SELECT FROM target AS t WHERE t.command_id = c.command_id)
  AND NOT EXISTS (SELECT FROM waiting AS w WHERE w.command_id = c.command_id)
  AND NOT EXISTS (
      SELECT FROM pending AS p
      WHERE p.command_id = c.command_id AND p.state <> 'cancel_requested'
        AND NOT (p.state = 'sent' AND c.state = 'expired')
  )
"""
_LAST: Final = UUID(int=(1 << 128) - 1)
_FIRST_LOOK: Final = timedelta(minutes=2)


@dataclass(frozen=True, slots=True)
class New:
    """A command to be stored, its fields in the order of ADD."""

    command_id: UUID
    kind: str
    request_type: str
    section: str | None
    command_class: str
    body: bytes | None
    secret: bool
    summary: Mapping[str, Any]
    profile_identifier: str | None
    digest: bytes
    actor: str
    reason: str | None
    idempotency_key: str
    state: str
    hold_reason: str | None
    priority: int
    target_count: int
    created_at: datetime
    expires_at: datetime
    correlation_id: str | None
    traceparent: str | None
    reach: str | None
    """As text: arrays of arrays would all have to be of one length."""

    @property
    def known(self) -> Known:
        """What its idempotency key stands for from now on."""
        return Known(**{name: getattr(self, name) for name in Known.__dataclass_fields__})


@dataclass(frozen=True, slots=True)
class Known:
    """A command that an idempotency key stands for."""

    command_id: UUID
    actor: str
    idempotency_key: str
    digest: bytes
    state: str
    command_class: str
    hold_reason: str | None
    target_count: int
    created_at: datetime
    expires_at: datetime


@dataclass(frozen=True, slots=True)
class Due:
    """A command that the sweeper must look at."""

    command_id: UUID
    state: str
    end_reason: str | None
    expires_at: datetime


async def add(tx: Connection, rows: Sequence[New]) -> dict[UUID, int]:
    """Store commands and return their ordinals; one whose key is taken is left out."""
    columns = [[getattr(row, name) for row in rows] for name in New.__dataclass_fields__]
    added = await tx.fetch(ADD, *columns, _FIRST_LOOK)
    return {row["command_id"]: row["ordinal"] for row in added}


async def find_by_key(
    tx: Connection, keys: Sequence[tuple[str, str]]
) -> dict[tuple[str, str], Known]:
    """Return the commands of (actor, idempotency key) pairs that are taken."""
    rows = await tx.fetch(FIND_BY_KEY, [one[0] for one in keys], [one[1] for one in keys])
    over = sorted(row["command_id"] for row in rows if row["state"] is None)
    past = await tx.fetch(FIND_PAST, over, over[0], over[-1]) if over else []
    found = {row["command_id"]: dict(row) for row in past}
    return {
        (row["actor"], row["idempotency_key"]): Known(
            **(dict(row) | found.get(row["command_id"], {}))
        )
        for row in rows
    }


async def forget_keys(tx: Connection, before: UUID, limit: int) -> int:
    """Forget which requests became commands with ids below `before`."""
    return len(await tx.fetch(FORGET_KEYS, before, limit))


async def get(tx: Connection, command_id: UUID, reach: Reach) -> Record | None:
    return await tx.fetchrow(GET, command_id, reach)


async def progress(tx: Connection, command_id: UUID) -> dict[str, int]:
    """Return how many targets are in each state; `waiting`, `unexpanded` and `parked` (behind a
    canary) are not queued yet.
    """
    counts = {row["state"]: row["targets"] for row in await tx.fetch(PROGRESS, command_id)}
    [others] = await tx.fetch(UNEXPANDED, command_id)
    return counts | {name: count for name, count in others.items() if count}


async def targets(
    tx: Connection, command_id: UUID, reach: Reach, after: UUID | None, limit: int
) -> list[Record]:
    """Return targets in the order of their ids, whatever became of them."""
    return await tx.fetch(TARGETS, command_id, after, limit, reach)


async def queue_of_device(tx: Connection, device_id: UUID, limit: int) -> list[Record]:
    return await tx.fetch(QUEUE_OF_DEVICE, device_id, limit)


async def history_of_device(
    tx: Connection, device_id: UUID, before: UUID | None, limit: int
) -> list[Record]:
    return await tx.fetch(HISTORY_OF_DEVICE, device_id, before or _LAST, limit)


async def cancel(
    tx: Connection, command_id: UUID, now: datetime, actor: str, reason: str | None
) -> bool:
    """Take back a command; False when it had ended before. Claims must be stopped."""
    return await tx.fetchval(CANCEL, command_id, now, actor, reason) is not None


async def cancelled_among(tx: Connection, command_ids: Collection[UUID]) -> set[UUID]:
    """Those of these commands that somebody took back."""
    rows = await tx.fetch(CANCELLED_AMONG, list(command_ids))
    return {row["command_id"] for row in rows}


async def finish(tx: Connection, now: datetime, limit: int) -> int:
    """Make history of commands that have nothing open; return how many."""
    return len(await tx.fetch(FINISH, now, limit))


async def look_later(tx: Connection, now: datetime, limit: int) -> int:
    """Have the sweeper come back later to commands whose targets take their time."""
    return len(await tx.fetch(LOOK_LATER, now, _FIRST_LOOK, limit))


async def expire(tx: Connection, now: datetime, limit: int) -> list[UUID]:
    return [row["command_id"] for row in await tx.fetch(EXPIRE, now, limit)]


async def due(tx: Connection, now: datetime, limit: int) -> list[Due]:
    return [Due(**row) for row in await tx.fetch(DUE, now, limit)]


async def postpone(
    tx: Connection, due: Collection[UUID], now: datetime, patience: timedelta
) -> None:
    """Have the sweeper come back later to commands of which only answers are awaited."""
    await tx.execute(POSTPONE, list(due), now, patience)
