"""Plans that fit: tables that have grown a lot are analysed at once.

A plan that serves for good (docs/decisions/0008-one-plan-for-the-road.md) is made anew only when
statistics change. One that was made while a table was empty may read all of it each time, and
autovacuum looks only once a minute: a queue fills in seconds.
"""

from __future__ import annotations

from shared.db.pool import Connection

# Partitions are left out: no plan depends on how full they are.
GROWN = """
SELECT relname FROM pg_class
WHERE relkind = 'r' AND NOT relispartition AND relnamespace = current_schema()::regnamespace
  AND pg_relation_size(oid) / current_setting('block_size')::int > 2 * relpages + 8
ORDER BY relname
"""


async def analyze_grown(connection: Connection) -> list[str]:
    """Analyse the schema's tables that have more than doubled since; return their names."""
    grown = [row["relname"] for row in await connection.fetch(GROWN)]
    for table in grown:
        await connection.execute(f"ANALYZE {table}")
    return grown
