"""What is held and why, what was approved, and what of a released command is left to place."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from shared.db.pool import Connection, Record
from shared.runtime.http import Reach

HOLD = """
INSERT INTO holding (
    command_id, why, needs, not_before, content, device_ids, channel_ids, bodies, salt
)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)
"""
# The command's row is locked first: approvals, cancels and expiry of one command come in turn.
HELD = """
SELECT c.command_id, c.ordinal, c.kind, c.request_type, c.command_class, c.summary, c.actor,
       c.reason, c.hold_reason, c.target_count, c.created_at, c.expires_at, c.body, c.secret,
       c.reach, c.priority, c.correlation_id, c.traceparent,
       h.why, h.needs, h.not_before, h.content, h.device_ids, h.channel_ids,
       h.bodies, h.salt
FROM command AS c JOIN holding AS h USING (command_id)
WHERE c.command_id = $1 AND c.state = 'held'
FOR UPDATE OF c
"""
# Everything that could still be handed out of it, wherever it lies. What is placed has a channel in
# any case: the device's own is meant where none was named.
LEFT_TO_DO = """
SELECT p.device_id, p.channel_id, h.kind IS NOT DISTINCT FROM 'device' AS own, p.body
FROM pending AS p LEFT JOIN channel AS h USING (channel_id) WHERE p.command_id = $1
UNION ALL
SELECT device_id, channel_id, channel_id IS NULL, body FROM waiting WHERE command_id = $1
UNION ALL
SELECT wanted.device_id, wanted.channel_id, wanted.channel_id IS NULL, wanted.body
FROM target AS t
CROSS JOIN LATERAL ROWS FROM (unnest(t.device_ids), unnest(t.channel_ids), unnest(t.bodies))
    AS wanted (device_id, channel_id, body)
WHERE t.command_id = $1
UNION ALL
SELECT wanted.device_id, wanted.channel_id, wanted.channel_id IS NULL, wanted.body
FROM parked AS k
CROSS JOIN LATERAL ROWS FROM (unnest(k.device_ids), unnest(k.channel_ids), unnest(k.bodies))
    AS wanted (device_id, channel_id, body)
WHERE k.command_id = $1
"""
APPROVE = """
INSERT INTO approval (subject_id, account_id, credential_id, digest, approved_at, expires_at,
                      client_data, authenticator_data, signature)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)
ON CONFLICT (subject_id, account_id) DO UPDATE
    SET credential_id = excluded.credential_id, digest = excluded.digest,
        approved_at = excluded.approved_at, expires_at = excluded.expires_at,
        client_data = excluded.client_data, authenticator_data = excluded.authenticator_data,
        signature = excluded.signature
"""
OF = """
SELECT a.account_id, a.credential_id, a.digest, a.approved_at, a.expires_at, a.client_data,
       a.authenticator_data, a.signature, p.name
FROM approval AS a LEFT JOIN approver AS p USING (account_id)
WHERE a.subject_id = $1 ORDER BY a.approved_at, a.account_id
"""
RELEASE = """
WITH freed AS (
    UPDATE command SET state = 'active' WHERE command_id = $1 AND state = 'held'
    RETURNING command_id
)
INSERT INTO release (command_id) SELECT command_id FROM freed RETURNING command_id
"""
ESCALATE = "UPDATE holding SET why = $2, needs = $3, not_before = $4 WHERE command_id = $1"
SAY_WHY = "UPDATE command SET hold_reason = $2 WHERE command_id = $1"
RIPE = """
SELECT h.command_id FROM holding AS h JOIN command AS c USING (command_id)
WHERE c.state = 'held' AND h.not_before <= $1 AND c.expires_at > $1
  AND h.needs <= (
      SELECT count(*) FROM approval AS a
      WHERE a.subject_id = h.command_id AND a.expires_at > $1)
ORDER BY h.command_id LIMIT 100
"""
RELEASED = "SELECT command_id FROM release ORDER BY command_id LIMIT 1"
STILL_HELD = """
SELECT channel_id, device_id FROM pending WHERE command_id = $1 AND state = 'held' LIMIT $2
"""
QUEUE = """
UPDATE pending AS p SET state = 'queued', queued_at = $4
FROM unnest($2::uuid[], $3::uuid[]) AS named (device_id, channel_id), command AS c
WHERE c.command_id = $1 AND c.state = 'active'
  AND p.device_id = named.device_id AND p.channel_id = named.channel_id
  AND p.priority = c.priority AND p.seq = c.ordinal AND p.state = 'held'
RETURNING p.device_id, p.channel_id
"""
# While targets are unexpanded or waited for, some may yet be placed as held: who placed them read
# the command before it was let run.
ALL_QUEUED = """
DELETE FROM release AS r WHERE command_id = $1
  AND NOT EXISTS (SELECT FROM target AS t WHERE t.command_id = r.command_id)
  AND NOT EXISTS (SELECT FROM waiting AS w WHERE w.command_id = r.command_id)
  AND NOT EXISTS (
      SELECT FROM pending AS p JOIN command AS c USING (command_id)
      WHERE p.command_id = r.command_id AND p.state = 'held' AND c.state = 'active')
"""
COMMAND = """
SELECT command_id, kind, created_at, correlation_id, traceparent FROM command WHERE command_id = $1
"""
WAITING = """
SELECT c.command_id, c.kind, c.command_class, c.summary, c.actor, c.reason, c.hold_reason,
       c.target_count, c.created_at, c.expires_at, h.why, h.needs, h.not_before,
       (SELECT count(*) FROM approval AS a
        WHERE a.subject_id = c.command_id AND a.expires_at > $1) AS given
FROM command AS c JOIN holding AS h USING (command_id)
WHERE c.state = 'held' AND ($2::uuid[] IS NULL OR c.reach <@ $2) AND c.command_id < $3
ORDER BY c.command_id DESC LIMIT $4
"""
COUNT_WAITING = """
SELECT count(*) FROM (
    SELECT FROM command AS c JOIN holding AS h USING (command_id)
    WHERE c.state = 'held' AND c.expires_at > $1 AND ($2::uuid[] IS NULL OR c.reach <@ $2) LIMIT $3
) AS counted
"""
FORGET = "DELETE FROM holding WHERE command_id < $1"
FORGET_APPROVALS = "DELETE FROM approval WHERE approved_at < $1"


@dataclass(frozen=True, slots=True)
class Holding:
    """What is kept of a command that is held; its fields in the order of HOLD."""

    command_id: UUID
    why: str
    needs: int | None
    not_before: datetime
    content: bytes
    device_ids: Sequence[UUID]
    channel_ids: Sequence[UUID | None] | None
    bodies: Sequence[bytes | None] | None
    salt: bytes | None
    """Encrypted."""


@dataclass(frozen=True, slots=True)
class Held:
    """A command that waits for people, with what was frozen of it."""

    command_id: UUID
    ordinal: int
    kind: str
    request_type: str
    command_class: str
    summary: dict[str, object]
    actor: str
    reason: str | None
    hold_reason: str | None
    target_count: int
    created_at: datetime
    expires_at: datetime
    body: bytes | None
    secret: bool
    reach: list[UUID] | None
    priority: int
    correlation_id: str | None
    traceparent: str | None
    why: str
    needs: int | None
    not_before: datetime
    content: bytes
    device_ids: list[UUID]
    channel_ids: list[UUID | None] | None
    bodies: list[bytes | None] | None
    salt: bytes | None


@dataclass(frozen=True, slots=True)
class Approval:
    account_id: UUID
    credential_id: bytes
    digest: bytes
    approved_at: datetime
    expires_at: datetime
    client_data: bytes
    authenticator_data: bytes
    signature: bytes
    name: str | None


async def hold(tx: Connection, rows: Sequence[Holding]) -> None:
    fields = Holding.__dataclass_fields__
    await tx.executemany(HOLD, [tuple(getattr(row, name) for name in fields) for row in rows])


async def held(tx: Connection, command_id: UUID) -> Held | None:
    """The command, locked, if it is held now."""
    row = await tx.fetchrow(HELD, command_id)
    return Held(**row) if row else None


async def left_to_do(tx: Connection, command_id: UUID) -> list[Record]:
    """Targets; `own`: on the device channel."""
    return await tx.fetch(LEFT_TO_DO, command_id)


async def approve(tx: Connection, subject_id: UUID, word: Approval) -> None:
    """Keep an account's word; it replaces an earlier one on the same subject."""
    await tx.execute(
        APPROVE,
        subject_id,
        word.account_id,
        word.credential_id,
        word.digest,
        word.approved_at,
        word.expires_at,
        word.client_data,
        word.authenticator_data,
        word.signature,
    )


async def of(tx: Connection, subject_id: UUID) -> list[Approval]:
    return [Approval(**row) for row in await tx.fetch(OF, subject_id)]


async def release(tx: Connection, command_id: UUID) -> bool:
    """Let it run; False: it is not held any more."""
    return await tx.fetchval(RELEASE, command_id) is not None


async def escalate(
    tx: Connection, command_id: UUID, why: str, needs: int, not_before: datetime, reason: str
) -> None:
    await tx.execute(ESCALATE, command_id, why, needs, not_before)
    await tx.execute(SAY_WHY, command_id, reason)


async def ripe(tx: Connection, now: datetime) -> list[UUID]:
    """Commands that are held with approvals enough and may run by now."""
    return [row["command_id"] for row in await tx.fetch(RIPE, now)]


async def first_released(tx: Connection) -> UUID | None:
    """A command of which targets may be left that were placed as held."""
    found: UUID | None = await tx.fetchval(RELEASED)
    return found


async def command(tx: Connection, command_id: UUID) -> Record | None:
    """What the targets of a released command are told of it."""
    return await tx.fetchrow(COMMAND, command_id)


async def still_held(tx: Connection, command_id: UUID, limit: int) -> list[tuple[UUID, UUID]]:
    """(device, channel) of targets placed as held."""
    rows = await tx.fetch(STILL_HELD, command_id, limit)
    return [(row["device_id"], row["channel_id"]) for row in rows]


async def queue(
    tx: Connection, command_id: UUID, targets: Sequence[tuple[UUID, UUID]], now: datetime
) -> list[tuple[UUID, UUID]]:
    """Queue these targets; their devices are locked. Returns those that were."""
    devices, channels = [one[0] for one in targets], [one[1] for one in targets]
    rows = await tx.fetch(QUEUE, command_id, devices, channels, now)
    return [(row["device_id"], row["channel_id"]) for row in rows]


async def all_queued(tx: Connection, command_id: UUID) -> None:
    """Forget the release once nothing of it can be left."""
    await tx.execute(ALL_QUEUED, command_id)


async def waiting(
    tx: Connection, now: datetime, reach: Reach, before: UUID, limit: int
) -> list[Record]:
    return await tx.fetch(WAITING, now, reach, before, limit)


async def count_waiting(tx: Connection, now: datetime, reach: Reach, most: int) -> int:
    return int(await tx.fetchval(COUNT_WAITING, now, reach, most))


async def forget(tx: Connection, before_id: UUID, before: datetime) -> None:
    await tx.execute(FORGET, before_id)
    await tx.execute(FORGET_APPROVALS, before)
