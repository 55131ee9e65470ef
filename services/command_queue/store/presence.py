"""When devices were last seen: coalesced in memory, written in bulk."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from shared.db.pool import Connection

SEEN = """
INSERT INTO presence (device_id, last_seen_at)
SELECT * FROM unnest($1::uuid[], $2::timestamptz[]) AS seen (device_id, at) ORDER BY device_id
ON CONFLICT (device_id) DO UPDATE SET last_seen_at = excluded.last_seen_at
WHERE presence.last_seen_at < excluded.last_seen_at
"""
# Conditional, so that of several processes that saw a device only one tells.
TELL = """
UPDATE presence SET told_at = last_seen_at
WHERE device_id = ANY($1::uuid[])
  AND (told_at IS NULL OR told_at <= last_seen_at - interval '1 hour')
RETURNING device_id, last_seen_at
"""
UNTOLD = """
SELECT device_id FROM presence
WHERE device_id = ANY($1::uuid[])
  AND (told_at IS NULL OR told_at <= last_seen_at - interval '1 hour')
"""
LAST_SEEN = "SELECT last_seen_at FROM presence WHERE device_id = $1"


@dataclass(frozen=True, slots=True)
class Seen:
    device_id: UUID
    last_seen_at: datetime


async def seen(tx: Connection, at: Mapping[UUID, datetime]) -> list[UUID]:
    """Write when devices were seen; return those whose sighting was not told for an hour."""
    devices = sorted(at)
    await tx.execute(SEEN, devices, [at[one] for one in devices])
    return [row["device_id"] for row in await tx.fetch(UNTOLD, devices)]


async def tell(tx: Connection, devices: list[UUID]) -> list[Seen]:
    """Mark sightings as told and return those that nobody else has told."""
    return [Seen(**row) for row in await tx.fetch(TELL, devices)]


async def last_seen(tx: Connection, device_id: UUID) -> datetime | None:
    found: datetime | None = await tx.fetchval(LAST_SEEN, device_id)
    return found
