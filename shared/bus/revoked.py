"""Which sessions and API tokens ended: every service keeps it, as `muster.access.v1` tells."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from shared.db.pool import Connection, Pool
from shared.events.access import ViaRevoked

_KEPT = timedelta(days=1)

KEEP = """
INSERT INTO revoked_via (via, revoked_at) SELECT * FROM unnest($1::text[], $2::timestamptz[])
ON CONFLICT (via) DO NOTHING
"""
FORGET = "DELETE FROM revoked_via WHERE revoked_at < $1"
SINCE = "SELECT via FROM revoked_via WHERE revoked_at > $1"


async def keep(tx: Connection, events: Sequence[ViaRevoked]) -> None:
    """Remember what ended within a day; read again from the start it changes nothing."""
    oldest = datetime.now(UTC) - _KEPT
    fresh = [event for event in events if event.revoked_at > oldest]
    if fresh:
        await tx.execute(KEEP, [e.via for e in fresh], [e.revoked_at for e in fresh])
        await tx.execute(FORGET, oldest)


async def since(pool: Pool, instant: datetime) -> frozenset[str]:
    return frozenset(row["via"] for row in await pool.fetch(SINCE, instant))
