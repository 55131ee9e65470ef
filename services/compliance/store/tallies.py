"""How many devices are in which state: kept as they move, never counted."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable
from typing import Final
from uuid import UUID

from services.compliance.store.devices import Moved
from shared.db.pool import Connection

FLEET: Final = UUID(int=0)
"""Stands for all policies together: the devices' own states."""

# A connection has a shard of its own, nearly always; in key order, should two meet in one.
ADD = """
INSERT INTO tally (policy_id, state, shard, count)
SELECT policy_id, state, pg_backend_pid() % 16, change
FROM unnest($1::uuid[], $2::text[], $3::bigint[])
    AS moved (policy_id, state, change)
ORDER BY policy_id, state
ON CONFLICT (policy_id, state, shard) DO UPDATE SET count = tally.count + excluded.count
"""

READ = """
SELECT policy_id, state, sum(count)::bigint AS count FROM tally
WHERE $1::uuid[] IS NULL OR policy_id = ANY($1) GROUP BY policy_id, state
"""

DROP = "DELETE FROM tally WHERE policy_id = $1"


async def add(tx: Connection, moved: Iterable[Moved]) -> None:
    """Count devices and verdicts in their new states, and no more in their old ones."""
    changes: Counter[tuple[UUID, str]] = Counter()
    for move in moved:
        policy_id = move.policy_id or FLEET
        if move.before != move.after:
            if move.before is not None:
                changes[policy_id, move.before] -= 1
            if move.after is not None:
                changes[policy_id, move.after] += 1
    rows = [(*key, change) for key, change in changes.items() if change]
    if rows:
        await tx.execute(ADD, [r[0] for r in rows], [r[1] for r in rows], [r[2] for r in rows])


async def read(
    tx: Connection, policy_ids: Iterable[UUID] | None = None
) -> dict[UUID, dict[str, int]]:
    """Policy → state → devices; None: all policies, and FLEET."""
    found: dict[UUID, dict[str, int]] = defaultdict(dict)
    wanted = None if policy_ids is None else list(policy_ids)
    for row in await tx.fetch(READ, wanted):
        found[row["policy_id"]][row["state"]] = row["count"]
    return found


async def drop(tx: Connection, policy_id: UUID) -> None:
    await tx.execute(DROP, policy_id)
