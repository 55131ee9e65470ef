"""Dead letters that somebody asked to have tried again, by the service's own runner."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from shared.bus import dead_letters, outbox, records
from shared.bus.applying import apply_in
from shared.bus.handlers import Handlers, Poison
from shared.db.pool import Pool, describe, is_transient, transaction
from shared.db.pool import Record as Row
from shared.events import Event

TAKE_DUE = """
SELECT * FROM dead_letter WHERE replay_requested_at IS NOT NULL
ORDER BY id LIMIT 1 FOR UPDATE SKIP LOCKED
"""
FORGET = "DELETE FROM dead_letter WHERE id = $1"
KEEP = """
UPDATE dead_letter
SET error = $2, trace = $3, replays = replays + 1, replay_requested_at = NULL
WHERE id = $1
"""


@dataclass(frozen=True)
class _Kept:
    """A dead letter as the record it was."""

    topic: str
    partition: int
    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes]]


async def replay_due(pool: Pool, handlers: Handlers) -> int:
    """Try every requested dead letter once; return how many were tried.

    One that takes effect is gone, one that fails again stays with its new error; both are audited.
    One that had its effect in the meantime has no second one: the inbox knows it.
    """
    tried = 0
    while await _replay_one(pool, handlers):
        tried += 1
    return tried


async def _replay_one(pool: Pool, handlers: Handlers) -> bool:
    row: Row | None = None
    try:
        async with transaction(pool) as tx:
            row = await tx.fetchrow(TAKE_DUE)
            if row is None:
                return False
            await apply_in(tx, handlers, [_event_of(row, handlers)])
            await tx.execute(FORGET, row["id"])
            await outbox.emit(tx, [_audit("replayed", row, "it took effect")])
    except Exception as error:
        if row is None or is_transient(error):
            raise
        async with transaction(pool) as tx:
            await tx.execute(KEEP, row["id"], describe(error), dead_letters.trace_of(error))
            await outbox.emit(tx, [_audit("replay_failed", row, describe(error))])
    return True


def _audit(verb: str, row: Row, outcome: str) -> Any:
    return dead_letters.audit(verb, row, row["replay_requested_by"] or "unknown", outcome)


def _event_of(row: Row, handlers: Handlers) -> Event:
    record = _Kept(
        topic=row["topic"],
        partition=row["partition_number"],
        offset=row["record_offset"],
        timestamp=0,
        key=row["record_key"],
        value=row["record_value"],
        headers=[(name, value.encode()) for name, value in row["headers"].items()],
    )
    event = records.read(record)
    if type(event) not in handlers:
        raise Poison("no handler takes it any more", reason="unhandled")
    return event
