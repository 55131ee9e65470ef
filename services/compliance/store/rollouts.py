"""Changed policies on their way through the fleet."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from shared.db.pool import Connection

START = """
INSERT INTO rollout (policy_id, version, deleting, started_at) VALUES ($1, $2, $3, $4)
ON CONFLICT (policy_id) DO UPDATE SET
    version = excluded.version, deleting = excluded.deleting, after = NULL, judged = 0,
    started_at = excluded.started_at, finished_at = NULL
"""

NEXT = """
SELECT policy_id, version, deleting, after FROM rollout
WHERE finished_at IS NULL ORDER BY started_at, policy_id LIMIT 1
"""

# Begun again in the meantime (another version): the new beginning stands.
ADVANCE = """
UPDATE rollout SET after = $3, judged = judged + $4
WHERE policy_id = $1 AND version = $2 AND NOT deleting AND finished_at IS NULL
"""

FINISH = """
UPDATE rollout SET finished_at = $4
WHERE policy_id = $1 AND version = $2 AND deleting = $3 AND finished_at IS NULL
"""

READ = "SELECT judged, started_at, finished_at FROM rollout WHERE policy_id = $1"


@dataclass(frozen=True)
class Rollout:
    policy_id: UUID
    version: int
    deleting: bool
    after: UUID | None


async def start(
    tx: Connection, policy_id: UUID, version: int, at: datetime, *, deleting: bool = False
) -> None:
    """Begin, or begin again, to judge every device by this version."""
    await tx.execute(START, policy_id, version, deleting, at)


async def following(tx: Connection) -> Rollout | None:
    """Return the one that has waited longest."""
    row = await tx.fetchrow(NEXT)
    return None if row is None else Rollout(**row)


async def advance(tx: Connection, rollout: Rollout, after: UUID, judged: int) -> None:
    await tx.execute(ADVANCE, rollout.policy_id, rollout.version, after, judged)


async def finish(tx: Connection, rollout: Rollout, at: datetime) -> None:
    await tx.execute(FINISH, rollout.policy_id, rollout.version, rollout.deleting, at)


async def read(tx: Connection, policy_id: UUID) -> dict[str, Any] | None:
    row = await tx.fetchrow(READ, policy_id)
    return None if row is None else dict(row)
