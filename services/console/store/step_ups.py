"""Proofs for one request each."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from shared.db.pool import Connection, Pool

PROVE = """
INSERT INTO step_up (session_id, digest, proven_at) VALUES ($1, $2, $3)
ON CONFLICT (session_id, digest) DO UPDATE SET proven_at = excluded.proven_at
"""
SPEND = """
DELETE FROM step_up WHERE session_id = $1 AND digest = $2 RETURNING proven_at > $3
"""


async def prove(tx: Connection, session_id: UUID, digest: bytes, now: datetime) -> None:
    await tx.execute(PROVE, session_id, digest, now)


async def spend(pool: Pool, session_id: UUID, digest: bytes, after: datetime) -> bool:
    """Whether there is a proof from after that instant; it is gone either way."""
    return bool(await pool.fetchval(SPEND, session_id, digest, after))
