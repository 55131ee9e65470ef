"""What becomes of the audit with time: beginnings go, content is erased, it is looked at."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from shared.db.pool import Connection

Row = dict[str, Any]
# From the first link of this time on, else from the next that will come.
MOVE_FIRSTS = """
UPDATE audit_chain AS chain SET first = kept.first
FROM (
    SELECT chain_id, coalesce((
        SELECT position FROM audit
        WHERE audit.chain_id = every.chain_id AND recorded_at >= $1 ORDER BY position LIMIT 1
    ), every.position + 1) AS first
    FROM audit_chain AS every
) AS kept
WHERE kept.chain_id = chain.chain_id AND chain.first < kept.first
RETURNING chain.chain_id
"""
UNSAID = """
SELECT count(*) FROM audit_chain AS chain
WHERE first > 1 AND first IS DISTINCT FROM (
    SELECT first FROM audit_root_head AS head WHERE head.chain_id = chain.chain_id
    ORDER BY number DESC LIMIT 1)
"""
# The first root that speaks of no link that is gone.
NEEDED = """
SELECT max(reached.number) FROM audit_chain AS chain CROSS JOIN LATERAL (
    SELECT number FROM audit_root_head AS head
    WHERE head.chain_id = chain.chain_id AND head.position >= chain.first - 1
    ORDER BY number LIMIT 1
) AS reached
WHERE chain.first > 1
"""
DROP_ROOTS = "DELETE FROM audit_root WHERE number < $1 AND signed_at < $2"
DROP_HEADS = """
DELETE FROM audit_root_head AS old
WHERE number < (SELECT min(number) FROM audit_root) AND EXISTS (
    SELECT FROM audit_root_head AS newer
    WHERE newer.chain_id = old.chain_id AND newer.number > old.number
      AND newer.number <= (SELECT min(number) FROM audit_root))
"""
_ERASE = """
UPDATE audit SET salt = NULL, audit_id = NULL, actor = NULL, target = NULL, before = NULL,
    after = NULL, reason = NULL, source = NULL, via = NULL, correlation_id = NULL,
    erased_at = $2
WHERE erased_at IS NULL AND {condition}
"""
ERASE_ENTRIES = _ERASE.format(condition="event_id = ANY($1::uuid[])")
ERASE_ACTOR = _ERASE.format(condition="actor = $1")
ERASE_TARGET = _ERASE.format(condition="target = $1")
CHECK = "SELECT * FROM audit_check"
KEEP_CHECK = """
INSERT INTO audit_check (checked_at, root, signed_at, whole_at, links, fault_kind, fault)
VALUES ($1, $2, $3, $4, $5, $6, $7)
ON CONFLICT (single) DO UPDATE SET
    checked_at = excluded.checked_at, root = excluded.root, signed_at = excluded.signed_at,
    whole_at = excluded.whole_at, links = excluded.links, fault_kind = excluded.fault_kind,
    fault = excluded.fault
"""


async def move_firsts(tx: Connection, instant: datetime) -> int:
    """Say that chains are kept from `instant` on; return how many chains that changed."""
    return len(await tx.fetch(MOVE_FIRSTS, instant))


async def unsaid(tx: Connection) -> int:
    """Chains of which no root says yet from where on they are kept."""
    count: int = await tx.fetchval(UNSAID)
    return count


async def drop_roots(tx: Connection, instant: datetime) -> None:
    """Forget roots from before `instant` that are over links that are gone."""
    needed = await tx.fetchval(NEEDED)
    if needed is not None:
        await tx.execute(DROP_ROOTS, needed, instant)
        await tx.execute(DROP_HEADS)


async def erase_entries(tx: Connection, event_ids: Sequence[UUID], now: datetime) -> int:
    return _count(await tx.execute(ERASE_ENTRIES, list(event_ids), now))


async def erase_actor(tx: Connection, actor: str, now: datetime) -> int:
    return _count(await tx.execute(ERASE_ACTOR, actor, now))


async def erase_target(tx: Connection, target: str, now: datetime) -> int:
    return _count(await tx.execute(ERASE_TARGET, target, now))


async def check(tx: Connection) -> Row | None:
    """What the last look found."""
    row = await tx.fetchrow(CHECK)
    return None if row is None else dict(row)


async def keep_check(tx: Connection, found: Sequence[Any]) -> None:
    """`found` has the columns of KEEP_CHECK."""
    await tx.execute(KEEP_CHECK, *found)


def _count(tag: str) -> int:
    return int(tag.removeprefix("UPDATE "))
