"""Which devices are in protected groups, and which were until a moment ago."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Final
from uuid import UUID

from shared.bus import device_groups
from shared.db.pool import Connection
from shared.events.groups import DeviceGroups, GroupState

# `lost`: this very news took the protection away.
REPLACE = """
INSERT INTO device_group (group_id, sequence, protected)
SELECT * FROM unnest($1::uuid[], $2::bigint[], $3::boolean[])
ON CONFLICT (group_id) DO UPDATE
    SET sequence = excluded.sequence, protected = excluded.protected,
        lapses_at = CASE WHEN excluded.protected THEN NULL
                         WHEN device_group.protected THEN $4::timestamptz
                         ELSE device_group.lapses_at END
    WHERE device_group.sequence < excluded.sequence
RETURNING group_id, lapses_at IS NOT DISTINCT FROM $4 AS lost
"""
LEAVE = """
INSERT INTO former_protection (device_id, lapses_at)
SELECT news.device_id, $3
FROM jsonb_to_recordset($1::jsonb) AS news (device_id uuid, groups uuid[], sequence bigint)
JOIN device_scope AS s USING (device_id)
WHERE s.sequence < news.sequence AND EXISTS (
    SELECT FROM unnest(s.groups) AS was (group_id) LEFT JOIN device_group AS g USING (group_id)
    WHERE was.group_id <> ALL (news.groups)
      AND (g.group_id IS NULL OR g.protected OR g.lapses_at > $2)
)
ORDER BY news.device_id
ON CONFLICT (device_id) DO UPDATE SET lapses_at = excluded.lapses_at
"""
# Of a device that is `named`, at $2.
IS_PROTECTED: Final = """
(EXISTS (
    SELECT FROM device_scope AS s
    CROSS JOIN LATERAL unnest(s.groups) AS of_it (group_id)
    LEFT JOIN device_group AS g USING (group_id)
    WHERE s.device_id = named.device_id
      AND (g.group_id IS NULL OR g.protected OR g.lapses_at > $2)
) OR EXISTS (
    SELECT FROM former_protection AS f
    WHERE f.device_id = named.device_id AND f.lapses_at > $2
))
"""
COUNT = f"SELECT count(*) FROM unnest($1::uuid[]) AS named (device_id) WHERE {IS_PROTECTED}"
FORGET = "DELETE FROM former_protection WHERE lapses_at <= $1"


async def replace(tx: Connection, events: Sequence[GroupState], lapses_at: datetime) -> set[UUID]:
    """Take over groups, unless newer is known; return those that just lost their protection."""
    rows = await tx.fetch(
        REPLACE,
        [event.group_id for event in events],
        [event.meta.sequence for event in events],
        [event.protected and not event.deleted for event in events],
        lapses_at,
    )
    return {row["group_id"] for row in rows if row["lost"]}


async def leave(
    tx: Connection, events: Sequence[DeviceGroups], now: datetime, lapses_at: datetime
) -> None:
    """Remember the devices that these events take out of a protected group."""
    await tx.execute(LEAVE, [device_groups.news_of(event) for event in events], now, lapses_at)


async def count(tx: Connection, device_ids: Sequence[UUID], now: datetime) -> int:
    return int(await tx.fetchval(COUNT, device_ids, now))


async def forget(tx: Connection, now: datetime) -> None:
    await tx.execute(FORGET, now)
