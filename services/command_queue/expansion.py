"""From frozen target lists to open work in queues, resumable at any instant.

A few hundred targets a transaction, their devices locked and sorted: a command to 100,000 devices
holds up the poll of one of them for moments, and no other command
(docs/decisions/0023-fan-out-in-small-bites.md). Plain targets are placed by the database alone
(docs/decisions/0027-plain-targets-are-placed-by-the-database.md); each of the others is looked at
here.
"""

from __future__ import annotations

import enum
import functools
import operator
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

from services.command_queue import metrics, settling
from services.command_queue.apple import eligibility
from services.command_queue.settling import Origin
from services.command_queue.store import devices, fences, pending, placing, targets
from services.command_queue.store.devices import Place
from services.command_queue.store.outcomes import Filing
from services.command_queue.store.placing import NextChunk
from services.command_queue.store.targets import Asked, Wanted
from shared.bus import outbox, waking
from shared.db.locks import lock_devices
from shared.db.pool import Connection, Pool, connected, transaction
from shared.events import Event
from shared.events.commands import CommandQueued, QueuedTarget, TargetState
from shared.runtime.latest import Latest

LIMIT: Final = targets.CHUNK
_MOST_TRAITS: Final = 256
_NOBODY: Final = QueuedTarget(device_id=UUID(int=0), channel_id=UUID(int=0))
_BY_DEVICE: Final = operator.attrgetter("device_id.int", "channel_id.int")
_ENDED: Final = {"cancelled": TargetState.CANCELLED, "expired": TargetState.EXPIRED}

_Judge = Callable[[str, eligibility.Target], str | None]
# By request type, the traits of targets that were found eligible: facts that only a new release
# changes. The oldest go first.
_eligible_traits: defaultdict[str, Latest[int, None]] = defaultdict(lambda: Latest(_MOST_TRAITS))


@dataclass(slots=True)
class _Sorted:
    """What becomes of targets."""

    queued: list[tuple[Wanted, pending.New]] = field(default_factory=list)
    ended: list[Filing] = field(default_factory=list)
    waiting: list[Wanted] = field(default_factory=list)


class Bite(enum.IntEnum):
    """What was expanded in one transaction."""

    NOTHING = 0
    FIRST = 1
    """The first targets of commands."""
    LATER = 2
    """Further targets of a large one."""


async def expand(pool: Pool, now: datetime, patience: timedelta) -> Bite:
    """Expand the chunks that are next; more may wait unless it was nothing."""
    async with connected(pool) as connection:
        chunks, others = await placing.next_chunks(connection, LIMIT)
        for same in _by_request_type(chunks):
            others |= await _place_plain(connection, same, now)
        taken = await targets.read_next(connection, LIMIT) if others else targets.Taken([], {})
    if taken.keys:
        async with transaction(pool) as tx:
            await lock_devices(tx, taken.devices)
            wanted = await targets.take(tx, taken)
            await _place(tx, wanted, now, now + patience)
    numbers = [one.chunk for one in chunks] + [chunk for _, chunk in taken.keys]
    if not numbers:
        return Bite.NOTHING
    return Bite.LATER if any(numbers) else Bite.FIRST


async def is_new(pool: Pool) -> bool:
    """Whether there is a command of which nothing was expanded yet."""
    async with connected(pool) as connection:
        return await targets.is_new(connection)


def _by_request_type(chunks: Sequence[NextChunk]) -> Iterable[list[NextChunk]]:
    found: dict[str, list[NextChunk]] = {}
    for one in chunks:
        found.setdefault(one.asked.request_type, []).append(one)
    return found.values()


async def _place_plain(connection: Connection, chunks: Sequence[NextChunk], now: datetime) -> bool:
    """Queue what is plain of these chunks; True: some of it was not, and waits to be looked at."""
    known = _eligible_traits[chunks[0].asked.request_type]
    placed, others = await placing.place(
        connection, [(one, _pattern(one.asked, now)) for one in chunks], known, now
    )
    metrics.QUEUED.inc(placed)
    waking.wake("command_queue")
    return others


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
    still = {one.key for one in sorted_.waiting}
    done = [one for one in waiting if one.key not in still]
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
    rows = [row for _, row in sorted_.queued]
    if rows:
        await pending.add(tx, rows)
        metrics.QUEUED.inc(len(rows))
    told: defaultdict[UUID, list[tuple[Asked, pending.New]]] = defaultdict(list)
    for one, row in sorted_.queued:
        if row.state == "queued":
            told[row.command_id].append((one.asked, row))
    events += [_told(same) for same in told.values()]
    await outbox.emit(tx, events)


async def _sort(tx: Connection, wanted: Sequence[Wanted], now: datetime) -> _Sorted:
    """Decide for each target: into a queue, to its end, or on waiting. Devices are locked."""
    found = _Sorted()
    if not wanted:
        return found
    places = await devices.places(
        tx, [(one.device_id, one.channel_id, one.asked.ordinal) for one in wanted]
    )
    raised = await fences.of_devices(tx, sorted({one.device_id for one in wanted}))
    judge = functools.cache(eligibility.why_not)
    for one, place in zip(wanted, places, strict=True):
        fence = raised.get(place.enrollment_id) if raised and place.enrollment_id else None
        end = _end(one, place, fence, now, judge)
        if end is not None:
            found.ended.append(_filing(one, place, *end))
        elif row := _row(one, place, now):
            found.queued.append((one, row))
            if place.traits is not None:
                _remember(one.asked.request_type, place.traits)
        else:
            found.waiting.append(one)
    return found


def _remember(request_type: str, traits: int) -> None:
    _eligible_traits[request_type][traits] = None


def _end(
    one: Wanted, place: Place, fence: fences.Raised | None, now: datetime, judge: _Judge
) -> tuple[TargetState, str] | None:
    """How a target ends before it is queued; None: it does not."""
    asked = one.asked
    if asked.state in _ENDED:
        return _ENDED[asked.state], asked.end_reason or asked.state
    if fence is not None and fence.ordinal > asked.ordinal:
        # Asked for before the device came again: as if it had been queued then.
        why = "re-enrolled" if fence.state == "reauthenticated" else f"enrollment {fence.state}"
        return TargetState.CANCELLED, why
    if place.came_back:
        return TargetState.CANCELLED, "enrollment ended"
    overdue = one.until is not None and one.until <= now
    failure = _failure(asked.request_type, place, judge, overdue=overdue)
    return None if failure is None else (TargetState.FAILED, failure)


def obstacle(request_type: str, place: Place) -> str | None:
    """Why a command that is asked for now would fail before it is sent, as far as is known."""
    return _failure(request_type, place, eligibility.why_not, overdue=True)


def _failure(request_type: str, place: Place, judge: _Judge, *, overdue: bool) -> str | None:
    """Why a target can never be queued, or was waited for long enough."""
    if not place.known:
        return "device unknown" if overdue else None
    if place.state is None or place.state == "ended":
        return "not enrolled"
    if place.state == "quarantined":
        return "enrollment quarantined"
    if place.channel_id is None:
        return "no such channel" if overdue else None
    return judge(request_type, _eligible(place))


def _eligible(place: Place) -> eligibility.Target:
    return eligibility.Target(
        place.platform,
        place.os_version,
        place.ownership,
        place.mode or "device",
        place.supervised,
        place.access_rights,
        bool(place.user_channel),
    )


def _row(one: Wanted, place: Place, now: datetime) -> pending.New | None:
    if place.channel_id is None or place.enrollment_id is None or place.generation is None:
        return None
    asked = one.asked
    return pending.New(
        place.channel_id,
        asked.command_id,
        one.device_id,
        place.enrollment_id,
        place.generation,
        asked.priority,
        asked.ordinal,
        "held" if asked.state == "held" else "queued",
        now,
        one.body,
    )


def _filing(one: Wanted, place: Place, state: TargetState, reason: str) -> Filing:
    return Filing(
        command_id=one.asked.command_id,
        device_id=one.device_id,
        channel_id=place.channel_id,
        enrollment_id=place.enrollment_id,
        generation=place.generation,
        state=state,
        reason=reason,
    )


def _pattern(asked: Asked, now: datetime) -> outbox.Row:
    """What plain targets are told of, without them."""
    event = _queued(asked, [_NOBODY], now)
    row = outbox.row_of(event)
    return row._replace(payload=event.model_copy(update={"targets": []}).model_dump_json())


def _told(same: Sequence[tuple[Asked, pending.New]]) -> CommandQueued:
    """The event of targets of one command that were queued now."""
    asked, first = same[0]
    targets = {
        row.channel_id: QueuedTarget(device_id=row.device_id, channel_id=row.channel_id)
        for _, row in same
    }
    return _queued(asked, sorted(targets.values(), key=_BY_DEVICE), first.queued_at)


def _queued(asked: Asked, targets: list[QueuedTarget], queued_at: datetime) -> CommandQueued:
    event = CommandQueued(
        command_id=asked.command_id, kind=asked.kind, queued_at=queued_at, targets=targets
    )
    origin = Origin.of(asked.command_id, asked.correlation_id, asked.traceparent, asked.created_at)
    return event.because(origin)
