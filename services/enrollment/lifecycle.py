"""What an Authenticate means: a first enrollment, a repeat, a return with proof, or a claim.

Pure decisions (architecture §4), made with everything locked. One that needs a fence takes effect
only when exactly that fence was confirmed before; else it is dropped and made again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal
from uuid import UUID

from services.enrollment import suspicions
from services.enrollment.errors import Refused
from services.enrollment.store.fences import Fence
from services.enrollment.store.pins import Enrollment, Grant, Hardware, Pin, Signs
from shared.events.base import uuid7

Kind = Literal["first", "repeat", "renewal", "return", "quarantine", "wait"]

PROOF_BY_ENDING = frozenset({"check_out", "erased"})
"""An enrollment that ended so left the hardware free: nobody is displaced."""


@dataclass(frozen=True, slots=True)
class Claim:
    """What an Authenticate says of itself; believed only as far as the certificate reaches."""

    id_kind: str
    udid: str
    """UDID, or EnrollmentID of a user enrollment."""
    serial: str | None
    platform: str
    facts: dict[str, Any] = field(default_factory=dict)
    """name, model, product, os_version, build, …: short texts."""
    address: str | None = None
    """Where it came from; None where the peer says nothing of it."""

    @property
    def mode(self) -> Literal["device", "user"]:
        return "user" if self.id_kind == "enrollment_id" else "device"


@dataclass(frozen=True, slots=True)
class Decision:
    """`supersedes` ends; `fence` must have been confirmed by command_queue before."""

    kind: Kind
    device_id: UUID
    enrollment_id: UUID
    generation: int
    enrollment: Enrollment | None = None
    supersedes: Enrollment | None = None
    fence: Fence | None = None
    reasons: Sequence[str] = ()
    """Codes of `suspicions`; empty unless it waits."""
    conflicts_with: UUID | None = None
    unheard_of: bool = False
    """Nobody else can know the device yet, so there is no row to lock."""

    @property
    def quarantined(self) -> bool:
        return self.kind in ("quarantine", "wait")


def decide(
    pin: Pin,
    claim: Claim,
    known: Sequence[Hardware],
    signs: Signs = Signs(),  # noqa: B008 - frozen
    threshold: int = suspicions.ALWAYS,
) -> Decision:
    """Decide what an Authenticate does; `known` is the hardware that bears the claimed names.

    What weighs as much as `threshold` waits for a person. Raises Refused. New ids are drawn: two
    calls agree in everything else.
    """
    if pin.enrollment is not None:
        return _again(pin, pin.enrollment, claim)
    if pin.grant is None:
        raise Refused("certificate_unknown", "the certificate belongs to no enrollment session")
    _check_bounds(pin.grant, claim)
    reasons = suspicions.of_first(pin.grant, claim.serial, claim.platform, claim.address, signs)
    if not known:
        return _new(uuid7(), _weighed(reasons, threshold), unheard_of=True)
    by_udid = next((one for one in known if one.udid == claim.udid), None)
    by_serial = [one for one in known if claim.serial and one.serial == claim.serial]
    device = by_udid or by_serial[0]
    others = [one.device_id for one in by_serial if one.device_id != device.device_id]
    if others:
        return _claim(device, [*reasons, "hardware_split"], others[0])
    if device.current is None or device.current.end_reason in PROOF_BY_ENDING:
        weighed = _weighed(reasons, threshold)
        return _new(device.device_id, weighed, returns=device.current is not None)
    if not _proves(pin.grant, claim, device):
        reasons.append("hardware_known")
    weighed = _weighed(reasons, threshold)
    return _claim(device, weighed, device.device_id) if weighed else _replace(device)


def _weighed(reasons: Sequence[str], threshold: int) -> Sequence[str]:
    """The reasons to wait; what weighs too little is none."""
    return reasons if suspicions.score(reasons) >= threshold else ()


def _again(pin: Pin, enrollment: Enrollment, claim: Claim) -> Decision:
    """The certificate speaks for an enrollment: the device starts over, or renews."""
    if (claim.id_kind, claim.udid) != (enrollment.id_kind, enrollment.udid):
        raise Refused("certificate_of_another", "the certificate belongs to another enrollment")
    if enrollment.state == "ended" or pin.leaving:
        raise Refused("enrollment_ended", "the enrollment has ended")
    generation = enrollment.generation + 1
    waits = enrollment.state == "quarantined"
    kind: Kind = "repeat" if pin.sha256 == enrollment.authenticated_with else "renewal"
    return Decision(
        kind="wait" if waits else kind,
        device_id=enrollment.device_id,
        enrollment_id=enrollment.enrollment_id,
        generation=generation,
        enrollment=enrollment,
        fence=Fence(
            enrollment.enrollment_id,
            enrollment.device_id,
            generation,
            "quarantined" if waits else "reauthenticated",
        ),
    )


def _new(
    device_id: UUID,
    reasons: Sequence[str],
    *,
    returns: bool = False,
    unheard_of: bool = False,
) -> Decision:
    """A first enrollment displaces nobody, so there is nobody to fence."""
    kind: Kind = "return" if returns else "first"
    return Decision(
        kind="quarantine" if reasons else kind,
        device_id=device_id,
        enrollment_id=uuid7(),
        generation=1,
        reasons=reasons,
        unheard_of=unheard_of,
    )


def _replace(device: Hardware) -> Decision:
    """Proven hardware with a new certificate: its old enrollment ends if it still runs."""
    old = device.current
    if old is None or old.state == "ended":
        return _new(device.device_id, (), returns=True)
    fence = Fence(old.enrollment_id, old.device_id, old.generation, "ended")
    return Decision(
        kind="return",
        device_id=device.device_id,
        enrollment_id=uuid7(),
        generation=1,
        supersedes=old,
        fence=fence,
    )


def _claim(device: Hardware, reasons: Sequence[str], conflicts_with: UUID) -> Decision:
    """An unproven claim waits for a person; the device's own enrollment is not touched."""
    enrollment_id = uuid7()
    return Decision(
        kind="quarantine",
        device_id=device.device_id,
        enrollment_id=enrollment_id,
        generation=1,
        reasons=reasons,
        conflicts_with=conflicts_with,
    )


def _check_bounds(grant: Grant, claim: Claim) -> None:
    """What the credential is bound to is not negotiable (security.md, Rogue enrollment)."""
    if grant.withdrawn:
        raise Refused("credential_revoked", "the credential was revoked")
    if grant.udid and (grant.id_kind, grant.udid) != (claim.id_kind, claim.udid):
        raise Refused("certificate_of_another", "the certificate was registered for another id")
    if grant.serial and claim.serial and _plain(grant.serial) != _plain(claim.serial):
        raise Refused("serial_not_allowed", "the credential is bound to another serial")
    if grant.platform and claim.platform not in (grant.platform, "unknown"):
        raise Refused("platform_not_allowed", "the credential is bound to another platform")


def _proves(grant: Grant, claim: Claim, device: Hardware) -> bool:
    """A credential made for exactly this serial is a person's word for this hardware.

    An import is not: it says what another server believed.
    """
    return bool(
        not grant.imported
        and grant.serial
        and claim.serial
        and device.serial
        and _plain(grant.serial) == _plain(claim.serial) == _plain(device.serial)
    )


def _plain(serial: str) -> str:
    return serial.strip().upper()
