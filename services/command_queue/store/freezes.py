"""Freezes: rows that every claim reads."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from shared.db.pool import Connection, Record

ADD = """
INSERT INTO command_freeze (
    freeze_id, command_class, before, actor, reason, created_at, cancels
)
VALUES ($1, $2, $3, $4, $5, $6, $7)
"""
LIFT = """
UPDATE command_freeze SET lifted_at = $2, lifted_by = $3 WHERE freeze_id = $1 AND lifted_at IS NULL
RETURNING freeze_id, command_class
"""
_FREEZE = "SELECT freeze_id, command_class, before, actor, reason, created_at FROM command_freeze"
# Decisions about one come in turn.
STANDING_ONE = f"{_FREEZE} WHERE freeze_id = $1 AND lifted_at IS NULL AND NOT cancels FOR UPDATE"
STANDING = f"{_FREEZE} WHERE lifted_at IS NULL AND NOT cancels ORDER BY freeze_id"
CALLED_OFF = f"{_FREEZE} WHERE lifted_at IS NULL AND cancels ORDER BY freeze_id LIMIT 1"
CALL_OFF = """
UPDATE command
SET state = 'cancelled', ended_at = $4, ended_by = $5, end_reason = $6, sweep_at = $4
WHERE state IN ('active', 'held') AND command_id IN (
    SELECT command_id FROM command
    WHERE state IN ('active', 'held') AND ($1::text IS NULL OR command_class = $1)
      AND created_at < $2
    ORDER BY command_id LIMIT $3
)
RETURNING command_id
"""


async def add(
    tx: Connection,
    freeze_id: UUID,
    command_class: str | None,
    before: datetime | None,
    actor: str,
    reason: str,
    now: datetime,
    *,
    cancels: bool = False,
) -> None:
    """Freeze a class (None: all) of commands asked for before an instant (None: ever)."""
    await tx.execute(ADD, freeze_id, command_class, before, actor, reason, now, cancels)


async def lift(tx: Connection, freeze_id: UUID, now: datetime, actor: str) -> bool:
    """End a freeze; False when it was lifted before."""
    return await tx.fetchval(LIFT, freeze_id, now, actor) is not None


async def standing_one(tx: Connection, freeze_id: UUID) -> Record | None:
    """A freeze in force, locked."""
    return await tx.fetchrow(STANDING_ONE, freeze_id)


async def called_off(tx: Connection) -> Record | None:
    """Commands that somebody cancelled all at once, and that may not all be marked yet."""
    return await tx.fetchrow(CALLED_OFF)


async def call_off(tx: Connection, of: Record, now: datetime, limit: int) -> list[UUID]:
    """Cancel the next of them; claims are stopped."""
    rows = await tx.fetch(
        CALL_OFF, of["command_class"], of["before"], limit, now, of["actor"], of["reason"]
    )
    return [row["command_id"] for row in rows]


async def standing(tx: Connection) -> list[Record]:
    return await tx.fetch(STANDING)
