"""Authenticates and TokenUpdates that come at the same time share a transaction.

Many devices enroll at once, and what costs is the statement, not the row: lock everything that the
batch is about, read it, decide each, write, tell (docs/decisions/0018-one-batch-for-arrivals.md).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import cast
from uuid import UUID

from services.enrollment import authenticating, fencing, opening
from services.enrollment.authenticating import Attempt
from services.enrollment.errors import Refused, TryAgain
from services.enrollment.lifecycle import Claim
from services.enrollment.opening import Update
from services.enrollment.settings import EnrollmentSettings
from services.enrollment.store import pins, states
from services.enrollment.store.channels import Channel
from services.enrollment.store.pins import Hardware, Named, Pin, Standing
from shared.bus import outbox
from shared.bus.context import NOWHERE, Trail, trail
from shared.db.batcher import Batcher, Overloaded
from shared.db.pool import Connection, Pool
from shared.runtime.clock import Clock
from shared.runtime.internal import InternalClient

Arrival = Attempt | Update
Accepted = authenticating.Accepted | opening.Accepted

_TRIES = 5
_LANES = 2
_CROWD = 4
"""While PostgreSQL writes one batch, the next is decided here; for fewer it does not pay."""


class Arrivals:
    """Begins enrollments and opens channels; fences first where an enrollment is displaced."""

    def __init__(
        self, pool: Pool, internal: InternalClient, settings: EnrollmentSettings, clock: Clock
    ) -> None:
        self._internal, self._clock = internal, clock
        self._threshold = settings.lobby_threshold
        self._patience = timedelta(days=settings.lobby_days)
        self._batcher: Batcher[Arrival, Accepted] = Batcher(
            "enrollment.arrivals",
            pool,
            self._flush,
            key=lambda one: one.udid,
            parallel=_LANES,
            crowd=_CROWD,
            turn=True,
        )

    async def begin(self, pin: Pin, claim: Claim) -> Pin:
        """Return what the certificate stands for once the Authenticate is stored.

        Raises Refused; InternalCallFailed when command_queue cannot confirm a fence: then nothing
        has happened, and the old enrollment is as it was.
        """
        known = pin.enrollment
        holds = frozenset((known.device_id,)) if known else frozenset[UUID]()
        attempt = Attempt(pin.sha256, claim, trail(), holds=holds)
        for _ in range(_TRIES):
            try:
                accepted = await self._batcher.put(attempt)
            except TryAgain as needed:
                if needed.fence and needed.fence != attempt.fence:
                    await fencing.tell(self._internal, needed.fence)
                attempt = replace(attempt, fence=needed.fence, holds=needed.devices)
            else:
                return cast("authenticating.Accepted", accepted).bound
        raise Overloaded("an enrollment keeps changing while it is repeated")

    async def open(self, update: Update) -> None:
        """Return once the channel's tokens are stored; raises Refused."""
        for _ in range(_TRIES):
            try:
                await self._batcher.put(update)
            except TryAgain:
                continue
            return
        raise Overloaded("too much comes from one device at once")

    async def close(self) -> None:
        await self._batcher.close()

    async def _flush(
        self, tx: Connection, arrivals: Sequence[Arrival]
    ) -> list[Accepted | Exception]:
        await _lock(tx, arrivals)
        read = await _read(tx, arrivals)
        taken = _Taken()
        results = [
            _accept(arrival, standing, read, taken, self._threshold)
            for arrival, standing in zip(arrivals, read.standings, strict=True)
        ]
        accepted = [one for one in results if not isinstance(one, Exception)]
        if accepted:
            await _write(tx, accepted, self._clock.now(), self._patience)
        return results


async def _lock(tx: Connection, arrivals: Sequence[Arrival]) -> None:
    attempts = [one for one in arrivals if isinstance(one, Attempt)]
    devices = {one.device_id for one in arrivals if isinstance(one, Update)}
    await pins.hold(
        tx,
        [one.claim.udid for one in attempts],
        [one.claim.serial for one in attempts if one.claim.serial],
        devices.union(*(one.holds for one in attempts)),
    )


@dataclass(frozen=True, slots=True)
class _Read:
    """What a batch's decisions rest on; `standings` in the order of the arrivals."""

    standings: Sequence[Standing | None]
    hardware: Mapping[UUID, Hardware]
    channels: Sequence[Channel]


async def _read(tx: Connection, arrivals: Sequence[Arrival]) -> _Read:
    standings = await pins.standings(tx, [_presented(one) for one in arrivals])
    claims = [one.claim for one in arrivals if isinstance(one, Attempt)]
    hardware = await authenticating.hardware(tx, claims, standings)
    users = [
        standing
        for arrival, standing in zip(arrivals, standings, strict=True)
        if isinstance(arrival, Update) and arrival.opening.user_kind
    ]
    return _Read(standings, hardware, await opening.channels_behind(tx, users))


def _presented(arrival: Arrival) -> Named:
    if isinstance(arrival, Attempt):
        return Named(arrival.certificate, arrival.claim.udid, arrival.claim.serial)
    return Named(arrival.certificate)


def _accept(
    arrival: Arrival, standing: Standing | None, read: _Read, taken: _Taken, threshold: int
) -> Accepted | Exception:
    accepted: Accepted
    try:
        if isinstance(arrival, Attempt):
            accepted = authenticating.decide(arrival, standing, read.hardware, threshold)
            free = taken.take(accepted.device_id, arrival.certificate, arrival.claim.serial)
        else:
            accepted = opening.accept(arrival, standing, read.channels)
            free = taken.take(accepted.device_id, arrival.certificate)
    except (Refused, TryAgain) as error:
        return error
    if free:
        return accepted
    return TryAgain(arrival.fence, arrival.holds) if isinstance(arrival, Attempt) else TryAgain()


class _Taken:
    """What a batch is about already: who comes for it under another name has to wait."""

    def __init__(self) -> None:
        self._taken: set[object] = set()

    def take(self, device_id: UUID, certificate: bytes, serial: str | None = None) -> bool:
        """Whether all of this was free; if so, it is taken from now on."""
        names = {device_id, certificate, serial} - {None}
        free = self._taken.isdisjoint(names)
        if free:
            self._taken |= names
        return free


async def _write(
    tx: Connection, accepted: Sequence[Accepted], now: datetime, patience: timedelta
) -> None:
    begun = [one for one in accepted if isinstance(one, authenticating.Accepted)]
    opened = [one for one in accepted if isinstance(one, opening.Accepted)]
    events = await authenticating.write(tx, begun, now, patience) if begun else []
    completed = await opening.write(tx, opened, now) if opened else None
    told_now = [one.device_id for one in accepted if not one.newcomer]
    after = await states.read(tx, told_now) if told_now else []
    if completed:
        events += completed.events({state.device_id: state for state in after})
    trails: dict[UUID | None, Trail] = {one.device_id: one.trail for one in accepted}
    told = [*events, *after]
    await outbox.emit(tx, [event.along(*trails.get(event.device, NOWHERE)) for event in told])
