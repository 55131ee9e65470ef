"""Freezes: rows that every claim reads."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from shared.db.pool import Connection, Record

ADD = """
INSERT INTO freeze (freeze_id, command_class, before, actor, reason, created_at)
VALUES ($1, $2, $3, $4, $5, $6)
"""
LIFT = """
UPDATE freeze SET lifted_at = $2, lifted_by = $3 WHERE freeze_id = $1 AND lifted_at IS NULL
RETURNING freeze_id, command_class
"""
EXISTS = "SELECT EXISTS (SELECT FROM freeze WHERE freeze_id = $1)"
STANDING = """
SELECT freeze_id, command_class, before, actor, reason, created_at FROM freeze
WHERE lifted_at IS NULL ORDER BY freeze_id
"""
# A channel each, as push_notifier wakes it: what waited behind the freeze may be handed out now.
THAWED = """
SELECT DISTINCT ON (p.channel_id) p.channel_id, p.command_id, p.device_id, p.queued_at, c.kind
FROM pending AS p JOIN command AS c ON c.command_id = p.command_id
WHERE p.state = 'queued' AND c.state = 'active'
  AND ($1::text IS NULL OR c.command_class = $1) AND ($2::uuid IS NULL OR p.channel_id > $2)
ORDER BY p.channel_id, p.priority DESC, p.seq LIMIT $3
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
