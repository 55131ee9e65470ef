"""Tables partitioned by the time inside their UUIDv7 key: made ahead of time, dropped when old.

A table is `PARTITION BY RANGE (key uuid)` and has a default partition `<table>_default`, so that a
row always finds a place; rows in it mean that nobody made partitions in time.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from uuid import UUID

from shared.db import metrics
from shared.db.pool import Connection

_BOUND = re.compile(r"FROM \('([0-9a-f-]{36})'\) TO \('([0-9a-f-]{36})'\)")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

# Tables that are partitioned otherwise, by hash for example, are left alone.
FIND_TABLES = """
SELECT relname FROM pg_class
WHERE relkind = 'p' AND relnamespace = current_schema()::regnamespace AND NOT relispartition
  AND pg_get_partkeydef(oid) LIKE 'RANGE (%)' AND to_regclass(relname || '_default') IS NOT NULL
ORDER BY relname
"""
FIND_KEY = "SELECT substring(pg_get_partkeydef($1::regclass) FROM 'RANGE \\((\\w+)\\)')"
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
COUNT_DEFAULT = "SELECT count(*) FROM {table}_default"


def bound(instant: datetime) -> UUID:
    """The lowest UUID of an instant: every UUIDv7 made from then on is above it."""
    return UUID(int=int((instant - _EPOCH).total_seconds() * 1000) << 80)


async def ensure(
    tx: Connection, table: str, *, days_ahead: int = 14, span_days: int = 7, days_behind: int = 0
) -> list[str]:
    """Create what is missing from `days_behind` to `days_ahead`; return the new partitions' names.

    Rows that already went to the default partition move to the new one.
    """
    await tx.execute(TAKE_TURNS, table)
    key = await tx.fetchval(FIND_KEY, table)
    taken = [(low, high) for _, low, high in await _partitions(tx, table)]
    now = datetime.now(UTC)
    made = []
    for begin, end in _spans(
        now - timedelta(days=days_behind), now + timedelta(days=days_ahead), span_days
    ):
        low, high = bound(begin), bound(end)
        if any(low < other_high and other_low < high for other_low, other_high in taken):
            continue
        names = {"table": table, "key": key, "low": low, "high": high}
        names["child"] = child = f"{table}_p{begin:%Y%m%d}"
        for statement in (CREATE, MOVE, ATTACH):
            await tx.execute(statement.format(**names))
        made.append(child)
    await watch_default(tx, table)
    return made


async def ensure_all(connection: Connection) -> None:
    """Give every partitioned table of the schema its partitions."""
    for row in await connection.fetch(FIND_TABLES):
        async with connection.transaction():
            await ensure(connection, row["relname"])


async def drop_before(tx: Connection, table: str, instant: datetime) -> list[str]:
    """Drop the partitions that hold nothing from `instant` on; return their names."""
    await tx.execute(TAKE_TURNS, table)
    low = bound(instant)
    dropped = [name for name, _, high in await _partitions(tx, table) if high <= low]
    for child in dropped:
        await tx.execute(DROP.format(child=child))
    key = await tx.fetchval(FIND_KEY, table)
    await tx.execute(SWEEP_DEFAULT.format(table=table, key=key, low=low))
    return dropped


async def watch_default(tx: Connection, table: str) -> int:
    """Count the rows of the default partition, for the alarm on it."""
    count: int = await tx.fetchval(COUNT_DEFAULT.format(table=table))
    metrics.DEFAULT_PARTITION_ROWS.labels(table).set(count)
    return count


async def _partitions(tx: Connection, table: str) -> list[tuple[str, UUID, UUID]]:
    rows = await tx.fetch(FIND_PARTITIONS, table)
    matches = ((row["name"], _BOUND.search(row["bound"])) for row in rows)
    return [(name, UUID(found[1]), UUID(found[2])) for name, found in matches if found]


def _spans(begin: datetime, end: datetime, days: int) -> Iterator[tuple[datetime, datetime]]:
    """Spans that start on multiples of `days`: every process arrives at the same borders."""
    span = timedelta(days=days)
    start = _EPOCH + ((begin - _EPOCH) // span) * span
    while start <= end:
        yield start, start + span
        start += span
