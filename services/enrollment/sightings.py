"""When a device was last heard of, as command_queue tells it: at most once an hour a device."""

from __future__ import annotations

from collections.abc import Sequence

from services.enrollment.store import devices
from shared.db.pool import Connection
from shared.events.commands import DeviceSeen


async def apply(tx: Connection, events: Sequence[DeviceSeen]) -> None:
    """Move last_seen forward; the devices' states are not told anew for it."""
    await devices.seen(tx, [(event.device_id, event.seen_at) for event in events])
