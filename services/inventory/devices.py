"""Devices as enrollment tells of them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

from services.inventory import membership
from services.inventory.refresh import first_due
from services.inventory.store import devices as store
from shared.db.pool import Connection
from shared.events.commands import DeviceSeen
from shared.events.device_state import DeviceState, EnrollmentState
from shared.events.devices import DeviceUnenrolled
from shared.runtime.clock import Clock


async def replace(
    tx: Connection, events: Sequence[DeviceState], *, every: timedelta, clock: Clock
) -> None:
    """Take over the newest state of each device. A managed device gets its place in the schedule,
    so that this table can be rebuilt from these events alone.
    """
    now = clock.now()
    await store.replace(
        tx,
        [
            _device(event, first_due(event.device_id, now, every))
            for event in events
            if not event.deleted
        ],
    )
    gone = {event.device_id: event.meta.sequence for event in events if event.deleted}
    if gone:
        await membership.leave(tx, await store.forget(tx, gone))


def _device(event: DeviceState, due_at: datetime) -> store.Device:
    current = _current(event)
    return store.Device(
        device_id=event.device_id,
        sequence=event.meta.sequence,
        platform=event.platform,
        ownership=event.ownership,
        name=event.name,
        serial=event.serial,
        model=event.model,
        product=event.product,
        enrolled_os=event.os_version,
        user_name=event.user,
        tags=event.tags,
        enrollment_id=event.current_enrollment,
        managed=current is not None and current.state == "enrolled",
        refresh_due_at=due_at,
    )


def _current(event: DeviceState) -> EnrollmentState | None:
    for enrollment in event.enrollments:
        if enrollment.enrollment_id == event.current_enrollment:
            return enrollment
    return None


async def stop(tx: Connection, events: Sequence[DeviceUnenrolled]) -> None:
    """Ask a device no more whose management ended; what is known of it stays."""
    await store.stop(tx, [(event.device_id, event.enrollment_id) for event in events])


async def seen(tx: Connection, events: Sequence[DeviceSeen]) -> None:
    await store.seen(tx, {event.device_id: event.seen_at for event in events})
