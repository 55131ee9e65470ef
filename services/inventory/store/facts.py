"""Facts: what is true now, and what was true when."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from shared.db.pool import Connection

RECORD = """
WITH news AS (
    SELECT * FROM unnest($1::uuid[], $2::text[], $3::text[], $4::jsonb[], $5::timestamptz[])
        AS news (device_id, name, section, value, changed_at)
), before AS (
    SELECT fact.* FROM fact JOIN news USING (device_id, name)
), written AS (
    INSERT INTO fact (device_id, name, section, value, changed_at)
    SELECT * FROM news
    ON CONFLICT (device_id, name) DO UPDATE
        SET value = excluded.value, section = excluded.section, changed_at = excluded.changed_at
        WHERE fact.value IS DISTINCT FROM excluded.value
    RETURNING *
), past AS (
    INSERT INTO fact_history (device_id, name, value, valid_from, valid_until)
    SELECT device_id, name, before.value, before.changed_at, written.changed_at
    FROM before JOIN written USING (device_id, name)
    WHERE before.changed_at < written.changed_at
)
SELECT written.device_id, written.name, written.value, before.value AS before
FROM written LEFT JOIN before USING (device_id, name)
ORDER BY written.device_id, written.name
"""

CONFIRMED = """
UPDATE fact SET confirmed_at = news.confirmed_at
FROM unnest($1::uuid[], $2::text[], $3::timestamptz[]) AS news (device_id, name, confirmed_at)
WHERE fact.device_id = news.device_id AND fact.name = news.name
"""

NOW = """
SELECT name, value, changed_at, coalesce(confirmed_at, observed_at) AS observed_at
FROM fact LEFT JOIN report USING (device_id, section)
WHERE device_id = $1 ORDER BY name
"""

AT = """
SELECT name, value, changed_at, NULL::timestamptz AS observed_at
FROM fact WHERE device_id = $1 AND changed_at <= $2
UNION ALL
SELECT name, value, valid_from, NULL
FROM fact_history WHERE device_id = $1 AND valid_from <= $2 AND valid_until > $2
ORDER BY name
"""

HISTORY = """
SELECT * FROM (
    SELECT name, value, changed_at AS valid_from, NULL::timestamptz AS valid_until
    FROM fact WHERE device_id = $1 AND ($2::text IS NULL OR name = $2)
    UNION ALL
    SELECT name, value, valid_from, valid_until
    FROM fact_history WHERE device_id = $1 AND ($2::text IS NULL OR name = $2)
) AS periods
WHERE $3::timestamptz IS NULL OR (valid_from, name) < ($3, $4::text)
ORDER BY valid_from DESC, name DESC LIMIT $5
"""


@dataclass(frozen=True)
class Observation:
    """One fact as a report holds it; its value is text, a number or a boolean."""

    device_id: UUID
    name: str
    section: str
    value: Any
    at: datetime


@dataclass(frozen=True)
class Change:
    device_id: UUID
    name: str
    value: Any
    before: Any


async def record(tx: Connection, observations: Sequence[Observation]) -> list[Change]:
    """Make these the facts of now; return what changed. What was true goes to the history."""
    rows = await tx.fetch(
        RECORD,
        [o.device_id for o in observations],
        [o.name for o in observations],
        [o.section for o in observations],
        [o.value for o in observations],
        [o.at for o in observations],
    )
    return [Change(**row) for row in rows]


async def confirmed(tx: Connection, news: Sequence[tuple[UUID, str, datetime | None]]) -> None:
    """(device, fact, when a report last held it; None: the newest report does)."""
    if news:
        await tx.execute(
            CONFIRMED, [n[0] for n in news], [n[1] for n in news], [n[2] for n in news]
        )


async def read(tx: Connection, device_id: UUID, at: datetime | None) -> list[Mapping[str, Any]]:
    """Facts by name, now or as they were at an instant."""
    if at is None:
        return [dict(row) for row in await tx.fetch(NOW, device_id)]
    return [dict(row) for row in await tx.fetch(AT, device_id, at)]


async def history(
    tx: Connection,
    device_id: UUID,
    name: str | None,
    after: tuple[datetime, str] | None,
    limit: int,
) -> list[dict[str, Any]]:
    """Periods of facts, newest first, after the period that began at (instant, name)."""
    since, last = after or (None, None)
    rows = await tx.fetch(HISTORY, device_id, name, since, last, limit)
    return [dict(row) for row in rows]
