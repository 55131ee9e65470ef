"""Freezes: rows that every claim reads."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from shared.db.pool import Connection, Record

ADD = """
INSERT INTO command_freeze (freeze_id, command_class, before, actor, reason, created_at)
VALUES ($1, $2, $3, $4, $5, $6)
"""
LIFT = """
UPDATE command_freeze SET lifted_at = $2, lifted_by = $3 WHERE freeze_id = $1 AND lifted_at IS NULL
RETURNING freeze_id, command_class
"""
EXISTS = "SELECT EXISTS (SELECT FROM command_freeze WHERE freeze_id = $1)"
STANDING = """
SELECT freeze_id, command_class, before, actor, reason, created_at FROM command_freeze
WHERE lifted_at IS NULL ORDER BY freeze_id
"""


async def add(
    tx: Connection,
    freeze_id: UUID,
    command_class: str | None,
    before: datetime | None,
    actor: str,
    reason: str,
    now: datetime,
) -> None:
    """Freeze a class (None: all) of commands asked for before an instant (None: ever)."""
    await tx.execute(ADD, freeze_id, command_class, before, actor, reason, now)


async def lift(tx: Connection, freeze_id: UUID, now: datetime, actor: str) -> bool:
    """End a freeze; False when it was lifted before."""
    return await tx.fetchval(LIFT, freeze_id, now, actor) is not None


async def exists(tx: Connection, freeze_id: UUID) -> bool:
    return bool(await tx.fetchval(EXISTS, freeze_id))


async def standing(tx: Connection) -> list[Record]:
    return await tx.fetch(STANDING)
