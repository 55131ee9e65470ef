"""What destructive commands have cost so far, over sliding windows."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from uuid import UUID

from shared.db.pool import Connection

# Two commands at once must not both fit into the last free place.
TAKE_TURNS = "SELECT FROM installation FOR UPDATE"
SUMS = """
SELECT coalesce(sum(targets) FILTER (WHERE charged_at > $1::timestamptz - interval '1 hour'), 0)
           AS hour,
       coalesce(sum(targets), 0) AS day
FROM charge WHERE charged_at > $1::timestamptz - interval '1 day'
"""
ADD = """
INSERT INTO charge (command_id, charged_at, targets)
SELECT told.command_id, $3, told.targets
FROM unnest($1::uuid[], $2::int[]) AS told (command_id, targets)
"""
FORGET = "DELETE FROM charge WHERE charged_at < $1"
_KEPT = timedelta(days=40)


async def lock_and_sum(tx: Connection, now: datetime) -> tuple[int, int]:
    """Return the targets charged in the last hour and day; others wait until this commits."""
    await tx.execute(TAKE_TURNS)
    row = await tx.fetchrow(SUMS, now)
    return (0, 0) if row is None else (row["hour"], row["day"])


async def add(tx: Connection, charges: Sequence[tuple[UUID, int]], now: datetime) -> None:
    await tx.execute(ADD, [one[0] for one in charges], [one[1] for one in charges], now)


async def forget(tx: Connection, now: datetime) -> None:
    await tx.execute(FORGET, now - _KEPT)
