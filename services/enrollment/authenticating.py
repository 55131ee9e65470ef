"""Authenticate: the beginning of every enrollment, first or repeated (apple.md §1.2)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from uuid import UUID

from services.enrollment import leaving, lifecycle, metrics, suspicions
from services.enrollment.errors import Refused, TryAgain
from services.enrollment.facts import facts_of
from services.enrollment.leaving import Leaving
from services.enrollment.lifecycle import Claim, Decision
from services.enrollment.store import channels, devices, enrollments, lobby, pins
from services.enrollment.store.enrollments import Begun, Pinned
from services.enrollment.store.fences import Fence
from services.enrollment.store.lobby import Guest
from services.enrollment.store.pins import Enrollment, Hardware, Pin, Standing
from shared.bus.context import Trail
from shared.db.pool import Connection
from shared.events.base import Event
from shared.events.devices import CertificateIssued, DeviceQuarantined


@dataclass(frozen=True, slots=True)
class Attempt:
    """One Authenticate on its way.

    `fence` is what command_queue has confirmed for it, `holds` whose rows its batch locks.
    """

    certificate: bytes
    claim: Claim
    trail: Trail
    fence: Fence | None = None
    holds: frozenset[UUID] = frozenset()

    @property
    def udid(self) -> str:
        return self.claim.udid


@dataclass(frozen=True, slots=True)
class Accepted:
    attempt: Attempt
    pin: Pin
    decision: Decision
    begun: Begun

    @property
    def device_id(self) -> UUID:
        return self.decision.device_id

    @property
    def trail(self) -> Trail:
        return self.attempt.trail

    @property
    def newcomer(self) -> bool:
        """Whether the device is new to the house and trusted: nobody can know it, and what it lacks
        are its tokens, so its state is told with them
        (docs/decisions/0032-a-newcomer-is-told-with-its-token-update.md).
        """
        return self.decision.unheard_of and not self.decision.quarantined

    @property
    def bound(self) -> Pin:
        """The certificate's pin as this Authenticate leaves it."""
        begun = self.begun
        enrollment = Enrollment(
            enrollment_id=begun.enrollment_id,
            device_id=begun.device_id,
            generation=begun.generation,
            state=begun.state,
            mode=begun.mode,
            id_kind=begun.id_kind,
            udid=begun.udid,
            authenticated_with=begun.authenticated_with,
            end_reason=None,
            access_rights=begun.access_rights,
        )
        return replace(self.pin, pinned=True, enrollment=enrollment)


async def hardware(
    tx: Connection, claims: Sequence[Claim], standings: Sequence[Standing | None]
) -> Mapping[UUID, Hardware]:
    """The known devices that bear a name claimed here; in a first enrollment there is none."""
    if not any(one and one.known for one in standings):
        return {}
    found = await pins.known_hardware(
        tx, [claim.udid for claim in claims], [c.serial for c in claims if c.serial]
    )
    return {one.device_id: one for one in found}


def decide(
    attempt: Attempt,
    standing: Standing | None,
    known: Mapping[UUID, Hardware],
    threshold: int,
) -> Accepted:
    """Decide with everything locked; what was fenced must be what has to be.

    Raises Refused and TryAgain.
    """
    if standing is None or standing.pin.revoked:
        raise Refused("certificate_revoked", "the certificate was revoked meanwhile")
    pin = standing.pin
    concerned = frozenset((pin.enrollment.device_id,)) if pin.enrollment else standing.known
    if not concerned <= attempt.holds:
        raise TryAgain(attempt.fence, concerned)
    bearers = [known[device_id] for device_id in sorted(standing.known) if device_id in known]
    decision = lifecycle.decide(pin, attempt.claim, bearers, standing.signs, threshold)
    if decision.fence != attempt.fence:
        raise TryAgain(decision.fence, concerned)
    return Accepted(attempt, pin, decision, _begun(attempt, pin, decision))


async def write(
    tx: Connection, accepted: Sequence[Accepted], now: datetime, patience: timedelta
) -> list[Event]:
    """All that these Authenticates change, one statement for each kind of change.

    Returns what there is to tell beside the devices' states.
    """
    superseded = [
        Leaving(
            one.decision.supersedes.enrollment_id,
            "superseded",
            fenced=True,
            trail=one.attempt.trail,
        )
        for one in accepted
        if one.decision.supersedes
    ]
    if superseded:
        await leaving.end(tx, superseded, now)
    await _reset(tx, accepted)
    begun = [one.begun for one in accepted]
    await _introduce(tx, accepted, begun, now)
    issued = _issued(accepted, await enrollments.begin(tx, begun, now))
    waiting = [one for one in accepted if one.decision.kind == "quarantine"]
    if waiting:
        await lobby.add(tx, [_guest(one) for one in waiting], now, now + patience)
        metrics.QUARANTINED.inc(len(waiting))
    return [*(_quarantined(one) for one in waiting), *issued]


async def _introduce(
    tx: Connection, accepted: Sequence[Accepted], begun: Sequence[Begun], now: datetime
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


def _issued(accepted: Sequence[Accepted], pinned: Sequence[Pinned]) -> list[CertificateIssued]:
    """Certificates that are bound now; only now it is known which device each is of."""
    renewing = {one.attempt.certificate for one in accepted if one.decision.enrollment}
    imported = {one.pin.sha256 for one in accepted if one.pin.grant and one.pin.grant.imported}
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


async def _reset(tx: Connection, accepted: Sequence[Accepted]) -> None:
    """A new generation begins with closed channels (apple.md §1.2, Authenticate).

    The bootstrap token of a device that started over is void; a renewal keeps it.
    """
    again = [one for one in accepted if one.decision.enrollment]
    if again:
        await channels.reset(tx, [one.decision.enrollment_id for one in again])
    void = [one.decision.enrollment_id for one in again if one.decision.kind != "renewal"]
    if void:
        await enrollments.forget_bootstrap_tokens(tx, void)


def _begun(attempt: Attempt, pin: Pin, decision: Decision) -> Begun:
    claim, grant, again = attempt.claim, pin.grant, decision.enrollment
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
        access_rights=again.access_rights if again else grant.access_rights if grant else None,
        claimed={"platform": claim.platform, "serial": claim.serial, **claim.facts},
        reasons=list(decision.reasons),
        authenticated_with=attempt.certificate,
    )


def _guest(one: Accepted) -> Guest:
    grant = one.pin.grant
    return Guest(
        enrollment_id=one.decision.enrollment_id,
        device_id=one.decision.device_id,
        udid=one.attempt.claim.udid,
        conflicts_with=one.decision.conflicts_with,
        reasons=one.decision.reasons,
        score=suspicions.score(one.decision.reasons),
        credential_id=grant.credential_id if grant else None,
        handed_to=grant.address if grant else None,
        address=one.attempt.claim.address,
    )


def _quarantined(one: Accepted) -> DeviceQuarantined:
    return DeviceQuarantined(
        device_id=one.decision.device_id,
        enrollment_id=one.decision.enrollment_id,
        reasons=list(one.decision.reasons),
        score=suspicions.score(one.decision.reasons),
        credential_id=one.begun.credential_id,
        conflicts_with=one.decision.conflicts_with,
    )
