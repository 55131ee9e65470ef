"""Tables partitioned by time: made ahead of it, dropped when old, and traffic does not notice.

A table is `PARTITION BY RANGE (key)`, where the key is a UUIDv7 or a timestamptz, and has a default
partition `<table>_default`, so that a row always finds a place; rows in it mean that nobody made
partitions in time.
"""

from __future__ import annotations

import asyncio
import logging
import random
import re
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TypeVar
from uuid import UUID

import asyncpg

from shared.db import metrics
from shared.db.pool import Connection, Pool, transaction

log = logging.getLogger(__name__)
T = TypeVar("T")

_BOUND = re.compile(r"FROM \('([^']+)'\) TO \('([^']+)'\)")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
# Everything that comes after a lock that waits, waits too: rather give way and come again.
_PATIENCE = "SET LOCAL lock_timeout = '50ms'"
_TRIES = 20
_LONGEST_PAUSE = 2.0

# Tables that are partitioned otherwise, by hash for example, are left alone.
FIND_TABLES = """
SELECT relname FROM pg_class
WHERE relkind = 'p' AND relnamespace = current_schema()::regnamespace AND NOT relispartition
  AND pg_get_partkeydef(oid) LIKE 'RANGE (%)' AND to_regclass(relname || '_default') IS NOT NULL
ORDER BY relname
"""
FIND_KEY = """
SELECT attname AS name, atttypid = 'uuid'::regtype AS is_uuid
FROM pg_partitioned_table JOIN pg_attribute ON attrelid = partrelid AND attnum = partattrs[0]
WHERE partrelid = $1::regclass
"""
FIND_PARTITIONS = """
SELECT child.relname AS name, pg_get_expr(child.relpartbound, child.oid) AS bound
FROM pg_inherits JOIN pg_class AS child ON child.oid = inhrelid
WHERE inhparent = $1::regclass ORDER BY child.relname
"""
TAKE_TURNS = "SELECT pg_advisory_xact_lock(hashtext('muster_partitions'), hashtext($1))"
# Attaching takes a weaker lock on the table than CREATE TABLE … PARTITION OF: traffic goes on.
CREATE = "CREATE TABLE {child} (LIKE {table} INCLUDING ALL)"
MOVE = """
WITH moved AS (
    DELETE FROM {table}_default WHERE {key} >= '{low}' AND {key} < '{high}' RETURNING *
)
INSERT INTO {child} SELECT * FROM moved
"""
ATTACH = "ALTER TABLE {table} ATTACH PARTITION {child} FOR VALUES FROM ('{low}') TO ('{high}')"
DROP = "DROP TABLE {child}"
SWEEP_DEFAULT = "DELETE FROM {table}_default WHERE {key} < '{low}'"
COUNT_DEFAULT = """
SELECT substring(current_schema()::text FROM 8) AS service, count(*) AS rows FROM {table}_default
"""


@dataclass(frozen=True)
class _Key:
    name: str
    is_uuid: bool

    def literal(self, instant: datetime) -> str:
        return str(bound(instant)) if self.is_uuid else instant.isoformat()

    def instant(self, literal: str) -> datetime:
        if self.is_uuid:
            return _EPOCH + timedelta(milliseconds=UUID(literal).int >> 80)
        return datetime.fromisoformat(literal)


@dataclass(frozen=True)
class _Span:
    """A partition and the time it holds, the end excluded."""

    name: str
    low: datetime
    high: datetime


def bound(instant: datetime) -> UUID:
    """The lowest UUID of an instant: every UUIDv7 made from then on is above it."""
    return UUID(int=(instant - _EPOCH) // timedelta(milliseconds=1) << 80)


async def ensure(
    tx: Connection, table: str, *, days_ahead: int = 14, span_days: int = 7, days_behind: int = 0
) -> list[str]:
    """Create what is missing from `days_behind` to `days_ahead`; return the new partitions' names.

    Rows that already went to the default partition move to the new one.
    """
    await tx.execute(TAKE_TURNS, table)
    missing = await _missing(tx, table, days_ahead, span_days, days_behind)
    for span in missing:
        await _make(tx, table, span)
    await watch_default(tx, table)
    return [span.name for span in missing]


async def ensure_all(connection: Connection) -> None:
    """Give every partitioned table of the schema its partitions."""
    for row in await connection.fetch(FIND_TABLES):
        async with connection.transaction():
            await ensure(connection, row["relname"])


async def drop_before(tx: Connection, table: str, instant: datetime) -> list[str]:
    """Drop the partitions that hold nothing from `instant` on; return their names."""
    await tx.execute(TAKE_TURNS, table)
    old = [span.name for span in await _partitions(tx, table) if span.high <= instant]
    for child in old:
        await tx.execute(DROP.format(child=child))
    await _sweep_default(tx, table, instant)
    return old


async def make_ahead(
    pool: Pool, table: str, *, days_ahead: int = 14, span_days: int = 7, days_behind: int = 0
) -> list[str]:
    """Do what `ensure` does under traffic: a short transaction a partition, no long wait for locks.

    What could not be made now, because a lock was not to be had, is made the next time.
    """

    async def missing(tx: Connection) -> list[_Span]:
        return await _missing(tx, table, days_ahead, span_days, days_behind)

    async def make(tx: Connection) -> list[str]:
        # The oldest first: rows may be on their way to it.
        made = (await missing(tx))[:1]
        for span in made:
            await _make(tx, table, span)
        return [span.name for span in made]

    made: list[str] = []
    while one := await _in_turn(pool, table, make):
        made += one
    async with transaction(pool) as tx:
        await watch_default(tx, table)
    return made


async def drop_old(pool: Pool, table: str, instant: datetime) -> list[str]:
    """Do what `drop_before` does under traffic: a short transaction a partition.

    Dropping takes the whole table for a moment (PostgreSQL detaches concurrently only where there
    is no default partition), so it waits for no reader: it comes again.
    """

    async def drop(tx: Connection) -> list[str]:
        old = [span.name for span in await _partitions(tx, table) if span.high <= instant][:1]
        for child in old:
            await tx.execute(DROP.format(child=child))
        return old

    dropped: list[str] = []
    while one := await _in_turn(pool, table, drop):
        dropped += one
    async with transaction(pool) as tx:
        await _sweep_default(tx, table, instant)
    return dropped


async def watch_default(tx: Connection, table: str) -> int:
    """Count the rows of the default partition, for the alarm on it."""
    [found] = await tx.fetch(COUNT_DEFAULT.format(table=table))
    metrics.DEFAULT_PARTITION_ROWS.labels(found["service"], table).set(found["rows"])
    return int(found["rows"])


async def _in_turn(pool: Pool, table: str, work: Callable[[Connection], Awaitable[T]]) -> T | None:
    """Run `work` in a transaction that gives way; None when the locks were not to be had."""
    for attempt in range(_TRIES):
        try:
            async with transaction(pool, _PATIENCE) as tx:
                await tx.execute(TAKE_TURNS, table)
                return await work(tx)
        except (asyncpg.LockNotAvailableError, asyncpg.DeadlockDetectedError):
            pause = min(0.05 * 2**attempt, _LONGEST_PAUSE)
            await asyncio.sleep(pause * random.uniform(0.5, 1))  # noqa: S311 - no secret
    log.warning("A table is in use without a pause: its partitions wait", extra={"table": table})
    return None


async def _missing(
    tx: Connection, table: str, days_ahead: int, span_days: int, days_behind: int
) -> list[_Span]:
    taken = await _partitions(tx, table)
    now = datetime.now(UTC)
    wanted = spans(now - timedelta(days=days_behind), now + timedelta(days=days_ahead), span_days)
    return [
        _Span(f"{table}_p{low:%Y%m%d}", low, high)
        for low, high in wanted
        if not any(low < other.high and other.low < high for other in taken)
    ]


async def _make(tx: Connection, table: str, span: _Span) -> None:
    key = await _key(tx, table)
    names = {"table": table, "key": key.name, "child": span.name}
    names |= {"low": key.literal(span.low), "high": key.literal(span.high)}
    for statement in (CREATE, MOVE, ATTACH):
        await tx.execute(statement.format(**names))


async def _sweep_default(tx: Connection, table: str, instant: datetime) -> None:
    key = await _key(tx, table)
    await tx.execute(SWEEP_DEFAULT.format(table=table, key=key.name, low=key.literal(instant)))


async def _key(tx: Connection, table: str) -> _Key:
    row = await tx.fetchrow(FIND_KEY, table)
    if row is None:
        raise LookupError(f"{table} is not partitioned")
    return _Key(row["name"], row["is_uuid"])


async def _partitions(tx: Connection, table: str) -> list[_Span]:
    key = await _key(tx, table)
    rows = await tx.fetch(FIND_PARTITIONS, table)
    matches = ((row["name"], _BOUND.search(row["bound"])) for row in rows)
    return [
        _Span(name, key.instant(found[1]), key.instant(found[2]))
        for name, found in matches
        if found
    ]


def spans(begin: datetime, end: datetime, days: int) -> Iterator[tuple[datetime, datetime]]:
    """Spans that start on multiples of `days`: every process arrives at the same borders."""
    span = timedelta(days=days)
    start = _EPOCH + ((begin - _EPOCH) // span) * span
    while start <= end:
        yield start, start + span
        start += span
