"""Events that were given up: kept whole, shown, replayed, dropped.

A dead letter is a row of the service's own schema, written in place of the effect, and an event on
`muster.dead-letter.<service>.v1`. A replay is only asked for here; the service's own runner does
it, with the locks, the inbox, the age check and the handlers of any other event (`replaying`).
"""

from __future__ import annotations

import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from pydantic import TypeAdapter, ValidationError

from shared.bus import envelope, outbox
from shared.bus.records import Record
from shared.db.errors import describe
from shared.db.pool import Connection, Pool, transaction
from shared.events import uuid7
from shared.events.audit import AuditRecorded
from shared.events.dead_letters import DeadLettered

_MAX_FRAMES = 30
_UUID = TypeAdapter(UUID)

RECORD = """
INSERT INTO dead_letter (id, topic, partition_number, record_offset, record_key, record_value,
                         headers, event_id, type, reason, error, trace)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)
ON CONFLICT (topic, partition_number, record_offset) DO NOTHING RETURNING id
"""
LIST = """
SELECT id, topic, partition_number, record_offset, event_id, type, reason, error, failed_at,
       replays, replay_requested_at
FROM dead_letter WHERE ($1::uuid IS NULL OR id > $1) ORDER BY id LIMIT $2
"""
SHOW = "SELECT * FROM dead_letter WHERE id = $1"
ASK_FOR_REPLAY = """
UPDATE dead_letter SET replay_requested_at = now(), replay_requested_by = $2
WHERE id = ANY($1::uuid[]) RETURNING id, topic, type, event_id
"""
DROP = "DELETE FROM dead_letter WHERE id = ANY($1::uuid[]) RETURNING id, topic, type, event_id"


@dataclass(frozen=True)
class DeadLetter:
    """One line of the list."""

    id: UUID
    topic: str
    partition: int
    offset: int
    event_id: UUID | None
    type: str | None
    reason: str
    error: str
    failed_at: datetime
    replays: int
    replay_requested_at: datetime | None


@dataclass(frozen=True)
class Whole(DeadLetter):
    """A dead letter with all that is known of it; `value` is the record's, as it came."""

    key: bytes | None
    value: bytes | None
    headers: dict[str, str]
    trace: str


async def record(tx: Connection, source: Record, reason: str, error: BaseException) -> bool:
    """Keep a record that was given up; False when it is kept already.

    Error and trace name places and kinds, never values: those may be secret.
    """
    headers = {name: value.decode(errors="replace") for name, value in source.headers}
    letter = DeadLettered(
        dead_letter_id=uuid7(),
        source_topic=source.topic,
        source_partition=source.partition,
        source_offset=source.offset,
        source_type=(envelope.type_of(source.headers) or "")[:300] or None,
        source_event_id=_uuid(headers.get("ce_id")),
        source_headers={name: value[:1000] for name, value in list(headers.items())[:30]},
        reason=reason,
        error=describe(error),
        trace=trace_of(error),
    )
    kept = await tx.fetchval(
        RECORD,
        letter.dead_letter_id,
        source.topic,
        source.partition,
        source.offset,
        source.key,
        source.value,
        {name.replace("\0", ""): value.replace("\0", "") for name, value in headers.items()},
        letter.source_event_id,
        letter.source_type,
        letter.reason,
        letter.error.replace("\0", ""),
        letter.trace,
    )
    if kept:
        await outbox.emit(tx, [letter])
    return kept is not None


def trace_of(error: BaseException) -> str:
    """Where an error was raised: file, line and function of each frame."""
    frames = traceback.extract_tb(error.__traceback__)[-_MAX_FRAMES:]
    return "\n".join(f"{frame.filename}:{frame.lineno} {frame.name}" for frame in frames)


async def list_(pool: Pool, *, limit: int = 50, after: UUID | None = None) -> Sequence[DeadLetter]:
    """Return dead letters in the order they died, from behind `after` on."""
    return [DeadLetter(**_line(row)) for row in await pool.fetch(LIST, after, limit)]


async def show(pool: Pool, letter_id: UUID) -> Whole | None:
    """Return all that is known of one; None when there is none with this id."""
    row = await pool.fetchrow(SHOW, letter_id)
    if row is None:
        return None
    return Whole(
        **_line(row),
        key=row["record_key"],
        value=row["record_value"],
        headers=row["headers"],
        trace=row["trace"],
    )


async def replay(pool: Pool, ids: Sequence[UUID], *, actor: str, reason: str) -> list[UUID]:
    """Ask the service's runner to try these again; return the ones that exist. Audited."""
    async with transaction(pool) as tx:
        return await _audited(tx, ASK_FOR_REPLAY, (list(ids), actor), "replay", actor, reason)


async def drop(pool: Pool, ids: Sequence[UUID], *, actor: str, reason: str) -> list[UUID]:
    """Forget these for good; return the ones that existed. Audited."""
    async with transaction(pool) as tx:
        return await _audited(tx, DROP, (list(ids),), "drop", actor, reason)


async def _audited(
    tx: Connection, statement: str, values: tuple[Any, ...], verb: str, actor: str, reason: str
) -> list[UUID]:
    rows = await tx.fetch(statement, *values)
    await outbox.emit(tx, [audit(verb, row, actor, reason) for row in rows])
    return [row["id"] for row in rows]


def audit(verb: str, row: Any, actor: str, reason: str) -> AuditRecorded:
    """Return the audit event of something done to a dead letter."""
    return AuditRecorded(
        audit_id=uuid7(),
        actor=actor,
        permission=f"dead_letters.{verb}",
        action=f"dead_letter.{verb}",
        target=f"dead-letter:{row['id']}",
        after={
            "topic": row["topic"],
            "type": row["type"],
            "event_id": str(row["event_id"]) if row["event_id"] else None,
        },
        reason=reason[:300],
    )


def _line(row: Any) -> dict[str, Any]:
    names = ("id", "topic", "event_id", "type", "reason", "error", "failed_at", "replays")
    line = {name: row[name] for name in names}
    line["partition"], line["offset"] = row["partition_number"], row["record_offset"]
    line["replay_requested_at"] = row["replay_requested_at"]
    return line


def _uuid(text: str | None) -> UUID | None:
    try:
        return _UUID.validate_python(text)
    except ValidationError:
        return None
