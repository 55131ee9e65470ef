"""Years of the audit, made by PostgreSQL itself: few actors and kinds of acts do most of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final
from uuid import UUID

import asyncpg

from shared.db import partitions
from tools.bench.past import ID

DAYS: Final = 400
CHAINS: Final = """
INSERT INTO audit_chain (topic, partition_number, position)
SELECT 'muster.audit.command_queue.v1', n, $1 FROM generate_series(0, 23) AS n
ON CONFLICT DO NOTHING
"""
# Rows are links by shape alone: nobody verifies them here.
ENTRIES: Final = f"""
INSERT INTO audit (
    chain_id, position, recorded_at, record_offset, previous, hash, content_hash, event_id, service,
    occurred_at, action, permission, salt, audit_id, actor, target, correlation_id, before, after)
SELECT i % 24 + 1, i / 24 + 1, at, i, decode(md5(i::text) || md5(i::text), 'hex'),
    decode(md5(i::text) || md5(i::text), 'hex'), decode(md5(i::text) || md5(i::text), 'hex'),
    {ID.format(at="at", i="i")},
    CASE WHEN i % 3000 = 0 THEN 'push_notifier' ELSE 'command_queue' END, at,
    CASE WHEN i % 5 > 0 THEN 'command.create' ELSE 'act.' || i % 40 END, 'command.request', '\\x00',
    gen_random_uuid(), 'account:' || CASE WHEN i % 3 > 0 THEN 1 ELSE i % 500 END,
    'target ' || i % ($1::int / 3), 'correlation ' || i / 10, NULL, '{{"state": "active"}}'
FROM (
    SELECT i, now() - interval '{DAYS} days' * (1 - i / $1::float8) AS at
    FROM generate_series(1, $1::int) AS i
) AS made
"""
SOME: Final = """
SELECT event_id, actor, action, target, correlation_id FROM audit
WHERE event_id > $1 AND actor <> 'account:1' AND action <> 'command.create'
ORDER BY event_id LIMIT 1
"""


@dataclass(frozen=True)
class Entry:
    """A rare one of the middle, to be looked for."""

    event_id: UUID
    actor: str
    action: str
    target: str
    correlation_id: str


async def fill(dsn: str, rows: int) -> Entry:
    connection = await asyncpg.connect(
        dsn, server_settings={"statement_timeout": "0", "jit": "off"}
    )
    try:
        await connection.execute(CHAINS, rows // 24)
        async with connection.transaction():
            await partitions.ensure(connection, "audit", days_behind=DAYS)
        await connection.execute(ENTRIES, rows)
        await connection.execute("ANALYZE audit")
        middle = await connection.fetchval("SELECT now() - $1 * interval '1 day'", DAYS / 2)
        row = await connection.fetchrow(SOME, partitions.bound(middle))
        if row is None:
            raise RuntimeError("the audit was not filled")
        return Entry(**row)
    finally:
        await connection.close()
