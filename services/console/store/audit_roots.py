"""Roots: statements about all chains, and the heads that moved since the one before."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from shared.db.pool import Connection

Row = dict[str, Any]
TAKE_TURNS = "SELECT pg_advisory_xact_lock(hashtext('muster_audit_root'))"
LAST = "SELECT * FROM audit_root ORDER BY number DESC LIMIT 1"
HEADS = """
SELECT chain.chain_id, topic, partition_number, chain.first, chain.position, chain.hash,
       recorded_at, (chain.first, chain.position) IS DISTINCT FROM (rooted.first, rooted.position)
           AS moved
FROM audit_chain AS chain LEFT JOIN LATERAL (
    SELECT first, position FROM audit_root_head AS head WHERE head.chain_id = chain.chain_id
    ORDER BY number DESC LIMIT 1
) AS rooted ON true
WHERE chain.position > 0 ORDER BY topic, partition_number
"""
ADD = """
INSERT INTO audit_root (number, signed_at, previous, heads, chains, links, key_id, hash, signature)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)
"""
ADD_HEADS = """
INSERT INTO audit_root_head (number, chain_id, first, position, hash)
SELECT $1, * FROM unnest($2::integer[], $3::bigint[], $4::bigint[], $5::bytea[])
"""
KEEP_KEY = """
INSERT INTO audit_key (key_id, public_key, first_used) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING
"""
KEYS = "SELECT key_id, public_key, first_used FROM audit_key ORDER BY key_id"
FIND = "SELECT * FROM audit_root WHERE number = ANY($1::bigint[])"
FIRST = "SELECT min(number) FROM audit_root"


async def last_alone(tx: Connection) -> Row | None:
    """The newest root; nobody else adds one until the transaction ends."""
    await tx.execute(TAKE_TURNS)
    return await last(tx)


async def last(tx: Connection) -> Row | None:
    row = await tx.fetchrow(LAST)
    return None if row is None else dict(row)


async def heads(tx: Connection) -> list[Row]:
    """Where every chain begins and ends; `moved`: the newest root says otherwise."""
    return [dict(row) for row in await tx.fetch(HEADS)]


async def add(tx: Connection, root: Sequence[Any], moved: Sequence[Row]) -> None:
    """`root` has the columns of ADD."""
    await tx.execute(ADD, *root)
    if moved:
        names = ("chain_id", "first", "position", "hash")
        columns = [tuple(head[name] for name in names) for head in moved]
        await tx.execute(ADD_HEADS, root[0], *zip(*columns, strict=True))


async def keep_key(tx: Connection, key_id: str, public_key: bytes, now: datetime) -> None:
    await tx.execute(KEEP_KEY, key_id, public_key, now)


async def keys(tx: Connection) -> list[Row]:
    return [dict(row) for row in await tx.fetch(KEYS)]


async def find(tx: Connection, numbers: Sequence[int]) -> dict[int, Row]:
    return {row["number"]: dict(row) for row in await tx.fetch(FIND, list(numbers))}


async def first(tx: Connection) -> int | None:
    """The number of the oldest root that is kept."""
    number: int | None = await tx.fetchval(FIRST)
    return number
