"""The push certificates that push_notifier announced."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from shared.db.pool import Connection
from shared.events.pushes import PushCertificateChanged

REPLACE = """
INSERT INTO push_certificate (topic, fingerprint, not_after, development, current, sequence)
SELECT * FROM unnest($1::text[], $2::text[], $3::timestamptz[], $4::bool[], $5::bool[],
                     $6::bigint[])
ON CONFLICT (topic) DO UPDATE SET
    fingerprint = excluded.fingerprint,
    not_after = excluded.not_after,
    development = excluded.development,
    current = excluded.current,
    sequence = excluded.sequence
WHERE push_certificate.sequence < excluded.sequence
"""
CURRENT = """
SELECT topic, development FROM push_certificate
WHERE current AND not_after > $1 ORDER BY sequence DESC LIMIT 1
"""
# Also of a topic that new profiles no longer name: its devices are still woken.
SERVED = "SELECT topic FROM push_certificate WHERE topic = ANY($1::text[]) AND not_after > $2"


async def replace(tx: Connection, news: Sequence[PushCertificateChanged]) -> None:
    """Replace what is known of each topic; older news is ignored. A topic occurs once."""
    await tx.execute(
        REPLACE,
        [n.topic for n in news],
        [n.fingerprint for n in news],
        [n.not_after for n in news],
        [n.development for n in news],
        [n.current for n in news],
        [n.meta.sequence for n in news],
    )


async def current(tx: Connection, now: datetime) -> tuple[str, bool] | None:
    """The topic that new profiles name, and whether it belongs to the development environment."""
    row = await tx.fetchrow(CURRENT, now)
    return (row["topic"], row["development"]) if row else None


async def served(tx: Connection, topics: Sequence[str], now: datetime) -> set[str]:
    """Which of these topics a push certificate can reach."""
    return {row["topic"] for row in await tx.fetch(SERVED, list(topics), now)}
