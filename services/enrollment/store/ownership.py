"""Changes of ownership that wait."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from shared.db.pool import Connection

# Who asks again waits no shorter, and begins nothing anew.
ASK = """
INSERT INTO ownership_wait (device_id, ownership, actor, asked_at, due_at)
VALUES ($1, $2, $3, $4, $5)
ON CONFLICT (device_id) DO NOTHING
RETURNING true
"""
VETO = "DELETE FROM ownership_wait WHERE device_id = $1 RETURNING true"
DUE = "SELECT device_id FROM ownership_wait WHERE due_at <= $1 ORDER BY due_at LIMIT $2"
TAKE = """
DELETE FROM ownership_wait WHERE device_id = ANY($1::uuid[]) AND due_at <= $2
RETURNING device_id, ownership, actor, due_at
"""
# Only a device that is personal still: whoever was quicker has decided.
APPLY = """
UPDATE device SET ownership = news.ownership
FROM unnest($1::uuid[], $2::text[]) AS news (device_id, ownership)
WHERE device.device_id = news.device_id AND device.ownership = 'personal'
RETURNING device.device_id
"""


@dataclass(frozen=True, slots=True)
class Wait:
    device_id: UUID
    ownership: str
    actor: str
    due_at: datetime


async def ask(tx: Connection, wait: Wait, now: datetime) -> bool:
    """Whether nobody had asked for this device before."""
    return bool(
        await tx.fetchval(ASK, wait.device_id, wait.ownership, wait.actor, now, wait.due_at)
    )


async def veto(tx: Connection, device_id: UUID) -> bool:
    """Whether something waited."""
    return bool(await tx.fetchval(VETO, device_id))


async def due(tx: Connection, now: datetime, limit: int) -> list[UUID]:
    return [row["device_id"] for row in await tx.fetch(DUE, now, limit)]


async def take(tx: Connection, devices: Sequence[UUID], now: datetime) -> list[Wait]:
    """Those of these devices that are due still; they wait no more."""
    return [Wait(**row) for row in await tx.fetch(TAKE, list(devices), now)]


async def apply(tx: Connection, waits: Sequence[Wait]) -> set[UUID]:
    """Returns the devices that were personal until now."""
    rows = await tx.fetch(APPLY, [w.device_id for w in waits], [w.ownership for w in waits])
    return {row["device_id"] for row in rows}
