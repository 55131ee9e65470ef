"""Wide changes: which devices are first, what waits behind them, and what was changed lately."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from services.command_queue.store.protection import IS_PROTECTED
from services.command_queue.store.targets import Frozen
from shared.db.pool import Connection

# By chance, but the same for all who ask: nobody chooses who is first.
CHOOSE = f"""
SELECT named.device_id FROM unnest($1::uuid[]) AS named (device_id)
JOIN presence AS p USING (device_id)
WHERE p.last_seen_at > $3 AND NOT {IS_PROTECTED}
ORDER BY md5($4::uuid::text || named.device_id::text) LIMIT $5
"""
LATELY = "SELECT coalesce(sum(targets), 0) FROM change WHERE content = $1 AND changed_at > $2"
WENT_ON = "SELECT EXISTS (SELECT FROM canary WHERE content = $1 AND continued_at > $2)"
NOTE = "INSERT INTO change (command_id, content, targets, changed_at) VALUES ($1, $2, $3, $4)"
BEGIN = """
INSERT INTO canary (command_id, content, device_ids, rest, begun_at) VALUES ($1, $2, $3, $4, $5)
"""
PARK = """
INSERT INTO parked (
    command_id, chunk, ordinal, plain, priority, size, device_ids, channel_ids, bodies
)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)
"""
_UNPARK = """
WITH gone AS (DELETE FROM parked AS p {which} RETURNING p.*)
INSERT INTO target (
    command_id, chunk, ordinal, plain, priority, size, device_ids, channel_ids, bodies
)
SELECT command_id, chunk, ordinal, plain, priority, size, device_ids, channel_ids, bodies FROM gone
"""
UNPARK = _UNPARK.format(which="WHERE p.command_id = $1")
# What has ended is filed where all targets are looked at.
UNPARK_ENDED = _UNPARK.format(
    which="USING command AS c WHERE c.command_id = p.command_id"
    " AND c.state IN ('cancelled', 'expired')"
)
GET = """
SELECT y.command_id, y.device_ids, y.rest, y.begun_at, y.continued_at, y.continued_by, c.state,
       (SELECT count(*) FROM outcome AS o
        WHERE o.command_id = y.command_id AND o.device_id = ANY(y.device_ids)) AS answered
FROM canary AS y LEFT JOIN command AS c USING (command_id) WHERE y.command_id = $1
"""
CONTINUE = """
UPDATE canary AS y SET continued_at = $2, continued_by = $3
FROM command AS c
WHERE y.command_id = $1 AND c.command_id = y.command_id AND c.state = 'active'
  AND c.expires_at > $2 AND y.continued_at IS NULL
RETURNING y.rest
"""
FORGET = "DELETE FROM canary WHERE begun_at < $1"
FORGET_CHANGES = "DELETE FROM change WHERE changed_at < $1"


@dataclass(frozen=True, slots=True)
class Canary:
    """`state` is the command's; None: it is over."""

    command_id: UUID
    device_ids: list[UUID]
    rest: int
    begun_at: datetime
    continued_at: datetime | None
    continued_by: str | None
    state: str | None
    answered: int


async def choose(
    tx: Connection,
    command_id: UUID,
    device_ids: Sequence[UUID],
    now: datetime,
    seen_after: datetime,
    most: int,
) -> set[UUID]:
    """Some of the devices that came lately and that no group protects."""
    rows = await tx.fetch(CHOOSE, device_ids, now, seen_after, command_id, most)
    return {row["device_id"] for row in rows}


async def lately(tx: Connection, content: bytes, after: datetime) -> int:
    """Targets that were changed in the same way since then."""
    return int(await tx.fetchval(LATELY, content, after))


async def went_on(tx: Connection, content: bytes, after: datetime) -> bool:
    """Whether somebody has let the same change go on since then."""
    return bool(await tx.fetchval(WENT_ON, content, after))


async def note(tx: Connection, command_id: UUID, content: bytes, count: int, now: datetime) -> None:
    await tx.execute(NOTE, command_id, content, count, now)


async def begin(
    tx: Connection,
    of: Frozen,
    content: bytes,
    device_ids: Sequence[UUID],
    now: datetime,
) -> None:
    """Keep who is first, and park the chunks of all others."""
    rest = sum(len(one.device_ids) for one in of.chunks)
    await tx.execute(BEGIN, of.command_id, content, device_ids, rest, now)
    rows = [
        (
            of.command_id,
            one.chunk,
            of.ordinal,
            one.is_plain,
            of.priority,
            len(one.device_ids),
            one.device_ids,
            one.channel_ids,
            one.bodies,
        )
        for one in of.chunks
    ]
    await tx.executemany(PARK, rows)


async def get(tx: Connection, command_id: UUID) -> Canary | None:
    row = await tx.fetchrow(GET, command_id)
    return Canary(**row) if row else None


async def go_on(tx: Connection, command_id: UUID, now: datetime, by: str) -> int | None:
    """Let the rest be expanded; how many. None: it goes on already, or has ended."""
    rest: int | None = await tx.fetchval(CONTINUE, command_id, now, by)
    if rest is not None:
        await tx.execute(UNPARK, command_id)
    return rest


async def unpark_ended(tx: Connection) -> None:
    """Have what waits of cancelled and expired commands filed."""
    await tx.execute(UNPARK_ENDED)


async def forget(tx: Connection, before: datetime) -> None:
    await tx.execute(FORGET, before)
    await tx.execute(FORGET_CHANGES, before)
