"""What becomes of each row of an import: pure decisions over what is known of its certificate and
its hardware.

An import must never be a way into a device that is here already (decision 16): whoever holds an
export, or writes one, gets nobody's channel, queue or escrow. So what is here stays exactly as it
is, and known hardware with another certificate is refused.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Literal
from uuid import UUID

from cryptography import x509

from services.enrollment import lifecycle
from services.enrollment.errors import Refused
from services.enrollment.import_rows import Candidate
from services.enrollment.lifecycle import Decision
from services.enrollment.store.pins import Grant, Hardware, Pin
from shared.events.base import uuid7

Outcome = Literal["enrolled", "registered", "already_there", "refused"]
IssuedHere = Callable[[x509.Certificate], bool]

ENDS_SOON = timedelta(days=30)
"""A certificate with less than this left is worth a warning."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """`decision` is what writing an enrolled row follows; `pin` the registration it completes."""

    outcome: Outcome
    candidate: Candidate | None = field(default=None, repr=False)
    code: str | None = None
    reason: str | None = None
    device_id: UUID | None = None
    enrollment_id: UUID | None = None
    decision: Decision | None = None
    pin: Pin | None = None

    @property
    def gist(self) -> tuple[Outcome, str | None, UUID | None, bytes | None]:
        """What two looks at the same row must agree in; ids that were drawn are not in it."""
        given = self.decision if self.decision and not self.decision.unheard_of else None
        return (
            self.outcome,
            self.code,
            given.device_id if given else None,
            self.pin.sha256 if self.pin else None,
        )


def judge(
    rows: Iterable[Candidate | Refused],
    pins: Mapping[bytes, Pin],
    known: Sequence[Hardware],
    issued_here: IssuedHere,
) -> list[Verdict]:
    """Decide about rows as if each was imported before the next was looked at."""
    bench = _Bench(pins, known, issued_here)
    return [bench.judge(row) for row in rows]


class _Bench:
    def __init__(
        self, pins: Mapping[bytes, Pin], known: Sequence[Hardware], issued_here: IssuedHere
    ) -> None:
        self._pins, self._known, self._issued_here = pins, known, issued_here
        self._seen: dict[bytes, Verdict] = {}
        self._taken: set[tuple[str, str | None]] = set()
        self._devices: set[UUID | None] = set()

    def judge(self, row: Candidate | Refused) -> Verdict:
        if isinstance(row, Refused):
            return _refused(row)
        try:
            verdict = self._judge(row)
        except Refused as refused:
            return _refused(refused, row)
        if verdict.outcome in ("enrolled", "registered"):
            self._seen[row.identity.sha256] = verdict
        if verdict.outcome == "enrolled":
            self._taken |= _names(row)
            self._devices.add(verdict.device_id)
        return verdict

    def _judge(self, row: Candidate) -> Verdict:
        pin, earlier = self._pins.get(row.identity.sha256), self._seen.get(row.identity.sha256)
        if earlier and earlier.candidate:
            return _repeated(row, earlier, earlier.candidate)
        if pin is not None and (found := _known_certificate(row, pin)):
            return found
        if pin is None and self._issued_here(row.identity.parsed):
            raise Refused("certificate_issued_here", "our own CA issued this certificate")
        if self._taken & _names(row):
            raise _hardware_known()
        decision = lifecycle.decide(pin or _registered(row), row.claim, self._hardware(row))
        if decision.quarantined:
            raise _hardware_known(decision)
        if decision.device_id in self._devices:
            raise _hardware_known()
        if row.opening is None:
            return Verdict("registered", row)
        return Verdict(
            "enrolled",
            row,
            device_id=decision.device_id,
            enrollment_id=decision.enrollment_id,
            decision=decision,
            pin=pin,
        )

    def _hardware(self, row: Candidate) -> list[Hardware]:
        claim = row.claim
        return [
            one
            for one in self._known
            if one.udid == claim.udid or (claim.serial is not None and one.serial == claim.serial)
        ]


def _known_certificate(row: Candidate, pin: Pin) -> Verdict | None:
    """What is to be said of a certificate that has a row; None: its registration is completed."""
    if pin.pinned and pin.enrollment:
        enrollment = pin.enrollment
        _check_same_id(row, enrollment.id_kind, enrollment.udid)
        if pin.revoked or pin.leaving or enrollment.state == "ended":
            raise Refused("certificate_revoked", "its management ended here: it must enroll anew")
        return Verdict(
            "already_there",
            row,
            device_id=enrollment.device_id,
            enrollment_id=enrollment.enrollment_id,
        )
    if pin.grant is None or not pin.grant.imported:
        raise Refused("certificate_issued_here", "our own CA issued this certificate")
    if pin.revoked:
        raise Refused("certificate_revoked", "this certificate was revoked here")
    _check_same_id(row, pin.grant.id_kind, pin.grant.udid)
    return Verdict("already_there", row) if row.opening is None else None


def _check_same_id(row: Candidate, id_kind: str | None, udid: str | None) -> None:
    if (row.claim.id_kind, row.claim.udid) != (id_kind, udid):
        raise Refused("certificate_of_another", "this certificate is pinned to another device")


def _repeated(row: Candidate, earlier: Verdict, before: Candidate) -> Verdict:
    """The same certificate once more in one call: as if it came in the next."""
    _check_same_id(row, before.claim.id_kind, before.claim.udid)
    if earlier.outcome == "registered" and row.opening:
        raise Refused("row_repeated", "an earlier row registers this certificate: import it again")
    return Verdict(
        "already_there", row, device_id=earlier.device_id, enrollment_id=earlier.enrollment_id
    )


def _registered(row: Candidate) -> Pin:
    """The pin of a certificate that is registered for exactly the ids of its row."""
    identity, claim = row.identity, row.claim
    grant = Grant(
        session_id=uuid7(),
        credential_id=None,
        platform=row.platform,
        ownership=row.ownership,
        serial=claim.serial,
        user_name=row.user_name,
        access_rights=row.access_rights,
        withdrawn=False,
        imported=True,
        id_kind=claim.id_kind,
        udid=claim.udid,
    )
    return Pin(
        sha256=identity.sha256,
        not_before=identity.not_before,
        not_after=identity.not_after,
        revoked=False,
        pinned=False,
        leaving=False,
        grant=grant,
        enrollment=None,
    )


def _names(row: Candidate) -> set[tuple[str, str | None]]:
    names: set[tuple[str, str | None]] = {("udid", row.claim.udid)}
    return names | {("serial", row.claim.serial)} if row.claim.serial else names


def _hardware_known(decision: Decision | None = None) -> Refused:
    return Refused(
        "hardware_known",
        "; ".join(decision.reasons)
        if decision
        else "known hardware came with another certificate: an earlier row has its UDID or serial",
    )


def _refused(refused: Refused, row: Candidate | None = None) -> Verdict:
    return Verdict("refused", row, code=refused.code, reason=refused.reason)
