"""Lists that devices report whole: applications, profiles, certificates."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Literal
from uuid import UUID

from shared.db.pool import Connection

RECORD = """
WITH reported AS (
    SELECT * FROM unnest($2::uuid[], $3::timestamptz[]) AS reported (device_id, at)
), news AS (
    SELECT * FROM unnest($4::uuid[], $5::text[], $6::jsonb[]) AS news (device_id, key, detail)
), before AS (
    SELECT device_id, key, detail, since FROM {table} WHERE device_id = ANY($2::uuid[])
), gone AS (
    DELETE FROM {table}
    WHERE device_id = ANY($2::uuid[]) AND NOT EXISTS (
        SELECT FROM news WHERE news.device_id = {table}.device_id AND news.key = {table}.key)
    RETURNING device_id, key
), written AS (
    INSERT INTO {table} (device_id, key, detail, since)
    SELECT device_id, key, detail, at FROM news JOIN reported USING (device_id)
    ON CONFLICT (device_id, key) DO UPDATE
        SET detail = excluded.detail, since = excluded.since
        WHERE {table}.detail IS DISTINCT FROM excluded.detail
    RETURNING device_id, key, detail
), past AS (
    INSERT INTO item_history (section, device_id, key, detail, valid_from, valid_until)
    SELECT $1, device_id, key, before.detail, before.since, reported.at
    FROM before JOIN reported USING (device_id)
    WHERE before.since < reported.at
      AND (device_id, key) IN (SELECT device_id, key FROM gone
                               UNION ALL SELECT device_id, key FROM written)
)
SELECT device_id, 'removed' AS what, key, before.detail
FROM gone JOIN before USING (device_id, key)
UNION ALL
SELECT device_id, CASE WHEN before.key IS NULL THEN 'installed' ELSE 'updated' END, key,
       written.detail
FROM written LEFT JOIN before USING (device_id, key)
ORDER BY device_id, key
"""

PAGE = """
SELECT key, detail, since FROM {table}
WHERE device_id = $1 AND ($2::text IS NULL OR key > $2)
ORDER BY key LIMIT $3
"""

PAGE_AT = """
SELECT * FROM (
    SELECT key, detail, since FROM {table} WHERE device_id = $1 AND since <= $4
    UNION ALL
    SELECT key, detail, valid_from FROM item_history
    WHERE section = $5 AND device_id = $1 AND valid_from <= $4 AND valid_until > $4
) AS held
WHERE $2::text IS NULL OR key > $2
ORDER BY key LIMIT $3
"""

HISTORY = """
SELECT * FROM (
    SELECT key, detail, since AS valid_from, NULL::timestamptz AS valid_until
    FROM {table} WHERE device_id = $2 AND ($3::text IS NULL OR key = $3)
    UNION ALL
    SELECT key, detail, valid_from, valid_until
    FROM item_history WHERE section = $1 AND device_id = $2 AND ($3::text IS NULL OR key = $3)
) AS periods
WHERE $4::timestamptz IS NULL OR (valid_from, key) < ($4, $5::text)
ORDER BY valid_from DESC, key DESC LIMIT $6
"""

_TABLES: Final = {
    "applications": "application",
    "profiles": "profile",
    "certificates": "certificate",
}
What = Literal["installed", "updated", "removed"]


@dataclass(frozen=True)
class Change:
    """`detail` is the new one, or the last one of what was removed."""

    device_id: UUID
    what: What
    key: str
    detail: Mapping[str, Any]


Listed = Mapping[UUID, tuple[datetime, Mapping[str, Mapping[str, Any]]]]
"""Device → when it reported, and all it has."""


async def record(tx: Connection, section: str, lists: Listed) -> list[Change]:
    """Make these whole lists the ones of now; return what changed, by device and key."""
    rows = await tx.fetch(
        RECORD.format(table=_TABLES[section]),
        section,
        list(lists),
        [at for at, _ in lists.values()],
        [device_id for device_id, (_, items) in lists.items() for _ in items],
        [key for _, items in lists.values() for key in items],
        [detail for _, items in lists.values() for detail in items.values()],
    )
    return [Change(**row) for row in rows]


async def page(
    tx: Connection,
    section: str,
    device_id: UUID,
    after: str | None,
    limit: int,
    at: datetime | None = None,
) -> list[dict[str, Any]]:
    """Entries by key, now or as they were at an instant."""
    table = _TABLES[section]
    if at is None:
        rows = await tx.fetch(PAGE.format(table=table), device_id, after, limit)
    else:
        query = PAGE_AT.format(table=table)
        rows = await tx.fetch(query, device_id, after, limit, at, section)
    return [dict(row) for row in rows]


async def history(
    tx: Connection,
    section: str,
    device_id: UUID,
    key: str | None,
    after: tuple[datetime, str] | None,
    limit: int,
) -> list[dict[str, Any]]:
    """Periods of entries, newest first, after the period that began at (instant, key)."""
    since, last = after or (None, None)
    query = HISTORY.format(table=_TABLES[section])
    rows = await tx.fetch(query, section, device_id, key, since, last, limit)
    return [dict(row) for row in rows]
