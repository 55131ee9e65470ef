"""A person decides about an unproven claim: let it in, in the place of what was there."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from services.enrollment import directory, fencing, leaving
from services.enrollment.facts import facts_of
from services.enrollment.leaving import Leaving
from services.enrollment.store import devices, enrollments, lobby, pins, states
from services.enrollment.store.enrollments import Told
from services.enrollment.store.fences import Fence
from shared.bus import outbox
from shared.db.pool import Connection, Pool, transaction
from shared.events.base import Event
from shared.events.device_state import DeviceState, EnrollmentState
from shared.events.devices import BootstrapTokenChanged, DeviceEnrolled, DeviceReleased
from shared.runtime import auditing
from shared.runtime.charging import charge
from shared.runtime.clock import Clock
from shared.runtime.http import Caller
from shared.runtime.internal import InternalClient
from shared.runtime.problems import Problem

DECIDE = "lobby.decide"


@dataclass(frozen=True, slots=True)
class _Found:
    waiting: Told
    current: Told | None
    """The enrollment that runs now and would end."""


class Quarantine:
    """Releases what waits; the enrollment it displaces is fenced first, then ended and revoked."""

    def __init__(self, pool: Pool, internal: InternalClient, clock: Clock) -> None:
        self._pool, self._internal, self._clock = pool, internal, clock

    async def release(
        self, device_id: UUID, enrollment_id: UUID | None, caller: Caller, reason: str
    ) -> UUID:
        """Make the waiting enrollment the device's own; returns its id.

        `enrollment_id` may be None where only one waits. Raises Problem and InternalCallFailed:
        nothing has happened then.
        """
        async with transaction(self._pool) as tx:
            await directory.find(tx, device_id, caller.reach(DECIDE))
            udid = (await _find(tx, device_id, enrollment_id)).waiting.udid
            await pins.hold(tx, [udid], [], [device_id])
            found = await _find(tx, device_id, enrollment_id)
            known = await pins.known_hardware(tx, [udid], [])
            if any(one.device_id != device_id for one in known):
                raise Problem(409, "hardware_elsewhere", "Another device bears this UDID now.")
            if found.current:
                # Under the lock, unlike all other fences: command_queue never takes this one down,
                # so nothing may come between it and the end that it announces.
                old = found.current
                fence = Fence(old.enrollment_id, device_id, old.generation, "ended")
                # Displacing a device ends its management: charged like a revocation.
                await charge(self._internal, fencing.charge_of(fence, caller.actor))
                await fencing.tell(self._internal, fence)
            await self._let_in(tx, found, caller, reason)
        return found.waiting.enrollment_id

    async def _let_in(self, tx: Connection, found: _Found, caller: Caller, reason: str) -> None:
        now, waiting = self._clock.now(), found.waiting
        if found.current:
            old = Leaving(found.current.enrollment_id, "superseded", caller.actor, fenced=True)
            await leaving.end(tx, [old], now)
        await lobby.decide(tx, waiting.enrollment_id, "released", caller.actor, now, reason)
        complete = await enrollments.has_tokens(tx, waiting.enrollment_id)
        await enrollments.release(tx, waiting.enrollment_id, now, complete=complete)
        await devices.save(tx, [facts_of(waiting)], now)
        released = DeviceReleased(
            device_id=waiting.device_id,
            enrollment_id=waiting.enrollment_id,
            actor=caller.actor,
            reason=reason,
        )
        [state] = await states.read(tx, [waiting.device_id])
        events: list[Event] = [released]
        if complete:
            events.append(enrolled_event(state, waiting.enrollment_id, now))
        if waiting.bootstrap_token_escrowed:
            events.append(
                BootstrapTokenChanged(
                    device_id=waiting.device_id,
                    enrollment_id=waiting.enrollment_id,
                    escrowed=True,
                )
            )
        await outbox.emit(tx, [*events, state])
        await auditing.record(
            tx,
            caller,
            DECIDE,
            "lobby.release",
            str(waiting.device_id),
            after={"enrollment_id": str(waiting.enrollment_id), "reasons": waiting.reasons},
            reason=reason,
        )


def enrolled_event(
    state: DeviceState,
    enrollment_id: UUID,
    now: datetime,
    *,
    awaiting_configuration: bool = False,
) -> DeviceEnrolled:
    """What the rest of the house hears when an enrollment is complete."""
    enrollment = enrollment_in(state, enrollment_id)
    channel = next(channel for channel in enrollment.channels if channel.kind == "device")
    return DeviceEnrolled(
        device_id=state.device_id,
        enrollment_id=enrollment_id,
        generation=enrollment.generation,
        channel_id=channel.channel_id,
        platform=state.platform,
        ownership=state.ownership,
        again=enrollment.generation > 1,
        awaiting_configuration=awaiting_configuration,
        serial=state.serial,
        model=state.model,
        product=state.product,
        os_version=state.os_version,
        build=state.build,
        name=state.name,
        enrolled_at=now,
    )


def enrollment_in(state: DeviceState, enrollment_id: UUID) -> EnrollmentState:
    return next(one for one in state.enrollments if one.enrollment_id == enrollment_id)


async def _find(tx: Connection, device_id: UUID, enrollment_id: UUID | None) -> _Found:
    told = await enrollments.of_device(tx, device_id)
    waiting = [
        one
        for one in told
        if one.state == "quarantined" and enrollment_id in (None, one.enrollment_id)
    ]
    if not waiting:
        raise Problem(404, "nothing_quarantined", "No enrollment of this device waits for release.")
    if len(waiting) > 1:
        raise Problem(
            409,
            "several_quarantined",
            "Several enrollments wait: name one as enrollment_id.",
            enrollments=[str(one.enrollment_id) for one in waiting],
        )
    current = next((one for one in told if one.state in ("pending", "enrolled")), None)
    return _Found(waiting[0], current)
