"""The groups of devices, as inventory tells of them, on the `device` rows of the other services.

Such a row has `groups uuid[]` and `groups_sequence bigint`; who asks with rights on groups only is
shown the rows where `groups && reach` (docs/decisions/0038-rights-travel-in-the-token.md).
"""

from __future__ import annotations

from collections.abc import Sequence

from shared.db.pool import Connection
from shared.events.groups import DeviceGroups

# Rows of devices not heard of yet are there, and locked: the runner makes them.
REPLACE = """
UPDATE device SET groups = news.groups, groups_sequence = news.sequence
FROM jsonb_to_recordset($1::jsonb) AS news (device_id uuid, groups uuid[], sequence bigint)
WHERE device.device_id = news.device_id AND device.groups_sequence < news.sequence
"""


async def replace(tx: Connection, events: Sequence[DeviceGroups]) -> None:
    """Take over all groups of each device, unless newer ones are known."""
    await tx.execute(REPLACE, [news_of(event) for event in events])


def news_of(event: DeviceGroups) -> dict[str, object]:
    """What a row takes over of an event, as JSON."""
    return {
        "device_id": str(event.device_id),
        "groups": [str(group) for group in event.groups],
        "sequence": event.meta.sequence,
    }
