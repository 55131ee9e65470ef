"""Guesses: counted when they are made, forgotten when they were right."""

from __future__ import annotations

from datetime import datetime, timedelta

from shared.db.pool import Pool

# Charged before it is looked at: of many guesses at once each waits for the row, and sees what the
# one before set. Forgotten after a quiet while; else each beyond the free ones doubles the wait.
CHARGE = """
INSERT INTO throttle (key, failures, last_at, until) VALUES ($1, 1, $2, $2)
ON CONFLICT (key) DO UPDATE SET
    failures = CASE WHEN throttle.last_at < $2 - $3::interval THEN 1 ELSE throttle.failures + 1 END,
    last_at = $2,
    until = CASE
        WHEN throttle.last_at < $2 - $3::interval OR throttle.failures < $4 THEN $2
        ELSE $2 + least($5::interval, interval '1 second' * 2 ^ least(throttle.failures - $4, 20))
    END
    WHERE throttle.until <= $2
RETURNING true
"""
REFUND = "UPDATE throttle SET failures = greatest(failures - 1, 0) WHERE key = $1"
UNTIL = "SELECT until FROM throttle WHERE key = $1"
FORGET = "DELETE FROM throttle WHERE key = $1"
SWEEP = "DELETE FROM throttle WHERE last_at < $1"


async def charge(
    pool: Pool, key: str, now: datetime, *, quiet: timedelta, free: int, longest: timedelta
) -> bool:
    """Count an attempt; False: a wait lasts, and nothing was counted."""
    return bool(await pool.fetchval(CHARGE, key, now, quiet, free, longest))


async def refund(pool: Pool, key: str) -> None:
    await pool.execute(REFUND, key)


async def until(pool: Pool, key: str) -> datetime | None:
    """Before this nothing is looked at again."""
    found: datetime | None = await pool.fetchval(UNTIL, key)
    return found


async def forget(pool: Pool, key: str) -> None:
    await pool.execute(FORGET, key)


async def sweep(pool: Pool, before: datetime) -> None:
    await pool.execute(SWEEP, before)
