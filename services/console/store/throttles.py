"""Guesses that failed."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

from shared.db.pool import Pool

# Forgotten after a quiet while; else each failure beyond the free ones doubles the wait.
FAILED = """
INSERT INTO throttle (key, failures, last_at, until)
SELECT key, 1, $2, $2 FROM unnest($1::text[]) AS key ORDER BY key
ON CONFLICT (key) DO UPDATE SET
    failures = CASE WHEN throttle.last_at < $2 - $3::interval THEN 1 ELSE throttle.failures + 1 END,
    last_at = $2,
    until = CASE
        WHEN throttle.last_at < $2 - $3::interval OR throttle.failures < $4 THEN $2
        ELSE $2 + least($5::interval, interval '1 second' * 2 ^ least(throttle.failures - $4, 20))
    END
"""
UNTIL = "SELECT max(until) FROM throttle WHERE key = ANY($1::text[])"
FORGET = "DELETE FROM throttle WHERE key = ANY($1::text[])"
SWEEP = "DELETE FROM throttle WHERE last_at < $1"


async def failed(
    pool: Pool,
    keys: Sequence[str],
    now: datetime,
    *,
    quiet: timedelta,
    free: int,
    longest: timedelta,
) -> None:
    await pool.execute(FAILED, list(keys), now, quiet, free, longest)


async def until(pool: Pool, keys: Sequence[str]) -> datetime | None:
    """Before this none of the keys is looked at again."""
    found: datetime | None = await pool.fetchval(UNTIL, list(keys))
    return found


async def forget(pool: Pool, keys: Sequence[str]) -> None:
    await pool.execute(FORGET, list(keys))


async def sweep(pool: Pool, before: datetime) -> None:
    await pool.execute(SWEEP, before)
