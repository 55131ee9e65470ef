"""Rows that are wrong, and rows that an attacker would write: an import is no way into a device
that is here already.
"""

from __future__ import annotations

import asyncio
import base64
import warnings
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlsplit

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from hypothesis import given
from hypothesis import strategies as st

from services.enrollment.errors import Refused
from services.enrollment.import_rows import ImportRow, read
from shared.events.devices import DeviceQuarantined
from shared.runtime.testing import Answer
from tests.enrollment.conftest import TOPIC, Apple, House
from tests.enrollment.imported import BOOTSTRAP, UNLOCK, ForeignCA, OldServer, b64, der, pem
from tests.enrollment.test_import import everything, old
from tools.simulator.wire import cms

__all__ = ["old"]

PUSH = {"topic": TOPIC, "push_token": "ab" * 32, "push_magic": "m"}
NO_PUSH = dict.fromkeys(PUSH)

MALFORMED: list[tuple[dict[str, Any], str]] = [
    ({"certificate": None}, "row_malformed"),
    ({"certificate": "-----BEGIN CERTIFICATE-----\n"}, "certificate_malformed"),
    ({"certificate": "AAAA"}, "certificate_malformed"),
    ({"certificate": "not base64!"}, "certificate_malformed"),
    ({"certificate": "A" * 40_000}, "row_malformed"),
    ({"udid": None}, "id_missing"),
    ({"enrollment_id": "also"}, "id_missing"),
    ({"udid": "../x"}, "id_malformed"),
    ({"udid": "x" * 200}, "row_malformed"),
    ({"topic": None}, "push_incomplete"),
    ({"push_token": None}, "push_incomplete"),
    ({"push_magic": None}, "push_incomplete"),
    ({"topic": "com.example.app"}, "row_malformed"),
    ({"push_token": "ab" * 8}, "row_malformed"),
    ({"push_token": "ab" * 400}, "row_malformed"),
    ({"push_token": "zz" * 32}, "row_malformed"),
    ({"push_magic": "a\x00b"}, "push_magic_malformed"),
    ({"push_magic": "m" * 256}, "row_malformed"),
    ({"unlock_token": "%%"}, "unlock_token_unreadable"),
    ({"bootstrap_token": "AAA"}, "bootstrap_token_unreadable"),
    ({"unlock_token": b64(b"x" * (64 * 1024 + 1))}, "unlock_token_unreadable"),
    ({**NO_PUSH, "unlock_token": b64(UNLOCK)}, "push_missing"),
    ({**NO_PUSH, "bootstrap_token": b64(BOOTSTRAP)}, "push_missing"),
    ({"udid": None, "enrollment_id": "E-1", "unlock_token": b64(UNLOCK)}, "unlock_token_of_user"),
    ({"platform": "android"}, "row_malformed"),
    ({"access_rights": 9000}, "row_malformed"),
    ({"colour": "red"}, "row_malformed"),
]


@pytest.mark.parametrize(("change", "code"), MALFORMED, ids=lambda value: str(value)[:50])
def test_a_row_that_is_wrong_in_itself(
    ca_row: tuple[dict[str, Any], datetime], change: dict[str, Any], code: str
) -> None:
    row, now = ca_row
    changed = {name: value for name, value in (row | change).items() if value is not None}
    with pytest.raises(Refused) as refused:
        read(changed, now)
    assert refused.value.code == code


@pytest.fixture(scope="module")
def ca_row() -> tuple[dict[str, Any], datetime]:
    """A sound row, and the time it is of."""
    now = datetime.now(UTC)
    key = ec.generate_private_key(ec.SECP256R1())
    device = Apple("00008110-0000000000000ABC", "SERIALX")
    device.identity = cms.Identity(key, ForeignCA.make(now).issue(key.public_key()))
    return {"udid": device.udid, "certificate": pem(device), **PUSH}, now


NAMES = sorted(ImportRow.model_fields)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=40),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=8,
)


@given(st.dictionaries(st.sampled_from(NAMES) | st.text(max_size=8), JSON) | JSON)
def test_any_json_is_read_or_refused(
    ca_row: tuple[dict[str, Any], datetime], damage: object
) -> None:
    """Over a sound row, so that what lies behind the first checks is reached too."""
    row, now = ca_row
    said = ""
    try:
        assert read({**row, **damage} if isinstance(damage, dict) else damage, now).claim.udid
    except Refused as refused:
        said = refused.reason
    assert len(said) < 2000


@given(st.binary(max_size=300), st.integers(min_value=0, max_value=3000))
def test_any_bytes_in_the_certificate_are_read_or_refused(
    ca_row: tuple[dict[str, Any], datetime], patch: bytes, place: int
) -> None:
    row, now = ca_row
    whole = bytearray(base64.b64decode("".join(str(row["certificate"]).split("-----")[2].split())))
    whole[place % len(whole) : place % len(whole) + len(patch)] = patch
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of deprecated forms, which are read all the same
        code = "certificate_read"
        try:
            read(row | {"certificate": b64(bytes(whole))}, now)
        except Refused as refused:
            code = refused.code
    assert code.startswith(("certificate_", "key_"))


async def test_certificates_that_speak_for_no_device(house: House, old: OldServer) -> None:
    device = old.device()
    assert device.identity is not None
    public = house.new_key().public_key()
    small = rsa.generate_private_key(65537, 1024)  # noqa: S505 - that is the point
    made = {
        "certificate_expired": old.ca.issue(public, ends=timedelta(seconds=-1)),
        "certificate_not_valid_yet": old.ca.issue(public, begins=timedelta(days=1)),
        "certificate_of_authority": old.ca.issue(public, authority=True),
        "key_not_accepted": old.ca.issue(small.public_key()),
    }
    rows = []
    for certificate in made.values():
        device.identity = cms.Identity(device.identity.key, certificate)
        rows.append(old.row(device))
    assert await old.outcomes(*rows) == list(made)


async def test_what_our_own_ca_issued_is_no_import(house: House, old: OldServer) -> None:
    """Neither a device's certificate that has no row any more, nor the CA's own helpers."""
    device = house.device()
    device.identity = await house.identity(await house.credential())
    unused = old.row(device)
    assert await old.outcomes(unused) == ["certificate_issued_here"]
    await house.query("DELETE FROM certificate")
    assert await old.outcomes(unused) == ["certificate_issued_here"]
    path = await house.credential()
    scep_payload = await house.profile(path)
    address = next(
        payload["PayloadContent"]["URL"]
        for payload in scep_payload["PayloadContent"]
        if payload["PayloadType"] == "com.apple.security.scep"
    )
    helpers = await house.authorities(urlsplit(address).path)
    for certificate in helpers:
        device.identity = cms.Identity(device.identity.key, certificate)
        [outcome] = await old.outcomes(old.row(device))
        assert outcome in ("certificate_issued_here", "certificate_of_authority")


async def test_no_row_touches_a_device_that_is_here(house: House, old: OldServer) -> None:
    """Its UDID, its serial, both, another's serial: with a certificate that the attacker holds."""
    victim = await house.enrolled()
    await house.check_in(victim, victim.token_update(UnlockToken=b"unlock"))
    await house.check_in(victim, victim.message("SetBootstrapToken", BootstrapToken=b"boot"))
    imported = await old.here()
    before = await everything(house)
    rows = []
    for target in (victim, imported):
        rows += [
            old.row(old.device(), udid=target.udid, serial=target.serial),
            old.row(old.device(), udid=target.udid, serial=None),
            old.row(old.device(), serial=target.serial),
            old.registration(old.device(), udid=target.udid),
            old.registration(old.device(), serial=target.serial),
            old.row(old.device(), udid=None, enrollment_id=target.udid),
        ]
    rows.append(old.row(old.device(), udid=victim.udid, serial=imported.serial))
    assert await old.outcomes(*rows) == ["hardware_known"] * len(rows)
    del before["outbox"]  # the audit tells of the attempt
    after = await everything(house)
    del after["outbox"]
    assert after == before


async def test_a_certificate_never_moves_to_another_device(house: House, old: OldServer) -> None:
    """Also not one of ours: the thief of a pinned certificate gains nothing by importing it."""
    ours, theirs, waiting = await house.enrolled(), await old.here(), old.device()
    assert await old.outcomes(old.registration(waiting)) == ["registered"]
    other = old.device()
    rows = [old.row(other, certificate=pem(device)) for device in (ours, theirs, waiting)] + [
        old.registration(other, certificate=pem(waiting))
    ]
    assert await old.outcomes(*rows) == ["certificate_of_another"] * 4


async def test_a_revoked_certificate_is_not_revived(house: House, old: OldServer) -> None:
    device = await old.here()
    device_id = await house.id_of(device)
    await house.call("POST", f"/devices/{device_id}/revoke", {"reason": "lost"})
    assert (await house.check_in(device, device.authenticate())).text == "certificate_revoked\n"
    assert await old.outcomes(old.row(device)) == ["certificate_revoked"]
    assert await old.outcomes(old.registration(device)) == ["certificate_revoked"]
    # Nor does its hardware come back by a new certificate: a person revoked it.
    again = old.device()
    row = old.row(again, udid=device.udid, serial=device.serial)
    assert await old.outcomes(row) == ["hardware_known"]


async def test_hardware_that_checked_out_may_come_from_elsewhere(
    house: House, old: OldServer
) -> None:
    device = await house.enrolled()
    device_id = await house.id_of(device)
    await house.check_in(device, device.message("CheckOut", Topic=TOPIC))
    back = old.device()
    row = old.row(back, udid=device.udid, serial=device.serial)
    report = await old.imported(row)
    assert report["counts"] == {"enrolled": 1}
    assert report["rows"][0]["device_id"] == str(device_id)
    state = (await house.told()).state
    assert sorted(one.state for one in state.enrollments) == ["ended", "enrolled"]


async def test_a_registration_is_for_one_id_and_never_a_proof(house: House, old: OldServer) -> None:
    """Whoever holds the certificate cannot enroll as anything else, and where the hardware has
    meanwhile enrolled by itself, a person decides.
    """
    device = old.device()
    assert await old.outcomes(old.registration(device)) == ["registered"]
    other = Apple("00008110-FFFFFFFFFFFFFFFF", device.serial, identity=device.identity)
    answer = await house.check_in(other, other.authenticate())
    assert (answer.status, answer.text) == (400, "certificate_of_another\n")
    answer = await house.check_in(device, device.authenticate(SerialNumber="ANOTHER"))
    assert (answer.status, answer.text) == (400, "serial_not_allowed\n")

    genuine = Apple(device.udid, device.serial)
    genuine.identity = await house.identity(await house.credential())
    assert (await house.check_in(genuine, genuine.authenticate())).status == 200
    assert (await house.check_in(genuine, genuine.token_update())).status == 200
    await house.told()
    assert (await house.check_in(device, device.authenticate())).status == 200
    told = await house.told()
    assert told.one(DeviceQuarantined).reasons == ["hardware_known"]
    assert house.fences == []
    assert (await house.check_in(genuine, genuine.token_update())).status == 200


async def test_rows_of_one_call_are_judged_as_if_they_came_one_by_one(
    house: House, old: OldServer
) -> None:
    one, two = old.device(), old.device()
    first = old.row(one)
    rows = [
        first,
        first,
        old.row(two, certificate=first["certificate"]),
        old.row(two, udid=one.udid),
        old.row(two, serial=one.serial),
        old.registration(two),
        old.registration(two),
        old.row(two),
    ]
    expected = [
        *("enrolled", "already_there", "certificate_of_another"),
        *("hardware_known", "hardware_known", "registered", "already_there", "row_repeated"),
    ]
    assert await old.outcomes(*rows, dry_run=True) == expected
    assert await old.outcomes(*rows) == expected
    # Two names of one piece of hardware: the second would begin a second enrollment of it.
    gone = await house.enrolled()
    await house.check_in(gone, gone.message("CheckOut", Topic=TOPIC))
    twins = [
        old.row(old.device(), udid=gone.udid, serial=None),
        old.row(old.device(), serial=gone.serial),
    ]
    assert await old.outcomes(*twins) == ["enrolled", "hardware_known"]


async def test_warnings_keep_nothing_out(house: House, old: OldServer) -> None:
    soon = old.device()
    assert soon.identity is not None
    certificate = old.ca.issue(soon.identity.key.public_key(), ends=timedelta(days=5))
    soon.identity = cms.Identity(soon.identity.key, certificate)
    report = await old.imported(
        old.row(soon, topic="com.apple.mgmt.External.other"), old.row(old.device())
    )
    codes = [[warning["code"] for warning in row["warnings"]] for row in report["rows"]]
    assert codes == [["topic_unserved", "certificate_ends_soon"], []]
    assert report["counts"] == {"enrolled": 2}


async def test_two_imports_of_one_file_make_each_device_once(house: House, old: OldServer) -> None:
    """Also beside the Authenticate of a device whose certificate is registered."""
    devices = [old.device() for _ in range(8)]
    waiting = old.device()
    assert await old.outcomes(old.registration(waiting)) == ["registered"]
    rows = [old.row(one) for one in (*devices, waiting)]
    first, second, answer = await asyncio.gather(
        old.outcomes(*rows), old.outcomes(*rows), house.check_in(waiting, waiting.authenticate())
    )
    assert answer.status == 200
    assert sorted(zip(first[:8], second[:8], strict=True)) in (
        [("already_there", "enrolled")] * 8,
        [("enrolled", "already_there")] * 8,
    )
    assert {first[8], second[8]} <= {"enrolled", "already_there"}
    assert len(await house.query("SELECT FROM enrollment")) == 9
    assert len(await house.query("SELECT FROM device")) == 9


async def test_more_calls_than_can_be_taken_are_told_to_wait(house: House, old: OldServer) -> None:
    path = "/api/v1/enrollment/imports"
    rows = [old.row(old.device()) for _ in range(3)]
    body = {"rows": rows * 100}
    answers = await asyncio.gather(*(house.service.call("POST", path, body) for _ in range(12)))
    refused = [one for one in answers if one.status != 200]
    assert refused
    assert {one.status for one in refused} == {503}
    assert all(one.headers["Retry-After"] and "import_busy" in one.text for one in refused)
    assert len(await house.query("SELECT FROM device")) == 3


async def send_long(house: House, path: str) -> Answer:
    """A body that goes on and on."""

    async def forever() -> AsyncIterator[bytes]:
        for _ in range(100):
            yield b'{"rows": [' + b" " * 100_000

    headers = {
        "Authorization": f"Bearer {house.service.token()}",
        "Content-Type": "application/json",
    }
    return await house.service.send("api", "POST", path, forever(), headers)


async def test_a_call_is_bounded_and_needs_its_own_permission(house: House, old: OldServer) -> None:
    path = "/api/v1/enrollment/imports"
    ask = house.service.call
    assert (await ask("POST", path, {"rows": [{}] * 501})).status == 422
    assert (await ask("POST", path, {"rows": []})).status == 422
    assert (await send_long(house, path)).status == 413
    others = ("enrollment.read", "enrollment.credential.write", "enrollment.device.write")
    answer = await ask("POST", path, {"rows": [old.row(old.device())]}, permissions=others)
    assert answer.status == 403
    assert not await house.query("SELECT FROM device")


async def test_no_secret_comes_back_in_a_report_or_a_log(
    house: House, old: OldServer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    device = old.device()
    secrets = {"unlock_token": b64(UNLOCK), "bootstrap_token": b64(BOOTSTRAP)}
    rows = [
        old.row(device, **secrets),
        old.row(device, **secrets),
        old.row(old.device(), push_magic="MARK" * 100, **secrets),
        old.row(old.device(), unlock_token="MARK%", bootstrap_token="MARK%"),
        {"certificate": "MARK", "udid": ["MARK"], "push_token": {"MARK": 1}},
        "MARK",
    ]
    for dry_run in (True, False):
        body = {"rows": rows, "dry_run": dry_run}
        answer = await house.service.call("POST", "/api/v1/enrollment/imports", body)
        said = answer.text + str(await everything(house)) + caplog.text
        assert "MARK" not in said
        for secret in (UNLOCK, BOOTSTRAP, b"ab" * 32, f"magic-of-{device.udid}".encode()):
            assert b64(secret) not in said
            assert secret.hex() not in said
            assert secret.decode() not in said
    assert der(device)  # the certificate is no secret, and is kept
