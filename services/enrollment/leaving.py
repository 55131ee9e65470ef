"""How management ends: the device checks out or was erased, or a person revokes it.

Ending revokes every certificate of the enrollment. What ends by itself is stored at once and
command_queue is told by a job; what a person orders takes effect only once command_queue has
confirmed (architecture §4, Fence).
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, Literal, cast
from uuid import UUID

from services.enrollment import fencing, metrics
from services.enrollment.store import certificates, enrollments, fences, states
from services.enrollment.store.certificates import Revoked
from services.enrollment.store.enrollments import Ended
from services.enrollment.store.fences import Fence
from shared.bus import outbox
from shared.bus.context import NOWHERE, Trail
from shared.db.locks import lock_devices
from shared.db.pool import Connection, Pool, connected, transaction
from shared.events.base import Event
from shared.events.commands import CommandFinished, TargetState
from shared.events.devices import CertificateRevoked, DeviceRefused, DeviceUnenrolled
from shared.runtime.charging import charge_surely
from shared.runtime.clock import Clock
from shared.runtime.internal import InternalCallFailed, InternalClient

log = logging.getLogger(__name__)

_RETRY = timedelta(seconds=5)
_AT_ONCE = 50

Reason = Literal[
    "check_out", "erased", "unenrolled", "admin", "revoked", "superseded", "refused", "expired"
]
"""The last two end what waited in the lobby."""

Unenrolled = Literal["check_out", "erased", "unenrolled", "admin", "revoked", "superseded"]
_HOW: Final[dict[str, Literal["expired", "left"]]] = {"check_out": "left", "expired": "expired"}


@dataclass(frozen=True, slots=True)
class Leaving:
    """`fenced`: command_queue has confirmed already. `words`: a person's reason."""

    enrollment_id: UUID
    reason: Reason
    actor: str | None = None
    fenced: bool = False
    words: str | None = None
    trail: Trail = NOWHERE


async def end(tx: Connection, leaving: Sequence[Leaving], now: datetime) -> list[UUID]:
    """End these enrollments; call with their devices' rows locked. Returns the devices concerned.

    What has ended before is left as it is. The caller emits the devices' states, once for all that
    it changes.
    """
    by_id = {one.enrollment_id: one for one in leaving}
    ended = await enrollments.end(tx, [(one.enrollment_id, one.reason) for one in leaving], now)
    reasons = [(one.enrollment_id, by_id[one.enrollment_id].reason) for one in ended]
    revoked = await certificates.revoke_all(tx, reasons, now)
    due = [
        Fence(one.enrollment_id, one.device_id, one.generation, "ended")
        for one in ended
        if not by_id[one.enrollment_id].fenced
    ]
    if due:
        await fences.add(tx, due, now)
    events: list[Event] = [
        _end_of(one, by_id[one.enrollment_id]).along(*by_id[one.enrollment_id].trail)
        for one in ended
    ]
    why = {one.device_id: by_id[one.enrollment_id] for one in ended}
    for one in revoked:
        cause = why.get(one.device_id)
        event = revocation_of(one, cause.actor if cause else None)
        events.append(event.along(*cause.trail) if cause else event)
    await outbox.emit(tx, events)
    return [one.device_id for one in ended]


def _end_of(ended: Ended, why: Leaving) -> Event:
    """What waited in the lobby was never managed: its end says nothing of the device's own one."""
    if ended.waited:
        return DeviceRefused(
            device_id=ended.device_id,
            enrollment_id=ended.enrollment_id,
            how=_HOW.get(why.reason, "refused"),
            actor=why.actor,
            reason=why.words,
        )
    return DeviceUnenrolled(
        device_id=ended.device_id,
        enrollment_id=ended.enrollment_id,
        generation=ended.generation,
        reason=cast("Unenrolled", why.reason),
        actor=why.actor,
    )


def revocation_of(revoked: Revoked, actor: str | None = None) -> CertificateRevoked:
    return CertificateRevoked(
        device_id=revoked.device_id,
        sha256=revoked.sha256.hex(),
        serial_number=revoked.serial_number,
        reason=revoked.revocation_reason,
        actor=actor,
    )


async def end_and_tell(tx: Connection, leaving: Sequence[Leaving], now: datetime) -> None:
    """`end`, and the states of the devices it concerned."""
    devices = await end(tx, leaving, now)
    if devices:
        await outbox.emit(tx, await states.read(tx, devices))


class Departures:
    """Carries fences to command_queue and ends what waited for them."""

    def __init__(self, pool: Pool, internal: InternalClient, clock: Clock) -> None:
        self._pool, self._internal, self._clock = pool, internal, clock

    async def confirm_due(self) -> bool:
        """Carry what is due; True: there is more. What fails comes again, ever more slowly."""
        async with transaction(self._pool) as tx:
            due = await fences.claim(tx, self._clock.now(), _RETRY, _AT_ONCE)
        for fence in due:
            try:
                await self.confirm(fence)
            except InternalCallFailed:
                log.warning("command_queue could not be told of a fence; it will be")
                return False
        return len(due) == _AT_ONCE

    async def measure(self) -> None:
        """Set the gauge of what waits."""
        async with connected(self._pool) as connection:
            metrics.FENCES_WAITING.set(await fences.waiting(connection))

    async def charge(self, fence: Fence, actor: str) -> None:
        """Charge the guard's budgets for what a person orders; raises Problem."""
        await charge_surely(self._internal, fencing.charge_of(fence, actor))

    async def confirm(self, fence: Fence) -> None:
        """Tell one fence, then let what waited for it take effect; raises InternalCallFailed."""
        await fencing.tell(self._internal, fence)
        async with transaction(self._pool) as tx:
            await lock_devices(tx, [fence.device_id])
            if await fences.settle(tx, fence) and fence.ends:
                reason: Reason = "revoked" if fence.ends == "revoked" else "admin"
                leaving = Leaving(fence.enrollment_id, reason, fence.actor, fenced=True)
                await end_and_tell(tx, [leaving], self._clock.now())


async def erased(tx: Connection, finished: Sequence[CommandFinished], now: datetime) -> bool:
    """A device acknowledged its erasure: it will not be heard of again under this enrollment.

    True: something ended, and command_queue is to be told.
    """
    wiped = {
        one.enrollment_id: one
        for one in finished
        if one.kind == "device.erase"
        and one.state in (TargetState.ACKNOWLEDGED, TargetState.VERIFIED)
        and one.enrollment_id is not None
    }
    if not wiped:
        return False
    asked = [(enrollment_id, one.generation or 0) for enrollment_id, one in wiped.items()]
    current = await enrollments.at_generation(tx, asked)
    leaving = [Leaving(one, "erased", wiped[one].actor) for one in sorted(current)]
    await end_and_tell(tx, leaving, now)
    return bool(leaving)
