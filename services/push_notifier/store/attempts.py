"""What was sent, by day; and the circuits of refused certificates."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from shared.db.pool import Connection

RECORD = """
INSERT INTO attempt (attempt_id, channel_id, device_id, sent_at, status, reason)
SELECT * FROM unnest($1::uuid[], $2::uuid[], $3::uuid[], $4::timestamptz[], $5::int[], $6::text[])
"""

RECENT = """
SELECT attempt_id, channel_id, sent_at, status, reason FROM attempt
WHERE device_id = $1 AND ($2::uuid IS NULL OR attempt_id < $2)
ORDER BY attempt_id DESC LIMIT $3
"""

OPEN_CIRCUIT = """
INSERT INTO circuit (topic, open_until, failures, reason)
SELECT topic, $2::timestamptz + $3::interval, 1, $4 FROM unnest($1::text[]) AS topic
ON CONFLICT (topic) DO UPDATE SET
    open_until = $2::timestamptz
        + least(interval '1 hour', $3::interval * 2 ^ least(circuit.failures, 10)),
    failures = circuit.failures + 1, reason = excluded.reason
"""

CLOSE_CIRCUIT = "DELETE FROM circuit WHERE topic = ANY($1::text[])"

COUNT_CIRCUITS = "SELECT count(*) FROM circuit WHERE open_until > $1"


@dataclass(frozen=True)
class Attempt:
    attempt_id: UUID
    channel_id: UUID
    device_id: UUID
    sent_at: datetime
    status: int
    reason: str


async def record(tx: Connection, attempts: Sequence[Attempt]) -> None:
    await tx.execute(
        RECORD,
        [a.attempt_id for a in attempts],
        [a.channel_id for a in attempts],
        [a.device_id for a in attempts],
        [a.sent_at for a in attempts],
        [a.status for a in attempts],
        [a.reason for a in attempts],
    )


async def recent(
    tx: Connection, device_id: UUID, before: UUID | None, limit: int
) -> list[dict[str, object]]:
    return [dict(row) for row in await tx.fetch(RECENT, device_id, before, limit)]


async def open_circuits(
    tx: Connection, topics: Sequence[str], now: datetime, first: timedelta, reason: str
) -> None:
    """No pushes for these topics for `first`, doubling with each refusal up to an hour."""
    await tx.execute(OPEN_CIRCUIT, sorted(set(topics)), now, first, reason)


async def close_circuits(tx: Connection, topics: Sequence[str]) -> None:
    await tx.execute(CLOSE_CIRCUIT, sorted(set(topics)))


async def count_circuits(tx: Connection, now: datetime) -> int:
    return int(await tx.fetchval(COUNT_CIRCUITS, now))
