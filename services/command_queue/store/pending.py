"""Open work: what waits for a channel, and what was handed out and not answered."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final, NamedTuple
from uuid import UUID

from shared.db.pool import Connection

# Whether a pending row `p` of command `c` may be handed out now ($2) to channel `h` of enrollment
# `e`: the one rule, read where it is asked who has work and again where work is handed out.
SERVABLE: Final = """
    c.state = 'active' AND c.expires_at > $2
    AND e.state = 'enrolled' AND e.generation = p.generation AND h.open
    AND NOT EXISTS (
        SELECT FROM command_freeze AS f
        WHERE f.lifted_at IS NULL
          AND (f.command_class IS NULL OR f.command_class = c.command_class)
          AND (f.before IS NULL OR c.created_at < f.before)
    )
"""

# Freeze, cancel and fence take this lock exclusively: when they have it, no claim is half done,
# and every later claim reads what they wrote.
# Claims share it, and take it with BEGIN, before they wait for any device's row.
SHARE_CLAIMS = "SELECT pg_advisory_xact_lock_shared(hashtext('muster_claims'))"
STOP_CLAIMS = "SELECT pg_advisory_xact_lock(hashtext('muster_claims'))"

CLAIM = f"""
WITH asked AS (
    SELECT * FROM unnest($1::uuid[], $3::uuid[], $4::bool[])
                  AS asked (device_id, channel_id, deferred_too)
), next AS MATERIALIZED (
    SELECT first.*
    FROM asked CROSS JOIN LATERAL (
        SELECT p.device_id, p.channel_id, p.priority, p.seq, p.command_id, h.unlock_token
        FROM pending AS p
        CROSS JOIN LATERAL (
            SELECT * FROM command WHERE command.command_id = p.command_id OFFSET 0
        ) AS c
        CROSS JOIN LATERAL (
            SELECT * FROM enrollment WHERE enrollment.enrollment_id = p.enrollment_id OFFSET 0
        ) AS e
        JOIN channel AS h ON h.channel_id = p.channel_id
        WHERE p.device_id = asked.device_id AND p.channel_id = asked.channel_id
          AND (p.state IN ('queued', 'sent') OR p.state = 'deferred' AND asked.deferred_too)
          AND {SERVABLE}
        ORDER BY p.priority DESC, p.seq LIMIT 1
    ) AS first
)
UPDATE pending AS p
SET state = 'sent', deliveries = p.deliveries + 1, sent_at = $2
FROM next JOIN command AS c ON c.command_id = next.command_id
WHERE p.device_id = next.device_id AND p.channel_id = next.channel_id
  AND p.priority = next.priority AND p.seq = next.seq AND p.state IN ('queued', 'sent', 'deferred')
RETURNING p.channel_id, p.command_id, p.device_id, p.deliveries, c.kind, c.request_type,
          c.command_class, c.secret, coalesce(p.body, c.body) AS body, next.unlock_token,
          c.traceparent
"""

# Targets named by their command: it knows where in the queue that is.
_NAMED: Final = """
unnest($1::uuid[], $2::uuid[], $3::uuid[]) AS named (device_id, channel_id, command_id)
CROSS JOIN LATERAL (
    SELECT priority, ordinal, expires_at FROM command
    WHERE command.command_id = named.command_id OFFSET 0
) AS c
"""
_IS_NAMED: Final = """
p.device_id = named.device_id AND p.channel_id = named.channel_id AND p.priority = c.priority
AND p.seq = c.ordinal
"""

# The same NotNow twice (a retry, a replay) changes nothing: the row is deferred already.
DEFER = f"""
UPDATE pending AS p SET state = 'deferred', deferrals = p.deferrals + 1, push_wanted = false
FROM {_NAMED}
WHERE {_IS_NAMED} AND p.state = 'sent' AND c.expires_at > $4
RETURNING p.device_id, p.channel_id, p.command_id
"""

WANT_PUSH = """
UPDATE pending AS p SET push_wanted = true
FROM unnest($1::uuid[], $2::uuid[]) AS forgotten (device_id, channel_id)
WHERE p.device_id = forgotten.device_id AND p.channel_id = forgotten.channel_id
  AND p.state = 'deferred' AND NOT p.push_wanted
RETURNING p.device_id, p.channel_id, p.command_id
"""

DEFERRED_AMONG = f"""
SELECT p.device_id, p.channel_id, p.command_id FROM {_NAMED} JOIN pending AS p ON {_IS_NAMED}
WHERE p.state = 'deferred'
"""

IN_DOUBT = """
SELECT asked.enrollment_id, first.*
FROM unnest($1::uuid[]) AS asked (enrollment_id) CROSS JOIN LATERAL (
    SELECT p.device_id, p.channel_id, p.command_id
    FROM channel AS h
    JOIN pending AS p ON p.device_id = h.device_id AND p.channel_id = h.channel_id
    WHERE h.enrollment_id = asked.enrollment_id AND p.state IN ('sent', 'cancel_requested')
    ORDER BY h.kind = 'device' DESC, p.sent_at DESC LIMIT 1
) AS first
"""

MEASURE = """
SELECT state, count(*) AS targets, min(queued_at) AS oldest FROM pending GROUP BY state
"""
COUNT_UNEXPANDED = "SELECT coalesce(sum(size), 0) FROM target"

ADD = """
INSERT INTO pending (
    channel_id, command_id, device_id, enrollment_id, generation, priority, seq, state, queued_at,
    body
)
SELECT * FROM unnest(
    $1::uuid[], $2::uuid[], $3::uuid[], $4::uuid[], $5::int[], $6::smallint[], $7::bigint[],
    $8::text[], $9::timestamptz[], $10::bytea[]
)
"""

_OPEN = "SELECT channel_id, command_id, device_id, enrollment_id, generation, state FROM pending"
OF_DEVICES = f"{_OPEN} WHERE device_id = ANY($1::uuid[])"
OF_COMMANDS = f"""
{_OPEN} WHERE command_id = ANY($1::uuid[]) AND state = ANY($2::text[])
LIMIT $3
"""
REQUEST_CANCEL = f"""
UPDATE pending AS p SET state = 'cancel_requested'
FROM {_NAMED}
WHERE {_IS_NAMED} AND p.state = 'sent'
"""


class New(NamedTuple):
    """A row to be added, its fields in the order of ADD."""

    channel_id: UUID
    command_id: UUID
    device_id: UUID
    enrollment_id: UUID
    generation: int
    priority: int
    seq: int
    state: str
    queued_at: datetime
    body: bytes | None


@dataclass(frozen=True, slots=True)
class Open:
    """A target that has no outcome yet."""

    device_id: UUID
    channel_id: UUID
    command_id: UUID
    enrollment_id: UUID
    generation: int
    state: str

    @property
    def key(self) -> Key:
        return Key(self.device_id, self.channel_id, self.command_id)


@dataclass(frozen=True, slots=True)
class Claimed:
    """A command that was handed to its device: this is the answer's last chance to fail."""

    channel_id: UUID
    command_id: UUID
    device_id: UUID
    deliveries: int
    kind: str
    request_type: str
    command_class: str
    secret: bool
    body: bytes
    unlock_token: str | None
    traceparent: str | None


class Key(NamedTuple):
    """One target of one command."""

    device_id: UUID
    channel_id: UUID
    command_id: UUID


async def stop_claims(tx: Connection) -> None:
    """Wait until claims in progress have ended and keep new ones out until this commits."""
    await tx.execute(STOP_CLAIMS)


async def claim(
    tx: Connection, wanted: Sequence[tuple[UUID, UUID, bool]], now: datetime
) -> dict[UUID, Claimed]:
    """Hand out the next command of each (device, channel), by channel; the flag lets deferred ones
    count.

    A command that is `sent` already is handed out again: its answer never came.
    """
    devices, channels, deferred_too = zip(*wanted, strict=True)
    rows = await tx.fetch(CLAIM, devices, now, channels, deferred_too)
    return {row["channel_id"]: Claimed(**row) for row in rows}


async def defer(tx: Connection, refused: Collection[Key], now: datetime) -> set[Key]:
    """Note NotNow for these targets; return those that were out and still have time."""
    return {Key(*row) for row in await tx.fetch(DEFER, *zip(*refused, strict=True), now)}


async def want_push(tx: Connection, forgotten: Collection[tuple[UUID, UUID]]) -> list[Key]:
    """Note that deferred commands of these (device, channel) pairs need a push; return those that
    were not noted before.
    """
    return [Key(*row) for row in await tx.fetch(WANT_PUSH, *zip(*forgotten, strict=True))]


async def deferred_among(tx: Connection, targets: Collection[Key]) -> set[Key]:
    """Return which of these targets are deferred already."""
    return {Key(*row) for row in await tx.fetch(DEFERRED_AMONG, *zip(*targets, strict=True))}


async def in_doubt(tx: Connection, enrollments: Sequence[UUID]) -> dict[UUID, Key]:
    """Return what each enrollment was handed and has not answered."""
    rows = await tx.fetch(IN_DOUBT, enrollments)
    return {row["enrollment_id"]: Key(*row[1:]) for row in rows}


async def add(tx: Connection, rows: Sequence[New]) -> None:
    """Add open work; the devices' rows are locked."""
    await tx.execute(ADD, *zip(*rows, strict=True))


async def of_devices(tx: Connection, devices: Collection[UUID]) -> list[Open]:
    return [Open(**row) for row in await tx.fetch(OF_DEVICES, list(devices))]


async def of_commands(
    tx: Connection, commands: Collection[UUID], states: Collection[str], limit: int
) -> list[Open]:
    """Return open targets of these commands in the given states, at most `limit`."""
    rows = await tx.fetch(OF_COMMANDS, list(commands), list(states), limit)
    return [Open(**row) for row in rows]


async def request_cancel(tx: Connection, targets: Collection[Key]) -> None:
    """Mark targets that are out: too late to recall, the outcome is awaited."""
    await tx.execute(REQUEST_CANCEL, *zip(*targets, strict=True))


async def measure(tx: Connection) -> list[tuple[str, int, datetime]]:
    """Count the open targets of each state and find their oldest; reads the whole table."""
    rows = await tx.fetch(MEASURE)
    return [(row["state"], row["targets"], row["oldest"]) for row in rows]


async def count_unexpanded(tx: Connection) -> int:
    return int(await tx.fetchval(COUNT_UNEXPANDED))
