"""Devices: what they told of themselves, and what people decided about them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from shared.db.pool import Connection
from shared.runtime.http import Reach

# Absent facts keep what was known: some devices tell less the second time. A personal enrollment
# makes a device personal; nothing that a device sends makes it corporate.
SAVE = """
INSERT INTO device (device_id, known, platform, ownership, reported_name, serial, udid, model,
                    product, os_version, build, user_name, current_enrollment, last_seen)
SELECT device_id, true, platform, coalesce(ownership, 'unknown'), name, serial, udid, model,
       product, os_version, build, user_name, enrollment_id, $13
FROM unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[],
            $8::text[], $9::text[], $10::text[], $11::text[], $12::uuid[])
  AS news (device_id, platform, ownership, name, serial, udid, model, product, os_version, build,
           user_name, enrollment_id)
ORDER BY device_id
ON CONFLICT (device_id) DO UPDATE SET
    known = true,
    platform = CASE WHEN excluded.platform = 'unknown' THEN device.platform
                    ELSE excluded.platform END,
    ownership = CASE WHEN device.ownership = 'unknown' OR excluded.ownership = 'personal'
                     THEN excluded.ownership ELSE device.ownership END,
    reported_name = coalesce(excluded.reported_name, device.reported_name),
    serial = coalesce(excluded.serial, device.serial),
    udid = excluded.udid,
    model = coalesce(excluded.model, device.model),
    product = coalesce(excluded.product, device.product),
    os_version = coalesce(excluded.os_version, device.os_version),
    build = coalesce(excluded.build, device.build),
    user_name = coalesce(device.user_name, excluded.user_name),
    current_enrollment = excluded.current_enrollment,
    last_seen = excluded.last_seen
"""
# A device that only a quarantined enrollment claims: there is nothing to say of it yet.
INTRODUCE = """
INSERT INTO device (device_id, known, udid)
SELECT * FROM unnest($1::uuid[], $2::bool[], $3::text[])
ON CONFLICT DO NOTHING
"""
SEEN = """
UPDATE device SET last_seen = news.seen_at
FROM unnest($1::uuid[], $2::timestamptz[]) AS news (device_id, seen_at)
WHERE device.device_id = news.device_id
  AND (device.last_seen IS NULL OR device.last_seen < news.seen_at)
"""
_VIEW = """
d.device_id, d.platform, d.ownership, coalesce(d.name, d.reported_name) AS name, d.serial, d.udid,
d.model, d.product, d.os_version, d.build, d.user_name, d.tags, d.current_enrollment, d.created_at,
d.last_seen, coalesce(e.state, 'pending') AS state, e.generation, e.enrolled_at, e.end_reason,
EXISTS (SELECT FROM enrollment AS q WHERE q.device_id = d.device_id AND q.state = 'quarantined')
    AS quarantine
"""
LIST = f"""
SELECT {_VIEW} FROM device AS d
LEFT JOIN enrollment AS e ON e.enrollment_id = d.current_enrollment
WHERE d.known AND ($1::uuid IS NULL OR d.device_id > $1)
  AND ($2::text IS NULL OR d.platform = $2)
  AND ($3::text IS NULL OR CASE WHEN $3 = 'quarantined' THEN EXISTS (
         SELECT FROM enrollment AS q WHERE q.device_id = d.device_id AND q.state = 'quarantined')
       ELSE coalesce(e.state, 'pending') = $3 END)
  AND ($4::text IS NULL OR d.serial ILIKE $4 OR d.udid ILIKE $4 OR d.user_name ILIKE $4
       OR coalesce(d.name, d.reported_name) ILIKE $4)
  AND ($5::uuid[] IS NULL OR d.groups <> '{{}}' AND d.groups && $5)
ORDER BY d.device_id LIMIT $6
"""
GET = f"""
SELECT {_VIEW} FROM device AS d
LEFT JOIN enrollment AS e ON e.enrollment_id = d.current_enrollment
WHERE d.device_id = $1 AND d.known AND ($2::uuid[] IS NULL OR d.groups && $2)
"""
CHANGE = """
UPDATE device SET name = $2, tags = $3, ownership = $4, user_name = $5
WHERE device_id = $1 AND known
"""


@dataclass(frozen=True, slots=True)
class Facts:
    """What an Authenticate tells of a device. `ownership` None: leave it."""

    device_id: UUID
    platform: str
    ownership: str | None
    name: str | None
    serial: str | None
    udid: str
    model: str | None
    product: str | None
    os_version: str | None
    build: str | None
    user_name: str | None
    enrollment_id: UUID


@dataclass(frozen=True)
class Device:
    """A device as people are shown it; `quarantine`: an enrollment waits for a decision."""

    device_id: UUID
    platform: str
    ownership: str
    name: str | None
    serial: str | None
    udid: str | None
    model: str | None
    product: str | None
    os_version: str | None
    build: str | None
    user_name: str | None
    tags: list[str]
    current_enrollment: UUID | None
    created_at: datetime
    last_seen: datetime | None
    state: str
    generation: int | None
    enrolled_at: datetime | None
    end_reason: str | None
    quarantine: bool


async def save(tx: Connection, facts: Sequence[Facts], now: datetime) -> None:
    """Add these devices or refresh them, and make the named enrollment the current one."""
    await tx.execute(
        SAVE,
        [f.device_id for f in facts],
        [f.platform for f in facts],
        [f.ownership for f in facts],
        [f.name for f in facts],
        [f.serial for f in facts],
        [f.udid for f in facts],
        [f.model for f in facts],
        [f.product for f in facts],
        [f.os_version for f in facts],
        [f.build for f in facts],
        [f.user_name for f in facts],
        [f.enrollment_id for f in facts],
        now,
    )


async def introduce(tx: Connection, devices: Sequence[tuple[UUID, str]]) -> None:
    """(device, udid) that only a quarantined enrollment claims."""
    await tx.execute(
        INTRODUCE, [d[0] for d in devices], [True for _ in devices], [d[1] for d in devices]
    )


async def seen(tx: Connection, seen: Sequence[tuple[UUID, datetime]]) -> None:
    await tx.execute(SEEN, [s[0] for s in seen], [s[1] for s in seen])


async def page(
    tx: Connection,
    after: UUID | None,
    platform: str | None,
    state: str | None,
    text: str | None,
    reach: Reach,
    limit: int,
) -> list[Device]:
    """In the order they were first seen; `text` begins a name, serial, UDID or user."""
    pattern = None
    if text:
        pattern = text.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_") + "%"
    rows = await tx.fetch(LIST, after, platform, state, pattern, reach, limit)
    return [Device(**row) for row in rows]


async def get(tx: Connection, device_id: UUID, reach: Reach) -> Device | None:
    """`reach`: the groups whose devices the asker may see; None: all devices."""
    row = await tx.fetchrow(GET, device_id, reach)
    return Device(**row) if row else None


async def change(tx: Connection, device_id: UUID, values: dict[str, Any]) -> None:
    """Replace name, tags, ownership and user."""
    await tx.execute(
        CHANGE,
        device_id,
        values["name"],
        values["tags"],
        values["ownership"],
        values["user"],
    )
