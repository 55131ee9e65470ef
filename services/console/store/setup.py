"""Whether this installation was set up, and the one token that may do it."""

from __future__ import annotations

from datetime import datetime

from shared.db.pool import Connection, Pool

OFFER = """
INSERT INTO setup (token_hash, expires_at) VALUES ($1, $2)
ON CONFLICT (one) DO UPDATE SET token_hash = excluded.token_hash, expires_at = excluded.expires_at
    WHERE setup.done_at IS NULL
RETURNING true
"""
SPEND = """
UPDATE setup SET done_at = $2, token_hash = NULL, expires_at = NULL
WHERE token_hash = $1 AND expires_at > $2 AND done_at IS NULL
RETURNING true
"""
IS_OPEN = """
SELECT EXISTS (SELECT FROM setup WHERE token_hash = $1 AND expires_at > $2 AND done_at IS NULL)
"""


async def offer(tx: Connection, token_hash: bytes, expires_at: datetime) -> bool:
    """Let this token be the one; an earlier one counts no more. False: set up already."""
    return bool(await tx.fetchval(OFFER, token_hash, expires_at))


async def spend(tx: Connection, token_hash: bytes, now: datetime) -> bool:
    """Mark set-up done if this is the token and in time; of many at once one succeeds."""
    return bool(await tx.fetchval(SPEND, token_hash, now))


async def is_open(pool: Pool, token_hash: bytes, now: datetime) -> bool:
    """Whether this token could be spent now."""
    return bool(await pool.fetchval(IS_OPEN, token_hash, now))
