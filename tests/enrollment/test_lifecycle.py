"""The decision table of an Authenticate (architecture §4), without a database."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from services.enrollment.errors import Refused
from services.enrollment.lifecycle import Claim, decide
from services.enrollment.store.pins import Enrollment, Grant, Hardware, Pin, State
from shared.events.base import uuid7

NOW = datetime(2026, 6, 1, tzinfo=UTC)
CLAIM = Claim("udid", "UDID-1", "SERIAL1", "ios")


def enrollment(state: State = "enrolled", end_reason: str | None = None) -> Enrollment:
    return Enrollment(
        uuid7(), uuid7(), 3, state, "device", "udid", "UDID-1", b"old", end_reason, 8191
    )


def grant(serial: str | None = None, *, withdrawn: bool = False) -> Grant:
    return Grant(uuid7(), uuid7(), None, "corporate", serial, None, 8191, withdrawn)


def pin(of: Enrollment | None = None, given: Grant | None = None, *, leaving: bool = False) -> Pin:
    return Pin(b"new", NOW, NOW, revoked=False, pinned=of is not None, leaving=leaving,
               grant=given or grant(), enrollment=of)  # fmt: skip


def known(
    current: Enrollment | None, udid: str = "UDID-1", serial: str | None = "SERIAL1"
) -> Hardware:
    return Hardware(current.device_id if current else uuid7(), udid, serial, current)


def test_unknown_hardware_is_a_first_enrollment() -> None:
    decision = decide(pin(), CLAIM, [])
    assert (decision.kind, decision.generation, decision.fence) == ("first", 1, None)
    assert decision.unheard_of


def test_the_enrollments_own_certificate_repeats_it() -> None:
    of = enrollment()
    same = Pin(b"old", NOW, NOW, False, True, False, grant(), of)
    decision = decide(same, CLAIM, [known(of)])
    assert (decision.kind, decision.generation) == ("repeat", 4)
    assert decision.fence is not None
    assert (decision.fence.generation, decision.fence.state) == (4, "reauthenticated")
    assert decide(pin(of), CLAIM, []).kind == "renewal"


@pytest.mark.parametrize("leaving", [True, False])
def test_an_enrollment_that_ended_or_is_to_end_cannot_be_repeated(leaving: bool) -> None:
    of = enrollment("enrolled" if leaving else "ended")
    with pytest.raises(Refused):
        decide(pin(of, leaving=leaving), CLAIM, [])


@pytest.mark.parametrize(
    ("reason", "kind"),
    [("check_out", "return"), ("erased", "return"), ("revoked", "quarantine"),
     ("admin", "quarantine"), ("superseded", "quarantine")],
)  # fmt: skip
def test_how_it_ended_decides_whether_it_may_come_back(reason: str, kind: str) -> None:
    device = known(enrollment("ended", reason))
    decision = decide(pin(), CLAIM, [device])
    assert (decision.kind, decision.device_id) == (kind, device.device_id)
    assert decision.fence is None


@pytest.mark.parametrize("state", ["pending", "enrolled"])
def test_a_running_enrollment_is_displaced_by_proof_only(state: State) -> None:
    device = known(enrollment(state))
    assert decide(pin(), CLAIM, [device]).kind == "quarantine"
    proven = decide(pin(given=grant("serial1 ")), CLAIM, [device])
    assert proven.kind == "return"
    assert proven.supersedes == device.current
    assert proven.fence is not None
    assert proven.fence.state == "ended"


def test_a_bound_serial_proves_nothing_for_hardware_that_never_told_one() -> None:
    device = known(enrollment(), serial=None)
    assert decide(pin(given=grant("SERIAL1")), CLAIM, [device]).kind == "quarantine"


def test_names_of_two_devices_are_a_claim_on_both() -> None:
    mine, other = known(enrollment(), serial="OTHER"), known(enrollment(), udid="UDID-2")
    decision = decide(pin(given=grant("SERIAL1")), CLAIM, [mine, other])
    assert (decision.kind, decision.device_id) == ("quarantine", mine.device_id)
    assert decision.conflicts_with == other.device_id


def test_a_claim_on_a_device_that_nobody_holds_displaces_nobody() -> None:
    """A squatter in quarantine must not keep the device's owner out."""
    device = known(None)
    decision = decide(pin(), CLAIM, [device])
    assert (decision.kind, decision.device_id, decision.unheard_of) == (
        "first",
        device.device_id,
        False,
    )


def test_a_withdrawn_credential_begins_nothing() -> None:
    with pytest.raises(Refused, match="revoked"):
        decide(pin(given=grant(withdrawn=True)), CLAIM, [])
