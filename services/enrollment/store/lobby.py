"""The lobby: enrollments that wait for a person, and what became of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from shared.db.pool import Connection

ADD = """
INSERT INTO lobby (enrollment_id, device_id, udid, conflicts_with, reasons, score, credential_id,
                   handed_to, address, waits_since, expires_at)
SELECT enrollment_id, device_id, udid, conflicts_with, string_to_array(reasons, ','), score,
       credential_id, handed_to, address, $10, $11
FROM unnest($1::uuid[], $2::uuid[], $3::text[], $4::uuid[], $5::text[], $6::int[], $7::uuid[],
            $8::text[], $9::text[])
  AS news (enrollment_id, device_id, udid, conflicts_with, reasons, score, credential_id, handed_to,
           address)
"""


@dataclass(frozen=True, slots=True)
class Guest:
    """An enrollment that begins to wait."""

    enrollment_id: UUID
    device_id: UUID
    udid: str
    conflicts_with: UUID | None
    reasons: Sequence[str]
    score: int
    credential_id: UUID | None
    handed_to: str | None
    address: str | None


async def add(tx: Connection, guests: Sequence[Guest], now: datetime, until: datetime) -> None:
    """They wait from now on, and no longer than `until`."""
    await tx.execute(
        ADD,
        [g.enrollment_id for g in guests],
        [g.device_id for g in guests],
        [g.udid for g in guests],
        [g.conflicts_with for g in guests],
        [",".join(g.reasons) for g in guests],  # codes hold no comma
        [g.score for g in guests],
        [g.credential_id for g in guests],
        [g.handed_to for g in guests],
        [g.address for g in guests],
        now,
        until,
    )
