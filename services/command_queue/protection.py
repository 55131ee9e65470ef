"""Protected groups: what destroys one of their devices waits for people (security.md, The guard).

Protection comes at once. Taking it away, from a group or a device, is new power: it holds for
three days more, and is told to all when it begins to lapse.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from uuid import UUID

from services.command_queue.store import protection as store
from services.command_queue.store import scopes
from shared.bus import outbox
from shared.bus.handlers import Handler
from shared.db.pool import Connection
from shared.events import Event, uuid7
from shared.events.commands import GuardAlarmed
from shared.events.groups import DeviceGroups, GroupState
from shared.runtime.clock import Clock

count = store.count


def of_groups(clock: Clock, waits: timedelta) -> Handler:
    """Return the handler of GroupState."""

    async def handle(tx: Connection, events: Sequence[GroupState]) -> None:
        newest: dict[UUID, GroupState] = {}
        for event in events:
            newest[event.group_id] = event
        lost = await store.replace(tx, list(newest.values()), clock.now() + waits)
        await outbox.emit(tx, [_alarm(newest[one]) for one in sorted(lost)])

    return handle


def of_devices(clock: Clock, waits: timedelta) -> Handler:
    """Return the handler of DeviceGroups."""

    async def handle(tx: Connection, events: Sequence[DeviceGroups]) -> None:
        now = clock.now()
        await store.leave(tx, events, now, now + waits)
        await scopes.replace(tx, events)

    return handle


def _alarm(event: GroupState) -> Event:
    alarm = GuardAlarmed(
        alarm_id=uuid7(),
        kind="weakened",
        actor="service:inventory",
        reason=f"The group {event.name} is to lose its protection",
    )
    return alarm.because(event)
