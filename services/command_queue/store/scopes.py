"""The static groups of devices, beside their rows: for callers with rights on some groups only."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

from shared.bus import device_groups
from shared.db.pool import Connection
from shared.events.groups import DeviceGroups
from shared.runtime.http import Reach

REPLACE = """
INSERT INTO device_scope (device_id, sequence, groups)
SELECT device_id, sequence, groups
FROM jsonb_to_recordset($1::jsonb) AS news (device_id uuid, groups uuid[], sequence bigint)
ORDER BY device_id
ON CONFLICT (device_id) DO UPDATE SET sequence = excluded.sequence, groups = excluded.groups
    WHERE device_scope.sequence < excluded.sequence
"""
OUTSIDE = """
SELECT count(*) FROM unnest($1::uuid[]) AS named (device_id)
WHERE NOT EXISTS (
    SELECT FROM device_scope AS s JOIN device AS d USING (device_id)
    WHERE s.device_id = named.device_id AND s.groups && $2::uuid[] AND d.known
)
"""


async def replace(tx: Connection, events: Sequence[DeviceGroups]) -> None:
    """Take over all groups of each device, unless newer ones are known."""
    await tx.execute(REPLACE, [device_groups.news_of(event) for event in events])


async def outside(tx: Connection, device_ids: Sequence[UUID], reach: Reach) -> int:
    """How many of these are not known, or in none of the groups; with all devices in reach nobody
    is, also who is not known yet: a command waits for them.
    """
    if reach is None:
        return 0
    return int(await tx.fetchval(OUTSIDE, list(device_ids), reach))
