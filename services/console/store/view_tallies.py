"""How many devices there are of each kind, and what happened on which day: never counted anew."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Mapping
from datetime import date
from typing import Any, Final
from uuid import UUID

from shared.db.pool import Connection

DIMENSIONS: Final = ("status", "platform", "ownership", "compliance", "os")

# `managed` devices only, but for the status: what ended is history, not fleet.
KINDS = """
SELECT status,
       CASE WHEN status = 'enrolled' THEN platform END AS platform,
       CASE WHEN status = 'enrolled' THEN ownership END AS ownership,
       CASE WHEN status = 'enrolled' THEN compliance END AS compliance,
       CASE WHEN status = 'enrolled' THEN platform || ' ' || os_version END AS os
FROM device WHERE device_id = ANY($1::uuid[]) AND sequence <> 0
"""
# A connection has a shard of its own, nearly always; in key order, should two meet in one.
ADD = """
INSERT INTO tally (dimension, value, shard, count)
SELECT dimension, value, pg_backend_pid() % 16, change
FROM unnest($1::text[], $2::text[], $3::bigint[]) AS moved (dimension, value, change)
ORDER BY dimension, value
ON CONFLICT (dimension, value, shard) DO UPDATE SET count = tally.count + excluded.count
"""
READ = """
SELECT dimension, value, sum(count)::bigint AS count FROM tally
WHERE dimension = ANY($1::text[]) GROUP BY dimension, value HAVING sum(count) > 0
ORDER BY count DESC, value
"""
DROP = "DELETE FROM tally WHERE dimension = 'policy' AND starts_with(value, $1)"
# For people who see some groups only: their devices, looked up by index.
COUNT = f"""
WITH shown AS (
    SELECT status,
           CASE WHEN status = 'enrolled' THEN platform END AS platform,
           CASE WHEN status = 'enrolled' THEN ownership END AS ownership,
           CASE WHEN status = 'enrolled' THEN compliance END AS compliance,
           CASE WHEN status = 'enrolled' THEN platform || ' ' || os_version END AS os
    FROM device WHERE groups <> '{{}}' AND groups && $1::uuid[] AND sequence > 0
)
SELECT CASE {" ".join(f"WHEN grouping({name}) = 0 THEN '{name}'" for name in DIMENSIONS)} END
           AS dimension,
       coalesce({", ".join(DIMENSIONS)}) AS value, count(*) AS count
FROM shown GROUP BY GROUPING SETS (({"), (".join(DIMENSIONS)}))
HAVING coalesce({", ".join(DIMENSIONS)}) IS NOT NULL
ORDER BY count DESC, value
"""
ADD_DAILY = """
INSERT INTO daily (day, what, shard, count)
SELECT day, what, pg_backend_pid() % 16, change
FROM unnest($1::date[], $2::text[], $3::bigint[]) AS happened (day, what, change)
ORDER BY day, what
ON CONFLICT (day, what, shard) DO UPDATE SET count = daily.count + excluded.count
"""
READ_DAILY = """
SELECT day, what, sum(count)::bigint AS count FROM daily
WHERE day >= $1 GROUP BY day, what ORDER BY day, what
"""
DROP_DAILY = "DELETE FROM daily WHERE day < $1"

Kinds = Counter[tuple[str, str]]
"""(dimension, value) → devices."""
Counts = dict[str, dict[str, int]]
"""Dimension → value → devices, the most first."""


async def kinds(tx: Connection, device_ids: Collection[UUID]) -> Kinds:
    """What these devices are counted under now."""
    found: Kinds = Counter()
    for row in await tx.fetch(KINDS, list(device_ids)):
        found.update((name, row[name]) for name in DIMENSIONS if row[name] is not None)
    return found


async def add(tx: Connection, changes: Mapping[tuple[str, str], int]) -> None:
    rows = [(*key, change) for key, change in changes.items() if change]
    if rows:
        await tx.execute(ADD, *zip(*rows, strict=True))


async def read(tx: Connection, dimensions: Collection[str] = DIMENSIONS) -> Counts:
    return _by_dimension(await tx.fetch(READ, list(dimensions)))


async def count(tx: Connection, groups: Collection[UUID]) -> Counts:
    """The same for the devices of some groups alone."""
    return _by_dimension(await tx.fetch(COUNT, list(groups)))


async def drop_policy(tx: Connection, policy_id: UUID) -> None:
    await tx.execute(DROP, f"{policy_id} ")


def _by_dimension(rows: Collection[Any]) -> Counts:
    found: Counts = defaultdict(dict)
    for row in rows:
        found[row["dimension"]][row["value"]] = row["count"]
    return found


async def add_daily(tx: Connection, happened: Mapping[tuple[date, str], int]) -> None:
    """(day, what) → how often more."""
    rows = [(*key, change) for key, change in happened.items()]
    if rows:
        await tx.execute(ADD_DAILY, *zip(*rows, strict=True))


async def read_daily(tx: Connection, since: date) -> dict[str, dict[date, int]]:
    """What → day → how often."""
    found: dict[str, dict[date, int]] = defaultdict(dict)
    for row in await tx.fetch(READ_DAILY, since):
        found[row["what"]][row["day"]] = row["count"]
    return found


async def drop_daily(tx: Connection, before: date) -> None:
    await tx.execute(DROP_DAILY, before)
