"""Devices as enrollment tells of them: a projection that can be rebuilt from device-state."""

from __future__ import annotations

from collections.abc import Sequence

from services.configuration.store import devices as store
from shared.db.pool import Connection
from shared.events.device_state import DeviceState


async def replace(tx: Connection, events: Sequence[DeviceState]) -> None:
    """Take over the newest state of each device; forget those that were deleted."""
    await store.replace(tx, [_device(event) for event in events if not event.deleted])
    gone = [(event.device_id, event.meta.sequence) for event in events if event.deleted]
    await store.forget(tx, gone)


def _device(event: DeviceState) -> store.Device:
    managed = any(
        enrollment.state == "enrolled"
        for enrollment in event.enrollments
        if enrollment.enrollment_id == event.current_enrollment
    )
    return store.Device(
        event.device_id, event.meta.sequence, event.platform, event.current_enrollment, managed
    )
