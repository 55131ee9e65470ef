"""The one outcome of each target of each command."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from shared.db.pool import Connection

# Deleting the open row and writing the outcome is one statement: a target is always in exactly one
# of the two tables, and a second answer finds nothing to end. OFFSET 0: see speakers.FIND.
SETTLE = """
WITH told AS (
    SELECT * FROM unnest(
        $1::uuid[], $2::uuid[], $3::uuid[], $4::text[], $5::text[], $6::text[], $7::text[],
        $8::int[], $9::bytea[]
    ) AS told (device_id, channel_id, command_id, state, reason, errors, answer, answer_bytes,
               secrets)
), gone AS (
    DELETE FROM pending AS p USING told CROSS JOIN LATERAL (
        SELECT priority, ordinal FROM command WHERE command.command_id = told.command_id OFFSET 0
    ) AS c
    WHERE p.device_id = told.device_id AND p.channel_id = told.channel_id
      AND p.priority = c.priority AND p.seq = c.ordinal AND p.state = ANY($10::text[])
    RETURNING p.channel_id, p.command_id, p.device_id, p.enrollment_id, p.generation,
              told.state, told.reason, told.errors, told.answer, told.answer_bytes, told.secrets,
              p.deliveries, p.deferrals, p.queued_at, p.sent_at
), kept AS (
    INSERT INTO outcome (
        channel_id, command_id, device_id, enrollment_id, generation, state, reason, errors,
        answer, answer_bytes, secrets, deliveries, deferrals, queued_at, finished_at
    )
    SELECT channel_id, command_id, device_id, enrollment_id, generation, state, reason,
           errors::jsonb, answer::jsonb, answer_bytes, secrets, deliveries, deferrals, queued_at,
           $11
    FROM gone
)
SELECT gone.channel_id, gone.command_id, gone.device_id, gone.enrollment_id, gone.generation,
       gone.state, gone.reason, gone.deliveries, gone.queued_at, gone.sent_at,
       c.kind, c.request_type, c.section, c.actor, c.profile_identifier, c.correlation_id,
       c.traceparent, coalesce(rest.busy, false) AS busy, coalesce(rest.deferred, false) AS deferred
FROM gone CROSS JOIN LATERAL (
    SELECT * FROM command WHERE command.command_id = gone.command_id OFFSET 0
) AS c
LEFT JOIN LATERAL (
    SELECT true AS busy, bool_or(p.state = 'deferred' AND NOT p.push_wanted) AS deferred
    FROM pending AS p
    WHERE p.device_id = gone.device_id AND p.channel_id = gone.channel_id
      AND p.state IN ('queued', 'sent', 'deferred')
      -- What this statement deletes is still seen by it.
      AND NOT EXISTS (
          SELECT FROM gone AS other
          WHERE other.channel_id = p.channel_id AND other.command_id = p.command_id
      )
    HAVING count(*) > 0
) AS rest ON true
"""

# A target that never came as far as a queue. Its command's own row tells the rest.
FILE = """
WITH filed AS (
    INSERT INTO outcome (
        command_id, channel_id, device_id, enrollment_id, generation, state, reason, deliveries,
        deferrals, queued_at, finished_at
    )
    SELECT told.command_id, coalesce(told.channel_id, told.device_id), told.device_id,
           told.enrollment_id, told.generation, told.state, told.reason, 0, 0, c.created_at, $8
    FROM unnest(
        $1::uuid[], $2::uuid[], $3::uuid[], $4::uuid[], $5::int[], $6::text[], $7::text[]
    ) AS told (command_id, device_id, channel_id, enrollment_id, generation, state, reason)
    CROSS JOIN LATERAL (
        SELECT created_at FROM command WHERE command.command_id = told.command_id OFFSET 0
    ) AS c
    ON CONFLICT DO NOTHING
    RETURNING command_id, channel_id, device_id, enrollment_id, generation, state, reason,
              deliveries, queued_at
)
SELECT filed.*, c.kind, c.request_type, c.section, c.actor, c.profile_identifier, c.correlation_id,
       c.traceparent, NULL::timestamptz AS sent_at, coalesce(rest.busy, false) AS busy,
       false AS deferred
FROM filed CROSS JOIN LATERAL (
    SELECT * FROM command WHERE command.command_id = filed.command_id OFFSET 0
) AS c LEFT JOIN LATERAL (
    -- Work of other commands: nobody may take the channel for idle.
    SELECT true AS busy FROM pending AS p
    WHERE p.device_id = filed.device_id AND p.channel_id = filed.channel_id
      AND p.state IN ('queued', 'sent', 'deferred') LIMIT 1
) AS rest ON true
"""

# The range is what lets partitions be left out before they are opened: a join does not.
FIND = """
SELECT o.channel_id, o.command_id, o.state
FROM unnest($1::uuid[], $2::uuid[]) AS asked (channel_id, command_id)
JOIN outcome AS o ON o.command_id = asked.command_id AND o.channel_id = asked.channel_id
WHERE o.command_id BETWEEN $3 AND $4
"""

PROFILES_INSTALLED = """
INSERT INTO profile_on_device (device_id, identifier)
SELECT * FROM unnest($1::uuid[], $2::text[]) AS told (device_id, identifier)
ON CONFLICT DO NOTHING
"""
ALL_OURS = """
SELECT NOT EXISTS (
    SELECT FROM unnest($1::uuid[], $2::text[]) AS named (device_id, identifier)
    WHERE NOT EXISTS (
        SELECT FROM profile_on_device AS p
        WHERE p.device_id = named.device_id AND p.identifier = named.identifier
    )
)
"""


@dataclass(frozen=True, slots=True)
class End:
    """How a target ends. `errors` and `answer` are JSON text, `secrets` is encrypted."""

    device_id: UUID
    channel_id: UUID
    command_id: UUID
    state: str
    reason: str | None = None
    errors: str | None = None
    answer: str | None = None
    answer_bytes: int | None = None
    secrets: bytes | None = None


@dataclass(frozen=True, slots=True)
class Filing:
    """How a target ends that never had an open row."""

    command_id: UUID
    device_id: UUID
    channel_id: UUID | None
    enrollment_id: UUID | None
    generation: int | None
    state: str
    reason: str


@dataclass(frozen=True, slots=True)
class Settled:
    """A target that has just got its outcome, and what its command is.

    `busy`: its channel has open work left; `deferred`: some of it is deferred, and no push is
    wanted for it yet.
    """

    channel_id: UUID
    command_id: UUID
    device_id: UUID
    enrollment_id: UUID | None
    generation: int | None
    state: str
    reason: str | None
    deliveries: int
    queued_at: datetime
    sent_at: datetime | None
    kind: str
    request_type: str
    section: str | None
    actor: str
    profile_identifier: str | None
    correlation_id: str | None
    traceparent: str | None
    busy: bool
    deferred: bool


async def settle(
    tx: Connection, ends: Sequence[End], now: datetime, *, out_of: Collection[str]
) -> list[Settled]:
    """End targets that are in one of the states `out_of`; return those that were.

    The devices' rows are locked.
    """
    if not ends:
        return []
    rows = await tx.fetch(SETTLE, *_columns(ends), list(out_of), now)
    return [Settled(**row) for row in rows]


async def file(tx: Connection, filings: Sequence[Filing], now: datetime) -> list[Settled]:
    """End targets that never had an open row. The devices' rows are locked."""
    if not filings:
        return []
    rows = await tx.fetch(FILE, *_columns(filings), now)
    return [Settled(**row) for row in rows]


async def find(
    tx: Connection, targets: Sequence[tuple[UUID, UUID]]
) -> dict[tuple[UUID, UUID], str]:
    """Return the outcomes of (channel, command) pairs that have one; at least one is asked for."""
    channels, commands = [one[0] for one in targets], [one[1] for one in targets]
    rows = await tx.fetch(FIND, channels, commands, min(commands), max(commands))
    return {(row["channel_id"], row["command_id"]): row["state"] for row in rows}


async def profiles_installed(tx: Connection, found: Sequence[tuple[UUID, str]]) -> None:
    """Remember which profiles Muster itself has installed on which devices, by identifier."""
    await tx.execute(PROFILES_INSTALLED, [one[0] for one in found], [one[1] for one in found])


async def all_ours(tx: Connection, named: Sequence[tuple[UUID, str]]) -> bool:
    """Whether Muster has installed each of these profiles on the device it is named with."""
    return bool(await tx.fetchval(ALL_OURS, [one[0] for one in named], [one[1] for one in named]))


def _columns(rows: Sequence[End] | Sequence[Filing]) -> list[list[Any]]:
    return [[getattr(row, name) for row in rows] for name in rows[0].__dataclass_fields__]
