"""Fences: what enrollment demands before it answers a device whose identity changes.

After our answer nothing of an earlier generation (of any, unless the device re-authenticates) is
handed out, whatever the projection says: it may be behind (architecture §4).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

from services.command_queue import metrics, settling
from services.command_queue.settings import CommandQueueSettings
from services.command_queue.store import devices, fences, pending
from services.command_queue.store.devices import Stored
from services.command_queue.store.fences import Fence
from services.command_queue.store.outcomes import End
from services.command_queue.store.pending import Open
from shared.bus import outbox
from shared.db import partitions
from shared.db.batcher import Batcher
from shared.db.locks import lock_devices
from shared.db.pool import Connection, Pool
from shared.events import Event, uuid7
from shared.events.commands import GuardAlarmed, TargetState
from shared.runtime.clock import Clock

ALL: Final = ("held", "queued", "sent", "deferred", "cancel_requested")
_OUT: Final = ("sent", "cancel_requested")
_BY_ITSELF: Final = {
    "ended": "it left management, and Muster had not asked for it",
    "reauthenticated": "it enrolls again, erased or set up anew, and Muster had not asked for it",
}
"""Fences that no person orders."""
_ASKED_WITHIN: Final = timedelta(days=90)
"""As long as a command may live."""


class Fencing:
    """Raises fences, many of them under one exclusive lock."""

    def __init__(self, pool: Pool, clock: Clock, settings: CommandQueueSettings) -> None:
        self._clock = clock
        self._batcher: Batcher[Fence, None] = Batcher(
            "command_queue_fences",
            pool,
            self._flush,
            key=lambda fence: fence.device_id,
            lock=_lock,
            max_waiting=settings.max_waiting,
        )

    async def close(self) -> None:
        await self._batcher.close()

    async def raise_up(
        self, enrollment_id: UUID, device_id: UUID, generation: int, state: str
    ) -> None:
        """Return once the fence stands; the same fence again changes nothing."""
        await self._batcher.put(Fence(enrollment_id, device_id, generation, state))
        metrics.FENCES.labels(state).inc()

    async def _flush(self, tx: Connection, raised: Sequence[Fence]) -> Sequence[None]:
        alarms = await _alarms(tx, raised, self._clock.now())
        await fences.raise_up(tx, raised, self._clock.now())
        by_enrollment = {fence.enrollment_id: fence for fence in raised}
        events = await end_outdated(
            tx,
            {fence.device_id for fence in raised},
            self._clock.now(),
            fenced={one: _reason(fence.state) for one, fence in by_enrollment.items()},
        )
        await outbox.emit(tx, [*events, *alarms])
        return [None] * len(raised)


async def _alarms(tx: Connection, raised: Sequence[Fence], now: datetime) -> list[Event]:
    """An erase or unenroll that Muster did not ask for (security.md, The guard)."""
    by_itself = {one.enrollment_id: one for one in raised if one.state in _BY_ITSELF}
    if not by_itself:
        return []
    found = await fences.unasked(tx, list(by_itself), partitions.bound(now - _ASKED_WITHIN))
    return [
        GuardAlarmed(
            alarm_id=uuid7(),
            kind="unasked",
            actor=f"device:{by_itself[one].device_id}",
            reason=_BY_ITSELF[by_itself[one].state],
            about=by_itself[one].device_id,
            target_count=1,
        )
        for one in sorted(found)
    ]


async def end_outdated(
    tx: Connection,
    device_ids: Collection[UUID],
    now: datetime,
    *,
    fenced: Mapping[UUID, str] | None = None,
) -> list[Event]:
    """End open work that no current enrollment will ever be given; return the events.

    What was handed out is `unconfirmed`: nobody will ever know. With `fenced` (reasons by
    enrollment) only those enrollments are looked at. The devices' rows are locked.
    """
    stored = await devices.enrollments(tx, device_ids)
    channels = await devices.channels(tx, device_ids)
    ends: list[End] = []
    for one in await pending.of_devices(tx, device_ids):
        if fenced is not None and one.enrollment_id not in fenced:
            continue
        why = _outdated(one, stored.get(one.enrollment_id), channels)
        if why is not None:
            ends.append(_end(one, (fenced or {}).get(one.enrollment_id, why)))
    return await settling.settle(tx, ends, now, out_of=ALL)


def _outdated(one: Open, enrollment: Stored | None, channels: Collection[UUID]) -> str | None:
    """Why open work has nobody to go to any more; None: it has."""
    if enrollment is None:
        return "enrollment gone"
    if enrollment.state not in {"enrolled", "pending"}:
        return f"enrollment {enrollment.state}"
    if enrollment.generation != one.generation:
        return "re-enrolled"
    return None if one.channel_id in channels else "channel gone"


def _end(one: Open, reason: str) -> End:
    state = TargetState.UNCONFIRMED if one.state in _OUT else TargetState.CANCELLED
    return End(*one.key, state, reason)


def _reason(state: str) -> str:
    return "re-enrolled" if state == "reauthenticated" else f"enrollment {state}"


async def _lock(tx: Connection, device_ids: Sequence[UUID]) -> None:
    await pending.stop_claims(tx)
    await lock_devices(tx, device_ids)
