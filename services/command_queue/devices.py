"""The projection of who is managed: each event replaces all that was known of a device.

News that is older than a fence changes nothing: the fence was raised before enrollment's own
answer, and the event that shows it is still on its way.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Final, Literal
from uuid import UUID

from services.command_queue import expansion, fencing
from services.command_queue.apple import eligibility
from services.command_queue.store import devices, fences
from services.command_queue.store.devices import Channel, Device, Enrollment, Pin
from shared.bus import outbox
from shared.bus.handlers import Handler
from shared.db.pool import Connection
from shared.events import Event
from shared.events.commands import CommandQueued, QueuedTarget
from shared.events.device_state import AuthorityPublished, DeviceState, EnrollmentState
from shared.runtime.clock import Clock

# Longer than an Authenticate can take between its fence and its commit.
_ATTEMPT: Final = timedelta(minutes=5)


def handler(clock: Clock) -> Handler:
    """Return the handler of DeviceState."""

    async def handle(tx: Connection, states: Sequence[DeviceState]) -> None:
        await apply(tx, states, clock.now())

    return handle


async def apply(tx: Connection, states: Sequence[DeviceState], now: datetime) -> None:
    """Replace what is known of these devices, end what no longer has anybody to go to, and place
    what waited for them.
    """
    news = await devices.know(tx, [_device(state) for state in states if not state.deleted])
    gone = await devices.forget(
        tx, [(state.device_id, state.meta.sequence) for state in states if state.deleted]
    )
    changed = news | gone
    if not changed:
        return
    current = [state for state in states if state.device_id in changed]
    opened = await _replace(tx, current)
    events = await fencing.end_outdated(tx, changed, now)
    await outbox.emit(tx, [*events, *await _wake(tx, opened)])
    await expansion.resume(tx, changed, now)


async def publish(tx: Connection, published: Sequence[AuthorityPublished]) -> None:
    """Replace the certificates that device identities are issued under."""
    await devices.publish(
        tx, [(one.authority, one.meta.sequence, "\n".join(one.certificates)) for one in published]
    )


async def _replace(tx: Connection, states: Sequence[DeviceState]) -> set[UUID]:
    """Write enrollments, channels and pins; return the channels that were opened just now."""
    device_ids = sorted({state.device_id for state in states})
    stored = await devices.enrollments(tx, device_ids)
    raised = await fences.of_devices(tx, device_ids)
    told = {
        enrollment.enrollment_id: (state, enrollment)
        for state in states
        if not state.deleted
        for enrollment in state.enrollments
    }
    verdicts = {one: _verdict(*told[one], raised[one]) for one in told.keys() & raised.keys()}
    for verdict, note in (("shown", fences.show), ("void", fences.take_down)):
        if noted := [one for one, found in verdicts.items() if found == verdict]:
            await note(tx, noted)
    if closed := {told[one][0].device_id for one, found in verdicts.items() if found == "older"}:
        await devices.look_closer(tx, closed)
    deleted = {state.device_id for state in states if state.deleted}
    gone = {
        one.enrollment_id
        for one in stored.values()
        if one.enrollment_id not in told
        and (one.device_id in deleted or _is_shown(raised.get(one.enrollment_id)))
    }
    if gone:
        await devices.drop_enrollments(tx, gone)
    return await _keep(tx, [told[one] for one in told if verdicts.get(one) != "older"])


async def _keep(tx: Connection, told: Sequence[tuple[DeviceState, EnrollmentState]]) -> set[UUID]:
    channels = [
        Channel(
            channel_id=channel.channel_id,
            device_id=state.device_id,
            enrollment_id=enrollment.enrollment_id,
            kind=channel.kind,
            user_key=channel.user_key,
            open=channel.open,
            unlock_token=channel.unlock_token,
        )
        for state, enrollment in told
        for channel in enrollment.channels
    ]
    open_now = {channel.channel_id for channel in channels if channel.open}
    opened = await devices.closed(tx, open_now) if open_now else set()
    await devices.keep_enrollments(
        tx,
        [_enrollment(state.device_id, enrollment) for state, enrollment in told],
        channels,
        [pin for state, enrollment in told for pin in _pins(state.device_id, enrollment)],
    )
    return opened


def _is_shown(raised: fences.Raised | None) -> bool:
    return raised is None or raised.shown


def _verdict(
    state: DeviceState, told: EnrollmentState, raised: fences.Raised
) -> Literal["older", "shown", "void", "newer"]:
    """Place an event before or after the fence that stands for one of its enrollments."""
    if raised.shown:
        return "newer"
    if told.generation > raised.generation:
        return "shown"
    again = raised.state == "reauthenticated"
    if told.generation < raised.generation:
        # The attempt it was raised for came to nothing (architecture §4: the enrollment stays as it
        # was): enrollment still tells of the old generation, long after it could have committed.
        late = state.meta.time > raised.fenced_at + _ATTEMPT
        return "void" if again and late else "older"
    if again or told.state not in {"enrolled", "pending"}:
        return "shown"
    return "older"


async def _wake(tx: Connection, opened: set[UUID]) -> list[Event]:
    """Tell of work that had to wait for its channel to open: one command a channel is enough."""
    if not opened:
        return []
    return [
        CommandQueued(
            command_id=one.command_id,
            kind=one.kind,
            queued_at=one.queued_at,
            targets=[QueuedTarget(device_id=one.device_id, channel_id=one.channel_id)],
        )
        for one in await devices.to_wake(tx, opened)
    ]


def _device(state: DeviceState) -> Device:
    current = _current(state)
    channel = current and next((one for one in current.channels if one.kind == "device"), None)
    return Device(
        device_id=state.device_id,
        sequence=state.meta.sequence,
        platform=state.platform,
        ownership=state.ownership,
        os_version=state.os_version,
        current_enrollment=state.current_enrollment,
        channel_id=channel.channel_id if channel else None,
        generation=current.generation if current else None,
        traits=eligibility.traits(_target(state, current)) if current else None,
        outbox_shard=outbox.shard_of(str(state.device_id)),
    )


def _current(state: DeviceState) -> EnrollmentState | None:
    """The current enrollment, if it takes commands."""
    for one in state.enrollments:
        if one.enrollment_id == state.current_enrollment and one.state == "enrolled":
            return one
    return None


def _target(state: DeviceState, current: EnrollmentState) -> eligibility.Target:
    return eligibility.Target(
        state.platform,
        state.os_version,
        state.ownership,
        current.mode,
        current.supervised,
        current.access_rights,
        user_channel=False,
    )


def _enrollment(device_id: UUID, told: EnrollmentState) -> Enrollment:
    return Enrollment(
        enrollment_id=told.enrollment_id,
        device_id=device_id,
        generation=told.generation,
        state=told.state,
        mode=told.mode,
        supervised=told.supervised,
        access_rights=told.access_rights,
        udid=told.udid,
    )


def _pins(device_id: UUID, told: EnrollmentState) -> list[Pin]:
    return [Pin(bytes.fromhex(pin), device_id, told.enrollment_id) for pin in told.pins]
