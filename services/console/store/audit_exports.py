"""Reading whole chains and the roots over them, in pieces."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from services.console.store.audit import COLUMNS
from shared.db.pool import Connection

Row = dict[str, Any]
# Where each chain begins now: the first link that is kept, and the last position of all.
BEGINNINGS = """
SELECT chain.chain_id, topic, partition_number, chain.position, chain.hash,
       coalesce(kept.position, chain.position + 1) AS kept_from,
       coalesce(kept.previous, chain.hash) AS previous
FROM audit_chain AS chain LEFT JOIN LATERAL (
    SELECT position, previous FROM audit WHERE audit.chain_id = chain.chain_id
    ORDER BY position LIMIT 1
) AS kept ON true
WHERE chain.position > 0 ORDER BY topic, partition_number
"""
HEADS_AT = """
SELECT chain_id, topic, partition_number, head.first, head.position, head.hash
FROM audit_chain AS chain CROSS JOIN LATERAL (
    SELECT first, position, hash FROM audit_root_head AS head
    WHERE head.chain_id = chain.chain_id AND number <= $1 ORDER BY number DESC LIMIT 1
) AS head
ORDER BY topic, partition_number
"""
# The first root that says of this chain as much as is kept of it.
REACHES = """
SELECT number FROM audit_root_head
WHERE chain_id = $1 AND position >= $2 ORDER BY number LIMIT 1
"""
SIGNED_BY = "SELECT max(number) FROM audit_root WHERE signed_at <= $1"
SIGNED_AFTER = "SELECT min(number) FROM audit_root WHERE signed_at >= $1"
ROOTS = "SELECT * FROM audit_root WHERE number BETWEEN $1 AND $2 ORDER BY number LIMIT $3"
MOVED = """
SELECT number, chain_id, topic, partition_number, head.first, head.position, head.hash
FROM audit_root_head AS head JOIN audit_chain USING (chain_id)
WHERE number BETWEEN $1 AND $2 ORDER BY number, topic, partition_number
"""
# Rows of one position, should somebody have made a second one, come in the order of their times.
LINKS = f"""
SELECT place, {COLUMNS}
FROM unnest($1::integer[], $2::bigint[], $3::bigint[])
         WITH ORDINALITY AS wanted (chain_id, low, high, place)
    JOIN audit_chain AS chain USING (chain_id)
    CROSS JOIN LATERAL (
        SELECT * FROM audit
        WHERE audit.chain_id = wanted.chain_id AND position > low AND position <= high
    ) AS audit
ORDER BY place, audit.position, audit.recorded_at
"""
REST = f"""
SELECT {COLUMNS} FROM audit JOIN audit_chain AS chain USING (chain_id)
WHERE chain_id = $1 AND audit.position > $2 ORDER BY audit.position, audit.recorded_at LIMIT $3
"""


async def beginnings(tx: Connection) -> list[Row]:
    return [dict(row) for row in await tx.fetch(BEGINNINGS)]


async def heads_at(tx: Connection, number: int) -> list[Row]:
    """All chains as they stood under a root."""
    return [dict(row) for row in await tx.fetch(HEADS_AT, number)]


async def reaches(tx: Connection, chain_id: int, position: int) -> int | None:
    number: int | None = await tx.fetchval(REACHES, chain_id, position)
    return number


async def signed_by(tx: Connection, instant: datetime) -> int | None:
    """The last root of this time or before."""
    number: int | None = await tx.fetchval(SIGNED_BY, instant)
    return number


async def signed_after(tx: Connection, instant: datetime) -> int | None:
    """The first root of this time or after."""
    number: int | None = await tx.fetchval(SIGNED_AFTER, instant)
    return number


async def roots(tx: Connection, first: int, last: int, limit: int) -> list[Row]:
    return [dict(row) for row in await tx.fetch(ROOTS, first, last, limit)]


async def moved(tx: Connection, first: int, last: int) -> list[Row]:
    """The heads that moved with each of these roots."""
    return [dict(row) for row in await tx.fetch(MOVED, first, last)]


async def links(tx: Connection, spans: Sequence[tuple[int, int, int]]) -> list[Row]:
    """Links of spans (chain, behind, up to), each span's together; `place` counts spans from 1."""
    return [dict(row) for row in await tx.fetch(LINKS, *zip(*spans, strict=True))]


async def rest(tx: Connection, chain_id: int, behind: int, limit: int) -> list[Row]:
    return [dict(row) for row in await tx.fetch(REST, chain_id, behind, limit)]
