"""Authenticate: the beginning of every enrollment, first or repeated (apple.md §1.2).

Many devices may begin at once, so what they leave behind is written in shared transactions: lock
the hardware by its names, read again, decide again, write, announce.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from services.enrollment import fencing, leaving, lifecycle, metrics
from services.enrollment.errors import FenceNeeded, Refused
from services.enrollment.facts import facts_of
from services.enrollment.leaving import Leaving
from services.enrollment.lifecycle import Claim, Decision
from services.enrollment.store import (
    certificates,
    channels,
    devices,
    enrollments,
    pins,
    states,
)
from services.enrollment.store.enrollments import Begun
from services.enrollment.store.fences import Fence
from services.enrollment.store.pins import Hardware, Pin
from shared.bus import outbox
from shared.db.batcher import Batcher, Overloaded
from shared.db.locks import lock_devices
from shared.db.pool import Connection, Pool
from shared.events.devices import CertificateIssued, DeviceQuarantined
from shared.runtime.clock import Clock
from shared.runtime.internal import InternalClient

_TRIES = 3


@dataclass(frozen=True, slots=True)
class Attempt:
    """One Authenticate on its way; `fence` is what command_queue has confirmed for it."""

    certificate: bytes
    claim: Claim
    fence: Fence | None


@dataclass(frozen=True, slots=True)
class _Accepted:
    attempt: Attempt
    pin: Pin
    decision: Decision


class Authenticating:
    """Begins enrollments; fences first where one is displaced or starts over."""

    def __init__(self, pool: Pool, internal: InternalClient, clock: Clock) -> None:
        self._pool, self._internal, self._clock = pool, internal, clock
        self._batcher: Batcher[Attempt, Decision] = Batcher(
            "enrollment.authenticate", pool, self._flush, key=lambda one: one.claim.udid
        )

    async def begin(self, certificate: bytes, claim: Claim) -> Decision:
        """Return what the Authenticate did, once it is stored; `certificate` is its SHA-256.

        Raises Refused; InternalCallFailed when command_queue cannot confirm a fence: then nothing
        has happened, and the old enrollment is as it was.
        """
        fence = None
        for _ in range(_TRIES):
            try:
                return await self._batcher.put(Attempt(certificate, claim, fence))
            except FenceNeeded as needed:
                fence = needed.fence
                if fence:
                    await fencing.tell(self._internal, fence)
        raise Overloaded("an enrollment keeps changing while it is repeated")

    async def close(self) -> None:
        await self._batcher.close()

    async def _flush(
        self, tx: Connection, attempts: Sequence[Attempt]
    ) -> list[Decision | Exception]:
        claims = [one.claim for one in attempts]
        await pins.lock_hardware(
            tx, [claim.udid for claim in claims], [c.serial for c in claims if c.serial]
        )
        current = await pins.read(tx, [one.certificate for one in attempts])
        known = await _known(tx, claims)
        results: list[Decision | Exception] = []
        accepted: list[_Accepted] = []
        taken = _Taken()
        for attempt in attempts:
            pin = current.get(attempt.certificate)
            result = _decide(attempt, pin, known[attempt.claim.udid])
            if isinstance(result, Decision) and not taken.claims(attempt.claim, result):
                result = FenceNeeded(attempt.fence)
            if isinstance(result, Decision) and pin:
                accepted.append(_Accepted(attempt, pin, result))
            results.append(result)
        if accepted:
            await _write(tx, accepted, self._clock.now())
        return results


def _decide(attempt: Attempt, pin: Pin | None, known: Sequence[Hardware]) -> Decision | Exception:
    """Decide with everything locked; what was fenced must be what has to be."""
    if pin is None or pin.revoked:
        return Refused("certificate_revoked", "the certificate was revoked meanwhile")
    try:
        decision = lifecycle.decide(pin, attempt.claim, known)
    except Refused as refused:
        return refused
    return decision if decision.fence == attempt.fence else FenceNeeded(decision.fence)


class _Taken:
    """The hardware a batch already holds: under another of its names, one has to wait."""

    def __init__(self) -> None:
        self._devices: set[UUID] = set()
        self._serials: set[str] = set()

    def claims(self, claim: Claim, decision: Decision) -> bool:
        """Whether this hardware was free, and is held from now on."""
        if decision.device_id in self._devices or claim.serial in self._serials:
            return False
        self._devices.add(decision.device_id)
        if claim.serial:
            self._serials.add(claim.serial)
        return True


async def _known(tx: Connection, claims: Sequence[Claim]) -> Mapping[str, Sequence[Hardware]]:
    """Which known hardware bears the names that each claim (by its UDID) brings."""
    found = await pins.known_hardware(
        tx, [claim.udid for claim in claims], [c.serial for c in claims if c.serial]
    )
    by_name: dict[tuple[str, str | None], list[Hardware]] = defaultdict(list)
    for one in found:
        by_name["udid", one.udid].append(one)
        by_name["serial", one.serial].append(one)
    known = {}
    for claim in claims:
        of_claim = [*by_name["udid", claim.udid]]
        if claim.serial:
            of_claim += [h for h in by_name["serial", claim.serial] if h not in of_claim]
        known[claim.udid] = of_claim
    return known


async def _write(tx: Connection, accepted: Sequence[_Accepted], now: datetime) -> None:
    """All that these Authenticates change, one statement for each kind of change."""
    heard_of = [one.decision.device_id for one in accepted if not one.decision.unheard_of]
    await lock_devices(tx, heard_of)
    superseded = [
        Leaving(one.decision.supersedes.enrollment_id, "superseded", fenced=True)
        for one in accepted
        if one.decision.supersedes
    ]
    if superseded:
        await leaving.end(tx, superseded, now)
    await _reset(tx, accepted)
    begun = [_begun(one) for one in accepted]
    await _introduce(tx, accepted, begun, now)
    await enrollments.save(tx, begun, now)
    issued = await _pin(tx, accepted)
    claims = [_quarantined(one) for one in accepted if one.decision.kind == "quarantine"]
    metrics.QUARANTINED.inc(len(claims))
    after = await states.read(tx, [one.decision.device_id for one in accepted])
    await outbox.emit(tx, [*claims, *issued, *after])


async def _introduce(
    tx: Connection, accepted: Sequence[_Accepted], begun: Sequence[Begun], now: datetime
) -> None:
    """Take over what trusted devices say of themselves; of a mere claim only that it exists."""
    facts = [
        facts_of(enrollment, first=one.decision.enrollment is None)
        for one, enrollment in zip(accepted, begun, strict=True)
        if not one.decision.quarantined
    ]
    if facts:
        await devices.save(tx, facts, now)
    claimed = [
        (one.decision.device_id, one.attempt.claim.udid)
        for one in accepted
        if one.decision.kind == "quarantine"
    ]
    if claimed:
        await devices.introduce(tx, claimed)


async def _pin(tx: Connection, accepted: Sequence[_Accepted]) -> list[CertificateIssued]:
    """Bind each certificate to its enrollment; only now it is known which device it is of."""
    renewing = {one.attempt.certificate for one in accepted if one.decision.enrollment}
    imported = {one.pin.sha256 for one in accepted if one.pin.grant and one.pin.grant.imported}
    pinned = await certificates.pin(
        tx,
        [
            (one.attempt.certificate, one.decision.enrollment_id, one.decision.device_id)
            for one in accepted
            if not one.pin.pinned
        ],
    )
    return [
        CertificateIssued(
            device_id=one.device_id,
            sha256=one.sha256.hex(),
            serial_number=one.serial_number,
            not_after=one.not_after,
            renewal=one.sha256 in renewing,
            imported=one.sha256 in imported,
        )
        for one in pinned
    ]


async def _reset(tx: Connection, accepted: Sequence[_Accepted]) -> None:
    """A new generation begins with closed channels (apple.md §1.2, Authenticate).

    The bootstrap token of a device that started over is void; a renewal keeps it.
    """
    again = [one for one in accepted if one.decision.enrollment]
    if again:
        await channels.reset(tx, [one.decision.enrollment_id for one in again])
    void = [one.decision.enrollment_id for one in again if one.decision.kind != "renewal"]
    if void:
        await enrollments.forget_bootstrap_tokens(tx, void)


def _begun(one: _Accepted) -> Begun:
    decision, claim, grant = one.decision, one.attempt.claim, one.pin.grant
    again = decision.enrollment
    return Begun(
        enrollment_id=decision.enrollment_id,
        device_id=decision.device_id,
        generation=decision.generation,
        state="quarantined" if decision.quarantined else "pending",
        mode=again.mode if again else claim.mode,
        id_kind=claim.id_kind,
        udid=claim.udid,
        session_id=grant.session_id if grant else None,
        credential_id=grant.credential_id if grant else None,
        ownership=grant.ownership if grant else "unknown",
        user_name=grant.user_name if grant else None,
        access_rights=again.access_rights if again else _rights(one),
        claimed={"platform": claim.platform, "serial": claim.serial, **claim.facts},
        reasons=list(decision.reasons),
        authenticated_with=one.attempt.certificate,
    )


def _rights(one: _Accepted) -> int | None:
    return one.pin.grant.access_rights if one.pin.grant else None


def _quarantined(one: _Accepted) -> DeviceQuarantined:
    return DeviceQuarantined(
        device_id=one.decision.device_id,
        enrollment_id=one.decision.enrollment_id,
        reasons=list(one.decision.reasons),
        conflicts_with=one.decision.conflicts_with,
    )
