"""Devices as enrollment tells of them, with what the list of devices shows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from services.inventory.filters import Filters
from shared.db.pool import Connection
from shared.runtime.http import Reach

REPLACE = """
UPDATE device SET
    sequence = news.sequence, platform = news.platform, ownership = news.ownership,
    name = news.name, serial = news.serial, model = news.model, product = news.product,
    enrolled_os = news.enrolled_os, user_name = news.user_name, tags = news.tags,
    enrollment_id = news.enrollment_id, managed = news.managed,
    refresh_due_at = CASE WHEN news.managed
        THEN coalesce(device.refresh_due_at, news.refresh_due_at) END
FROM jsonb_to_recordset($1::jsonb) AS news (
    device_id uuid, sequence bigint, platform text, ownership text, name text, serial text,
    model text, product text, enrolled_os text, user_name text, tags text[], enrollment_id uuid,
    managed boolean, refresh_due_at timestamptz)
WHERE device.device_id = news.device_id AND device.sequence < news.sequence
"""

FORGET = """
WITH forgotten AS (SELECT unnest($1::uuid[]) AS device_id),
     reports AS (DELETE FROM report USING forgotten f WHERE report.device_id = f.device_id),
     facts AS (DELETE FROM fact USING forgotten f WHERE fact.device_id = f.device_id),
     was AS (DELETE FROM fact_history h USING forgotten f WHERE h.device_id = f.device_id),
     apps AS (DELETE FROM application a USING forgotten f WHERE a.device_id = f.device_id),
     profiles AS (DELETE FROM profile p USING forgotten f WHERE p.device_id = f.device_id),
     certs AS (DELETE FROM certificate c USING forgotten f WHERE c.device_id = f.device_id),
     had AS (DELETE FROM item_history h USING forgotten f WHERE h.device_id = f.device_id),
     parts AS (DELETE FROM answer_part p USING forgotten f WHERE p.device_id = f.device_id)
DELETE FROM device USING forgotten f WHERE device.device_id = f.device_id
"""

NEWER_THAN = """
SELECT device.device_id FROM device
JOIN unnest($1::uuid[], $2::bigint[]) AS news (device_id, sequence) USING (device_id)
WHERE device.sequence < news.sequence
"""

STOP = """
UPDATE device SET managed = false, refresh_due_at = NULL
FROM unnest($1::uuid[], $2::uuid[]) AS ended (device_id, enrollment_id)
WHERE device.device_id = ended.device_id AND device.enrollment_id = ended.enrollment_id
"""

# Whole intervals back: a device keeps its place in the day. One not heard of yet gets its place;
# the event that introduces it leaves that alone.
HURRY = """
UPDATE device SET refresh_due_at = CASE
    WHEN refresh_due_at IS NULL THEN news.due_at
    ELSE refresh_due_at - $4::interval * greatest(0,
        ceil(extract(epoch FROM refresh_due_at - $3) / extract(epoch FROM $4::interval))) END
FROM unnest($1::uuid[], $2::timestamptz[]) AS news (device_id, due_at)
WHERE device.device_id = news.device_id AND (managed OR sequence = 0)
"""

SEEN = """
UPDATE device SET last_seen_at = greatest(device.last_seen_at, seen.at)
FROM unnest($1::uuid[], $2::timestamptz[]) AS seen (device_id, at)
WHERE device.device_id = seen.device_id
"""

REPORTED = """
UPDATE device SET reported_name = coalesce(news.name, device.reported_name),
                  reported_os = coalesce(news.os, device.reported_os)
FROM unnest($1::uuid[], $2::text[], $3::text[]) AS news (device_id, name, os)
WHERE device.device_id = news.device_id
"""

DUE = """
SELECT device_id FROM device WHERE refresh_due_at <= $1 ORDER BY refresh_due_at LIMIT $2
"""

# Whole intervals forward: a device keeps its place in the day, also after an outage.
TAKE_DUE = """
UPDATE device SET refresh_due_at = refresh_due_at
    + $3::interval * (1 + floor(extract(epoch FROM $2 - refresh_due_at)
                                / extract(epoch FROM $3::interval)))
FROM (SELECT device_id, refresh_due_at AS due_at FROM device
      WHERE device_id = ANY($1::uuid[]) AND refresh_due_at <= $2) AS due
WHERE device.device_id = due.device_id
RETURNING device.device_id, due.due_at
"""

# Of a caller with rights on groups only: what is outside of them does not exist.
_WITHIN = """
(${0}::uuid[] IS NULL OR EXISTS (
    SELECT FROM membership AS m
    WHERE m.device_id = device.device_id AND m.group_id = ANY(${0})))
"""

MANAGED = f"""
SELECT managed FROM device WHERE device_id = $1 AND sequence > 0 AND {_WITHIN.format(2)}
"""

_COLUMNS = """
    device_id, platform, ownership, coalesce(name, reported_name) AS name, serial, model, product,
    os_version, user_name AS "user", tags, managed, last_seen_at
"""

ONE = f"""
SELECT {_COLUMNS} FROM device
WHERE device_id = $1 AND sequence > 0 AND {_WITHIN.format(2)}
"""

LIST = f"""
SELECT {_COLUMNS},
       coalesce((SELECT jsonb_object_agg(fact.name, fact.value) FROM fact
                 WHERE fact.device_id = device.device_id AND fact.name = ANY($1)), '{{}}') AS facts
FROM device
WHERE sequence > 0
  AND ($2::uuid IS NULL OR device_id > $2)
  AND ($3::text IS NULL OR platform = $3)
  AND ($4::text IS NULL OR os_version = $4 OR starts_with(os_version, $4 || '.'))
  AND ($5::text IS NULL OR model = $5 OR product = $5)
  AND ($6::text IS NULL OR strpos(search, lower($6)) > 0)
  AND ($7::boolean IS NULL OR managed = $7)
  AND ($8::text IS NULL OR EXISTS (
        SELECT FROM application
        WHERE application.key = $8 AND application.device_id = device.device_id))
  AND {_WITHIN.format(9)}
ORDER BY device_id LIMIT $10
"""


@dataclass(frozen=True)
class Device:
    """What a device-state event says, as this service keeps it."""

    device_id: UUID
    sequence: int
    platform: str
    ownership: str
    name: str | None
    serial: str | None
    model: str | None
    product: str | None
    enrolled_os: str | None
    user_name: str | None
    tags: list[str]
    enrollment_id: UUID | None
    managed: bool
    refresh_due_at: datetime
    """Where its first scheduled refresh falls, should it have none yet."""


async def replace(tx: Connection, devices: Sequence[Device]) -> None:
    """Take over news that is newer than what is known."""
    await tx.execute(REPLACE, list(devices))


async def forget(tx: Connection, sequences: Mapping[UUID, int]) -> list[UUID]:
    """Drop all that is known of deleted devices; returns those for which that was news."""
    rows = await tx.fetch(NEWER_THAN, list(sequences), list(sequences.values()))
    gone = [row["device_id"] for row in rows]
    await tx.execute(FORGET, gone)
    return gone


async def stop(tx: Connection, ended: Sequence[tuple[UUID, UUID]]) -> None:
    """(device, enrollment) pairs: ask no more, unless another enrollment took its place."""
    await tx.execute(STOP, [pair[0] for pair in ended], [pair[1] for pair in ended])


async def seen(tx: Connection, at: Mapping[UUID, datetime]) -> None:
    await tx.execute(SEEN, list(at), list(at.values()))


async def reported(tx: Connection, news: Sequence[tuple[UUID, str | None, str | None]]) -> None:
    """(device, its own name, its system's version); None leaves what is known."""
    if news:
        await tx.execute(REPORTED, [n[0] for n in news], [n[1] for n in news], [n[2] for n in news])


async def hurry(
    tx: Connection, due: Mapping[UUID, datetime], now: datetime, every: timedelta
) -> None:
    """Make it these devices' turn; `due` is for those that have no place in the schedule yet."""
    await tx.execute(HURRY, list(due), list(due.values()), now, every)


async def due(tx: Connection, now: datetime, limit: int) -> list[UUID]:
    """Devices whose refresh is due, the longest waiting first; nothing is locked."""
    return [row["device_id"] for row in await tx.fetch(DUE, now, limit)]


async def take_due(
    tx: Connection, device_ids: Sequence[UUID], now: datetime, every: Any
) -> dict[UUID, datetime]:
    """Move those that are still due to their next turn; returns when they had been due."""
    rows = await tx.fetch(TAKE_DUE, list(device_ids), now, every)
    return {row["device_id"]: row["due_at"] for row in rows}


async def is_managed(tx: Connection, device_id: UUID, reach: Reach) -> bool | None:
    """Whether the device takes commands; None: there is no such device within reach."""
    managed: bool | None = await tx.fetchval(MANAGED, device_id, reach)
    return managed


async def one(tx: Connection, device_id: UUID, reach: Reach) -> dict[str, Any] | None:
    row = await tx.fetchrow(ONE, device_id, reach)
    return None if row is None else dict(row)


async def page(
    tx: Connection,
    filters: Filters,
    main: Sequence[str],
    after: UUID | None,
    reach: Reach,
    limit: int,
) -> list[dict[str, Any]]:
    """At most `limit` devices after `after`, by id, each with its main facts."""
    rows = await tx.fetch(
        LIST,
        list(main),
        after,
        filters.platform,
        filters.os,
        filters.model,
        filters.q,
        filters.managed,
        filters.application,
        reach,
        limit,
    )
    return [dict(row) for row in rows]
