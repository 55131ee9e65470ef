"""Frozen target lists on their way into queues."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final
from uuid import UUID

from shared.db.pool import Connection

CHUNK: Final = 250

ADD = """
INSERT INTO target (
    command_id, chunk, ordinal, priority, size, device_ids, channel_ids, bodies
)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
"""
# The first chunk of every command before the second of any: a command to one device does not wait
# until 100,000 others are in their queues, and large ones take turns.
NEXT = """
SELECT ordinal, chunk, size FROM target ORDER BY chunk, priority DESC, ordinal LIMIT $1
"""
READ = """
SELECT t.command_id, t.chunk, t.ordinal, t.device_ids, t.channel_ids, t.bodies,
       c.kind, c.request_type, c.state, c.priority, c.created_at, c.end_reason,
       c.correlation_id, c.traceparent
FROM unnest($1::bigint[], $2::int[]) AS next (ordinal, chunk)
JOIN target AS t ON t.ordinal = next.ordinal AND t.chunk = next.chunk
JOIN command AS c ON c.command_id = t.command_id
ORDER BY t.ordinal, t.chunk
"""
DONE = """
DELETE FROM target AS t USING unnest($1::bigint[], $2::int[]) AS done (ordinal, chunk)
WHERE t.ordinal = done.ordinal AND t.chunk = done.chunk
RETURNING t.ordinal, t.chunk
"""

WAIT = """
INSERT INTO waiting (command_id, target_id, device_id, channel_id, body, until)
SELECT command_id, coalesce(channel_id, device_id), device_id, channel_id, body, until
FROM unnest($1::uuid[], $2::uuid[], $3::uuid[], $4::bytea[], $5::timestamptz[])
     AS told (command_id, device_id, channel_id, body, until)
ON CONFLICT DO NOTHING
"""
_WAITING: Final = """
SELECT w.command_id, w.device_id, w.channel_id, w.body, w.until, c.ordinal, c.kind,
       c.request_type, c.state, c.priority, c.created_at, c.end_reason, c.correlation_id,
       c.traceparent
FROM waiting AS w JOIN command AS c ON c.command_id = w.command_id
"""
WAITING_FOR = f"{_WAITING} WHERE w.device_id = ANY($1::uuid[]) ORDER BY c.ordinal"
OVERDUE = """
SELECT device_id FROM waiting WHERE until <= $1
UNION SELECT w.device_id FROM waiting AS w JOIN command AS c ON c.command_id = w.command_id
WHERE c.state IN ('cancelled', 'expired') AND c.sweep_at IS NOT NULL
LIMIT $2
"""
WAITED = """
DELETE FROM waiting AS w USING unnest($1::uuid[], $2::uuid[]) AS done (command_id, target_id)
WHERE w.command_id = done.command_id AND w.target_id = done.target_id
"""


@dataclass(frozen=True, slots=True)
class Chunk:
    """At most CHUNK targets of one command, sorted by device."""

    chunk: int
    device_ids: list[UUID]
    channel_ids: list[UUID] | None
    bodies: list[bytes | None] | None


@dataclass(frozen=True, slots=True)
class Wanted:
    """One target that is on its way into a queue, with what its command says.

    `until` is set while it waits for a device that is not known.
    """

    command_id: UUID
    ordinal: int
    kind: str
    request_type: str
    state: str
    priority: int
    created_at: datetime
    end_reason: str | None
    correlation_id: str | None
    traceparent: str | None
    device_id: UUID
    channel_id: UUID | None
    body: bytes | None
    until: datetime | None = None

    @property
    def target_id(self) -> UUID:
        return self.channel_id or self.device_id


@dataclass(frozen=True, slots=True)
class Taken:
    """Chunks read for expansion: their keys, and the targets in them."""

    keys: list[tuple[int, int]]
    wanted: dict[tuple[int, int], list[Wanted]]

    @property
    def devices(self) -> set[UUID]:
        return {one.device_id for targets in self.wanted.values() for one in targets}


@dataclass(frozen=True, slots=True)
class Frozen:
    """The target list of a new command."""

    command_id: UUID
    ordinal: int
    priority: int
    chunks: Sequence[Chunk]


async def add(tx: Connection, lists: Sequence[Frozen]) -> None:
    """Store target lists; all or none of them are there when the transaction commits."""
    await tx.executemany(
        ADD,
        [
            (
                of.command_id,
                one.chunk,
                of.ordinal,
                of.priority,
                len(one.device_ids),
                one.device_ids,
                one.channel_ids,
                one.bodies,
            )
            for of in lists
            for one in of.chunks
        ],
    )


async def read_next(tx: Connection, limit: int) -> Taken:
    """Read the chunks that are next, together at most `limit` targets, but at least one chunk."""
    keys: list[tuple[int, int]] = []
    left = limit
    for row in await tx.fetch(NEXT, limit):
        if keys and row["size"] > left:
            break
        left -= row["size"]
        keys.append((row["ordinal"], row["chunk"]))
    wanted: dict[tuple[int, int], list[Wanted]] = {}
    for row in await tx.fetch(READ, *_columns(keys)) if keys else ():
        devices: list[UUID] = row["device_ids"]
        key = (row["ordinal"], row["chunk"])
        channels = row["channel_ids"] or [None] * len(devices)
        bodies = row["bodies"] or [None] * len(devices)
        wanted[key] = [
            Wanted(
                row["command_id"],
                row["ordinal"],
                row["kind"],
                row["request_type"],
                row["state"],
                row["priority"],
                row["created_at"],
                row["end_reason"],
                row["correlation_id"],
                row["traceparent"],
                *target,
            )
            for target in zip(devices, channels, bodies, strict=True)
        ]
    return Taken(list(wanted), wanted)


async def take(tx: Connection, taken: Taken) -> list[Wanted]:
    """Remove the chunks, and return the targets of those that nobody else has expanded."""
    rows = await tx.fetch(DONE, *_columns(taken.keys))
    gone = {(row["ordinal"], row["chunk"]) for row in rows}
    return [one for key in taken.keys if key in gone for one in taken.wanted[key]]


async def wait(tx: Connection, targets: Sequence[Wanted], until: datetime) -> None:
    await tx.execute(
        WAIT,
        [one.command_id for one in targets],
        [one.device_id for one in targets],
        [one.channel_id for one in targets],
        [one.body for one in targets],
        [until] * len(targets),
    )


async def waiting_for(tx: Connection, devices: Collection[UUID]) -> list[Wanted]:
    """Return the targets that wait for these devices."""
    return [Wanted(**row) for row in await tx.fetch(WAITING_FOR, list(devices))]


async def overdue(tx: Connection, now: datetime, limit: int) -> set[UUID]:
    """Return devices that were waited for in vain, or for a command that has ended."""
    return {row["device_id"] for row in await tx.fetch(OVERDUE, now, limit)}


async def waited(tx: Connection, targets: Sequence[Wanted]) -> None:
    """Take targets out of waiting."""
    await tx.execute(
        WAITED, [one.command_id for one in targets], [one.target_id for one in targets]
    )


def _columns(keys: Sequence[tuple[int, int]]) -> tuple[list[int], list[int]]:
    return [key[0] for key in keys], [key[1] for key in keys]
