"""From frozen target lists to open work in queues, resumable at any instant.

At most a thousand targets a transaction, their devices locked first and sorted: a command to
100,000 devices does not hold up a poll.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

from services.command_queue import metrics, settling
from services.command_queue.apple import eligibility
from services.command_queue.settling import Origin
from services.command_queue.store import devices, fences, pending, targets
from services.command_queue.store.devices import Place
from services.command_queue.store.outcomes import Filing
from services.command_queue.store.targets import Wanted
from shared.bus import outbox
from shared.db.locks import lock_devices
from shared.db.pool import Connection, Pool, transaction
from shared.events import Event
from shared.events.commands import CommandQueued, TargetState

LIMIT: Final = targets.CHUNK
_ENDED: Final = {"cancelled": TargetState.CANCELLED, "expired": TargetState.EXPIRED}


@dataclass(slots=True)
class _Sorted:
    """What becomes of targets."""

    queued: list[tuple[Wanted, pending.New]] = field(default_factory=list)
    ended: list[Filing] = field(default_factory=list)
    waiting: list[Wanted] = field(default_factory=list)


async def expand(pool: Pool, now: datetime, patience: timedelta) -> bool:
    """Expand the oldest chunks; True when more may wait."""
    async with transaction(pool) as tx:
        taken = await targets.read_next(tx, LIMIT)
    if not taken.keys:
        return False
    async with transaction(pool) as tx:
        await lock_devices(tx, taken.devices)
        wanted = await targets.take(tx, taken)
        await _place(tx, wanted, now, now + patience)
    return True


async def resume(tx: Connection, device_ids: Collection[UUID], now: datetime) -> None:
    """Place what waits for these devices, now that more is known of them; they are locked."""
    waiting = await targets.waiting_for(tx, device_ids)
    if waiting:
        await _again(tx, waiting, now)


async def give_up(pool: Pool, now: datetime) -> bool:
    """End targets whose device was waited for in vain; True when more may wait."""
    async with transaction(pool) as tx:
        overdue = await targets.overdue(tx, now, LIMIT)
    if not overdue:
        return False
    async with transaction(pool) as tx:
        await lock_devices(tx, overdue)
        await _again(tx, await targets.waiting_for(tx, overdue), now)
    return True


async def _again(tx: Connection, waiting: Sequence[Wanted], now: datetime) -> None:
    sorted_ = await _sort(tx, waiting, now)
    still = {(one.command_id, one.target_id) for one in sorted_.waiting}
    done = [one for one in waiting if (one.command_id, one.target_id) not in still]
    if done:
        await targets.waited(tx, done)
    await _write(tx, sorted_, now)


async def _place(tx: Connection, wanted: Sequence[Wanted], now: datetime, until: datetime) -> None:
    sorted_ = await _sort(tx, wanted, now)
    if sorted_.waiting:
        await targets.wait(tx, sorted_.waiting, until)
    await _write(tx, sorted_, now)


async def _write(tx: Connection, sorted_: _Sorted, now: datetime) -> None:
    events: list[Event] = await settling.file(tx, sorted_.ended, now)
    if sorted_.queued:
        await pending.add(tx, [row for _, row in sorted_.queued])
        metrics.QUEUED.inc(len(sorted_.queued))
        events += [_queued(one, row) for one, row in sorted_.queued if row.state == "queued"]
    await outbox.emit(tx, events)


async def _sort(tx: Connection, wanted: Sequence[Wanted], now: datetime) -> _Sorted:
    """Decide for each target: into a queue, to its end, or on waiting. Devices are locked."""
    found = _Sorted()
    if not wanted:
        return found
    places = await devices.places(tx, [(one.device_id, one.channel_id) for one in wanted])
    raised = await fences.of_devices(tx, sorted({one.device_id for one in wanted}))
    for one, place in zip(wanted, places, strict=True):
        fence = raised.get(place.enrollment_id) if place.enrollment_id else None
        end = _end(one, place, fence, now)
        if end is not None:
            found.ended.append(_filing(one, place, *end))
        elif row := _row(one, place, now):
            found.queued.append((one, row))
        else:
            found.waiting.append(one)
    return found


def _end(
    one: Wanted, place: Place, fence: fences.Raised | None, now: datetime
) -> tuple[TargetState, str] | None:
    """How a target ends before it is queued; None: it does not."""
    if one.state in _ENDED:
        return _ENDED[one.state], one.end_reason or one.state
    if fence is not None and fence.ordinal > one.ordinal:
        # Asked for before the device came again: as if it had been queued then.
        why = "re-enrolled" if fence.state == "reauthenticated" else f"enrollment {fence.state}"
        return TargetState.CANCELLED, why
    failure = _failure(one, place, overdue=one.until is not None and one.until <= now)
    return None if failure is None else (TargetState.FAILED, failure)


def _failure(one: Wanted, place: Place, *, overdue: bool) -> str | None:
    """Why a target can never be queued, or was waited for long enough."""
    if not place.known:
        return "device unknown" if overdue else None
    if place.state is None or place.state == "ended":
        return "not enrolled"
    if place.state == "quarantined":
        return "enrollment quarantined"
    if place.channel_id is None:
        return "no such channel" if overdue else None
    return eligibility.why_not(one.request_type, _eligible(place))


def _eligible(place: Place) -> eligibility.Target:
    return eligibility.Target(
        platform=place.platform,
        os_version=place.os_version,
        ownership=place.ownership,
        mode=place.mode or "device",
        supervised=place.supervised,
        access_rights=place.access_rights,
        user_channel=bool(place.user_channel),
    )


def _row(one: Wanted, place: Place, now: datetime) -> pending.New | None:
    if place.channel_id is None or place.enrollment_id is None or place.generation is None:
        return None
    return pending.New(
        channel_id=place.channel_id,
        command_id=one.command_id,
        device_id=one.device_id,
        enrollment_id=place.enrollment_id,
        generation=place.generation,
        priority=one.priority,
        seq=one.ordinal,
        state="held" if one.state == "held" else "queued",
        queued_at=now,
        body=one.body,
    )


def _filing(one: Wanted, place: Place, state: TargetState, reason: str) -> Filing:
    return Filing(
        command_id=one.command_id,
        device_id=one.device_id,
        channel_id=place.channel_id,
        enrollment_id=place.enrollment_id,
        generation=place.generation,
        state=state,
        reason=reason,
    )


def _queued(one: Wanted, row: pending.New) -> Event:
    event = CommandQueued(
        device_id=row.device_id,
        channel_id=row.channel_id,
        command_id=row.command_id,
        kind=one.kind,
        queued_at=row.queued_at,
    )
    origin = Origin.of(one.command_id, one.correlation_id, one.traceparent, one.created_at)
    return event.because(origin)
