"""Which sections devices reported, and when."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from shared.db.pool import Connection

# Times of different machines may cross: a newer report is never dated before an older one, so that
# periods in the history stay in order.
RECORD = """
WITH news AS (
    SELECT * FROM jsonb_to_recordset($1::jsonb) AS news (
        device_id uuid, section text, sequence bigint, observed_at timestamptz,
        enrollment_id uuid, generation integer, answered text[])
), before AS (
    SELECT report.* FROM report JOIN news USING (device_id, section)
), written AS (
    INSERT INTO report (device_id, section, sequence, observed_at, enrollment_id, generation,
                        answered, announced_at)
    SELECT *, observed_at FROM news
    ON CONFLICT (device_id, section) DO UPDATE SET
        sequence = excluded.sequence,
        observed_at = greatest(report.observed_at, excluded.observed_at),
        enrollment_id = excluded.enrollment_id,
        generation = excluded.generation,
        answered = excluded.answered,
        announced_at = CASE
            WHEN (report.enrollment_id, report.generation, report.answered)
                 IS DISTINCT FROM (excluded.enrollment_id, excluded.generation, excluded.answered)
              OR report.announced_at <= excluded.observed_at - $2::interval
            THEN greatest(report.observed_at, excluded.observed_at)
            ELSE report.announced_at END
        WHERE report.sequence < excluded.sequence
    RETURNING *
)
SELECT written.device_id, written.section, written.observed_at,
       (before.enrollment_id, before.generation, before.answered, before.announced_at)
           IS DISTINCT FROM (written.enrollment_id, written.generation, written.answered,
                             written.announced_at) AS announce,
       before.device_id IS NULL OR (before.enrollment_id, before.generation)
           IS DISTINCT FROM (written.enrollment_id, written.generation) AS first,
       written.answered, before.observed_at AS last_observed_at,
       coalesce(before.answered, '{}') AS last_answered
FROM written LEFT JOIN before USING (device_id, section)
"""

OF_DEVICE = """
SELECT section, observed_at FROM report WHERE device_id = $1 ORDER BY section
"""


@dataclass(frozen=True)
class Report:
    """A section as a device reported it; `answered` is sorted."""

    device_id: UUID
    section: str
    sequence: int
    observed_at: datetime
    enrollment_id: UUID | None
    generation: int | None
    answered: list[str]


@dataclass(frozen=True)
class Recorded:
    """What became of a report: when it counts from, and what its forerunner held.

    `announce`: the others should hear of it. `first`: of its enrollment's generation.
    """

    device_id: UUID
    section: str
    observed_at: datetime
    announce: bool
    first: bool
    answered: list[str]
    last_observed_at: datetime | None
    last_answered: list[str]


async def record(
    tx: Connection, reports: Sequence[Report], announce_every: timedelta
) -> dict[UUID, Recorded]:
    """Store the reports that are newer than what is known, and return those, by device.

    `reports` holds at most one report a device: a batch holds a key once.
    """
    rows = await tx.fetch(RECORD, list(reports), announce_every)
    return {row["device_id"]: Recorded(**row) for row in rows}


async def of_device(tx: Connection, device_id: UUID) -> dict[str, datetime]:
    """Section → when it was last reported."""
    rows = await tx.fetch(OF_DEVICE, device_id)
    return {row["section"]: row["observed_at"] for row in rows}
