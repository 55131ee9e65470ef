"""The audit: links are added, never changed; what people are named by may be erased."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from shared.db.pool import Connection

# In the order of their ids: batches of several partitions wait for each other instead of dying.
LOCK_CHAINS = """
SELECT chain_id, topic, partition_number, position, hash,
       greatest(clock_timestamp(), recorded_at) AS now
FROM audit_chain
WHERE (topic, partition_number) IN (SELECT * FROM unnest($1::text[], $2::integer[]))
ORDER BY chain_id FOR NO KEY UPDATE
"""
MAKE_CHAINS = """
INSERT INTO audit_chain (topic, partition_number)
SELECT topic, partition_number
FROM unnest($1::text[], $2::integer[]) AS wanted (topic, partition_number)
WHERE NOT EXISTS (
    SELECT FROM audit_chain AS known
    WHERE (known.topic, known.partition_number) = (wanted.topic, wanted.partition_number))
ORDER BY topic, partition_number
ON CONFLICT DO NOTHING
"""
APPEND = """
INSERT INTO audit (
    chain_id, position, recorded_at, record_offset, previous, hash, content_hash, event_id, service,
    occurred_at, action, permission, salt, audit_id, actor, target, before, after, reason, source,
    via, correlation_id)
SELECT * FROM unnest(
    $1::integer[], $2::bigint[], $3::timestamptz[], $4::bigint[], $5::bytea[], $6::bytea[],
    $7::bytea[], $8::uuid[], $9::text[], $10::timestamptz[], $11::text[], $12::text[],
    $13::bytea[], $14::uuid[], $15::text[], $16::text[], $17::text[], $18::text[], $19::text[],
    $20::text[], $21::text[], $22::text[])
"""
MOVE_HEADS = """
UPDATE audit_chain AS chain
SET position = head.position, hash = head.hash, recorded_at = head.recorded_at
FROM unnest($1::integer[], $2::bigint[], $3::bytea[], $4::timestamptz[])
    AS head (chain_id, position, hash, recorded_at)
WHERE chain.chain_id = head.chain_id
"""
COLUMNS = """
    chain.topic, chain.partition_number, audit.position, audit.recorded_at, record_offset, previous,
    audit.hash, content_hash, event_id, service, occurred_at, action, permission, salt, audit_id,
    actor, target, before, after, reason, source, via, correlation_id, erased_at
"""


@dataclass(frozen=True)
class Chain:
    """A chain that is held, as it ends now."""

    chain_id: int
    topic: str
    partition_number: int
    position: int
    hash: bytes
    now: datetime


@dataclass(frozen=True)
class Added:
    """A new row, in the order of APPEND."""

    chain_id: int
    position: int
    recorded_at: datetime
    record_offset: int
    previous: bytes
    hash: bytes
    content_hash: bytes
    event_id: UUID
    service: str
    occurred_at: datetime
    action: str
    permission: str
    salt: bytes
    audit_id: UUID
    actor: str
    target: str
    before: str | None
    after: str | None
    reason: str | None
    source: str | None
    via: str | None
    correlation_id: str | None


async def hold(tx: Connection, wanted: Sequence[tuple[str, int]]) -> list[Chain]:
    """Hold these chains until the transaction ends: nobody else adds to them. New ones are made."""
    topics, partitions = zip(*wanted, strict=True)
    found = await tx.fetch(LOCK_CHAINS, topics, partitions)
    if len(found) < len(wanted):
        await tx.execute(MAKE_CHAINS, topics, partitions)
        found = await tx.fetch(LOCK_CHAINS, topics, partitions)
    return [Chain(**dict(row)) for row in found]


async def append(tx: Connection, added: Sequence[Added]) -> None:
    """Add rows, each chain's in order, and move the heads of their chains."""
    rows: list[tuple[Any, ...]] = [tuple(vars(each).values()) for each in added]
    await tx.execute(APPEND, *zip(*rows, strict=True))
    heads = {each.chain_id: each for each in added}.values()
    columns = [(e.chain_id, e.position, e.hash, e.recorded_at) for e in heads]
    await tx.execute(MOVE_HEADS, *zip(*columns, strict=True))
