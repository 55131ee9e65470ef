"""Frozen target lists on their way into queues."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final, NamedTuple
from uuid import UUID

from shared.db.pool import Connection, Record

CHUNK: Final = 250
_IDS_AT_ONCE: Final = 2000

# All lists of plain targets lie in $6, one after the other.
ADD_PLAIN = """
INSERT INTO target (command_id, chunk, ordinal, plain, priority, size, device_ids)
SELECT command_id, chunk, ordinal, true, priority, size, ($6::uuid[])[upto - size + 1 : upto]
FROM (
    SELECT *, (sum(size) OVER (ORDER BY place))::int AS upto
    FROM unnest($1::uuid[], $2::int[], $3::bigint[], $4::int[], $5::int[])
         WITH ORDINALITY AS one (command_id, chunk, ordinal, priority, size, place)
) AS placed
"""
ADD = """
INSERT INTO target (
    command_id, chunk, ordinal, plain, priority, size, device_ids, channel_ids, bodies
)
VALUES ($1, $2, $3, false, $4, $5, $6, $7, $8)
"""
# The first chunk of every command before the second of any: a command to one device does not wait
# until 100,000 others are in their queues, and large ones take turns.
_NEXT: Final = """
FROM (
    SELECT ordinal, chunk, size, command_id,
           sum(size) OVER (ORDER BY chunk, priority DESC, ordinal ROWS UNBOUNDED PRECEDING) AS total
    FROM (
        SELECT ordinal, chunk, size, priority, command_id FROM target WHERE plain = {plain}
        ORDER BY chunk, priority DESC, ordinal LIMIT $1
    ) AS head
) AS next
CROSS JOIN LATERAL (
    SELECT * FROM command WHERE command.command_id = next.command_id OFFSET 0
) AS c
"""
_COMMAND: Final = """
c.command_id, c.ordinal, c.kind, c.request_type, c.state, c.priority, c.created_at, c.end_reason,
c.correlation_id, c.traceparent
"""
# Small commands fill a bite of four times as many targets, which costs each a little less; the
# chunks of large ones go one by one.
NEXT_PLAIN = f"""
SELECT next.chunk, EXISTS (SELECT FROM target WHERE NOT plain) AS others, {_COMMAND}
{_NEXT.format(plain=True)}
WHERE next.total <= greatest(
    CASE WHEN next.chunk = 0 AND next.size < $1 THEN 4 * $1 ELSE $1 END, next.size)
"""
NEXT = f"""
SELECT t.chunk, t.device_ids, t.channel_ids, t.bodies, {_COMMAND} {_NEXT.format(plain=False)}
CROSS JOIN LATERAL (
    SELECT * FROM target
    WHERE target.ordinal = next.ordinal AND target.chunk = next.chunk AND NOT target.plain OFFSET 0
) AS t
WHERE next.total <= greatest($1, next.size)
"""
IS_NEW = """
SELECT EXISTS (SELECT FROM target WHERE plain AND chunk = 0)
    OR EXISTS (SELECT FROM target WHERE NOT plain AND chunk = 0)
"""
DONE = """
DELETE FROM target AS t USING unnest($1::bigint[], $2::int[]) AS done (ordinal, chunk)
WHERE t.ordinal = done.ordinal AND t.chunk = done.chunk AND NOT t.plain
RETURNING t.ordinal, t.chunk
"""

WAIT = """
INSERT INTO waiting (command_id, target_id, device_id, channel_id, body, until)
SELECT command_id, coalesce(channel_id, device_id), device_id, channel_id, body, until
FROM unnest($1::uuid[], $2::uuid[], $3::uuid[], $4::bytea[], $5::timestamptz[])
     AS told (command_id, device_id, channel_id, body, until)
ON CONFLICT DO NOTHING
"""
_WAITING: Final = f"""
SELECT w.device_id, w.channel_id, w.body, w.until, {_COMMAND}
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

    @property
    def is_plain(self) -> bool:
        """Whether all go to the device channel, with the command's own body."""
        return self.channel_ids is None and self.bodies is None


@dataclass(frozen=True, slots=True)
class Asked:
    """What a command says to each of its targets."""

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

    @classmethod
    def of(cls, row: Record) -> Asked:
        return cls(*(row[name] for name in cls.__dataclass_fields__))


class Wanted(NamedTuple):
    """One target that is on its way into a queue.

    `until` is set while it waits for a device that is not known.
    """

    asked: Asked
    device_id: UUID
    channel_id: UUID | None
    body: bytes | None
    until: datetime | None = None

    @property
    def target_id(self) -> UUID:
        return self.channel_id or self.device_id

    @property
    def key(self) -> tuple[UUID, UUID]:
        return self.asked.command_id, self.target_id


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


def cut(
    devices: Sequence[UUID], channels: Mapping[UUID, UUID], bodies: Mapping[UUID, bytes]
) -> list[Chunk]:
    """Cut sorted targets into rows; device channels first, then the named ones (to their device).

    `bodies`: what single devices get instead of the command's own.
    """
    named = sorted((device, channel) for channel, device in channels.items())
    chunks: list[Chunk] = []
    for at in range(0, len(devices), CHUNK):
        some = list(devices[at : at + CHUNK])
        own = [bodies.get(one) for one in some] if bodies else None
        chunks.append(Chunk(len(chunks), some, None, own))
    for at in range(0, len(named), CHUNK):
        pairs = named[at : at + CHUNK]
        of_devices, channels_ = [one[0] for one in pairs], [one[1] for one in pairs]
        chunks.append(Chunk(len(chunks), of_devices, channels_, None))
    return chunks


async def add(tx: Connection, lists: Sequence[Frozen]) -> None:
    """Store target lists; all or none of them are there when the transaction commits."""
    rows = [(of, one) for of in lists for one in of.chunks]
    plain = [row for row in rows if row[1].is_plain]
    for some in _in_pieces(plain):
        devices = [device for _, one in some for device in one.device_ids]
        await tx.execute(ADD_PLAIN, *zip(*(_key(*row) for row in some), strict=True), devices)
    for some in _in_pieces([row for row in rows if not row[1].is_plain]):
        await tx.executemany(
            ADD,
            [(*_key(of, one), one.device_ids, one.channel_ids, one.bodies) for of, one in some],
        )


def _key(of: Frozen, one: Chunk) -> tuple[UUID, int, int, int, int]:
    return of.command_id, one.chunk, of.ordinal, of.priority, len(one.device_ids)


def _in_pieces(rows: Sequence[tuple[Frozen, Chunk]]) -> Iterator[Sequence[tuple[Frozen, Chunk]]]:
    """Encoding 100,000 ids in one go would hold up everything else."""
    ids = sum(len(one.device_ids) for _, one in rows)
    size = max(1, _IDS_AT_ONCE * len(rows) // max(1, ids))
    for at in range(0, len(rows), size):
        yield rows[at : at + size]


async def is_new(tx: Connection) -> bool:
    """Whether the first chunk of a command is still there."""
    return bool(await tx.fetchval(IS_NEW))


async def read_next(tx: Connection, limit: int) -> Taken:
    """Read the chunks that are not plain and next, at most `limit` targets, or one chunk."""
    wanted: dict[tuple[int, int], list[Wanted]] = {}
    for row in await tx.fetch(NEXT, limit):
        devices: list[UUID] = row["device_ids"]
        channels = row["channel_ids"] or [None] * len(devices)
        bodies = row["bodies"] or [None] * len(devices)
        asked = Asked.of(row)
        wanted[row["ordinal"], row["chunk"]] = [
            Wanted(asked, *target) for target in zip(devices, channels, bodies, strict=True)
        ]
    return Taken(sorted(wanted), wanted)


async def take(tx: Connection, taken: Taken) -> list[Wanted]:
    """Remove the chunks, and return the targets of those that nobody else has expanded."""
    ordinals, chunks = [key[0] for key in taken.keys], [key[1] for key in taken.keys]
    rows = await tx.fetch(DONE, ordinals, chunks)
    gone = {(row["ordinal"], row["chunk"]) for row in rows}
    return [one for key in taken.keys if key in gone for one in taken.wanted[key]]


async def wait(tx: Connection, targets: Sequence[Wanted], until: datetime) -> None:
    await tx.execute(
        WAIT,
        [one.asked.command_id for one in targets],
        [one.device_id for one in targets],
        [one.channel_id for one in targets],
        [one.body for one in targets],
        [until] * len(targets),
    )


async def waiting_for(tx: Connection, devices: Collection[UUID]) -> list[Wanted]:
    """Return the targets that wait for these devices."""
    return [
        Wanted(Asked.of(row), row["device_id"], row["channel_id"], row["body"], row["until"])
        for row in await tx.fetch(WAITING_FOR, list(devices))
    ]


async def overdue(tx: Connection, now: datetime, limit: int) -> set[UUID]:
    """Return devices that were waited for in vain, or for a command that has ended."""
    return {row["device_id"] for row in await tx.fetch(OVERDUE, now, limit)}


async def waited(tx: Connection, targets: Sequence[Wanted]) -> None:
    """Take targets out of waiting."""
    keys = [one.key for one in targets]
    await tx.execute(WAITED, [key[0] for key in keys], [key[1] for key in keys])
