"""PINs that devices are locked by, and who was shown them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import NamedTuple
from uuid import UUID

from shared.db.pool import Connection, Record

KEEP = """
INSERT INTO escrow (secret_id, device_id, command_id, kind, sealed, actor, created_at)
SELECT * FROM unnest(
    $1::uuid[], $2::uuid[], $3::uuid[], $4::text[], $5::bytea[], $6::text[], $7::timestamptz[]
)
"""
# How far the command came, while that is remembered: only then it says whether the PIN holds.
_SHOWN = """
SELECT e.secret_id, e.device_id, e.command_id, e.kind, e.actor, e.created_at, c.reason,
       coalesce(o.state, p.state, c.state) AS state, c.state AS command_state,
       (SELECT max(r.revealed_at) FROM reveal AS r WHERE r.secret_id = e.secret_id) AS revealed_at
FROM escrow AS e
LEFT JOIN LATERAL (
    SELECT state, reason FROM any_command WHERE command_id = e.command_id
) AS c ON true
LEFT JOIN LATERAL (
    SELECT state FROM pending WHERE device_id = e.device_id AND command_id = e.command_id LIMIT 1
) AS p ON true
LEFT JOIN LATERAL (
    SELECT state FROM outcome WHERE device_id = e.device_id AND command_id = e.command_id LIMIT 1
) AS o ON true
"""
OF_DEVICE = f"{_SHOWN} WHERE e.device_id = $1 ORDER BY e.secret_id DESC LIMIT $2"
GET = "SELECT * FROM escrow WHERE secret_id = $1 AND device_id = $2"
COUNT = """
SELECT (SELECT count(*) FROM reveal WHERE actor = $2 AND revealed_at > $1::timestamptz - span)
FROM unnest($3::interval[]) WITH ORDINALITY AS asked (span, place) ORDER BY place
"""
REVEALED = """
INSERT INTO reveal (reveal_id, secret_id, actor, revealed_at) VALUES ($1, $2, $3, $4)
"""
FORGET = """
DELETE FROM reveal AS r WHERE r.revealed_at < $1 AND EXISTS (
    SELECT FROM reveal AS later
    WHERE later.secret_id = r.secret_id AND later.revealed_at > r.revealed_at)
"""
# Two reveals of one person at once must not both take the last that is left.
TAKE_TURNS = "SELECT pg_advisory_xact_lock(hashtextextended($1, 61))"


class Kept(NamedTuple):
    """A secret as it is stored, in the order of KEEP."""

    secret_id: UUID
    device_id: UUID
    command_id: UUID
    kind: str
    sealed: bytes
    actor: str
    created_at: datetime


async def keep(tx: Connection, secrets: Sequence[Kept]) -> None:
    await tx.execute(KEEP, *zip(*secrets, strict=True))


async def of_device(tx: Connection, device_id: UUID, limit: int) -> list[Record]:
    """What is kept of a device, newest first, without the secrets themselves."""
    return await tx.fetch(OF_DEVICE, device_id, limit)


async def get(tx: Connection, device_id: UUID, secret_id: UUID) -> Kept | None:
    row = await tx.fetchrow(GET, secret_id, device_id)
    return None if row is None else Kept(**row)


async def take_turns(tx: Connection, actor: str) -> None:
    await tx.execute(TAKE_TURNS, f"reveal {actor}")


async def count(tx: Connection, actor: str, spans: Sequence[timedelta], now: datetime) -> list[int]:
    """How often somebody was shown secrets in each stretch of time until now."""
    return [row[0] for row in await tx.fetch(COUNT, now, actor, spans)]


async def revealed(
    tx: Connection, reveal_id: UUID, secret_id: UUID, actor: str, now: datetime
) -> None:
    await tx.execute(REVEALED, reveal_id, secret_id, actor, now)


async def forget(tx: Connection, before: datetime) -> None:
    """Forget reveals that no budget counts any more, but for the last of each secret."""
    await tx.execute(FORGET, before)
