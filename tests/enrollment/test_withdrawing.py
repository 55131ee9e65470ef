"""Taking back a certificate before a device enrolls by it."""

from __future__ import annotations

import hashlib

import pytest

from shared.events.audit import AuditRecorded
from shared.runtime.charging import PATH as CHARGE_PATH
from shared.runtime.testing import Answer
from tests.enrollment.conftest import API, Apple, House
from tests.enrollment.imported import OldServer, der


@pytest.fixture
def old(house: House) -> OldServer:
    return OldServer.beside(house)


async def _withdrawn(house: House, device: Apple, **who: object) -> Answer:
    name = hashlib.sha256(der(device)).hexdigest()
    path = f"{API}/certificates/{name}/withdraw"
    return await house.service.call("POST", path, {"reason": "sold"}, actor="ada", **who)  # type: ignore[arg-type]


def _charges(house: House) -> int:
    return sum(path == CHARGE_PATH for _, _, path, _ in house.others.calls)


async def test_a_registered_certificate_opens_nothing_any_more(
    house: House, old: OldServer
) -> None:
    phone, other = old.device(), old.device()
    rows = [old.registration(phone), old.registration(other)]
    assert await old.outcomes(*rows) == ["registered"] * 2
    await house.told()
    assert (await _withdrawn(house, phone)).status == 204
    entry = (await house.told()).one(AuditRecorded)
    assert (entry.action, entry.actor, entry.reason) == ("certificate.withdraw", "ada", "sold")
    answer = await house.check_in(phone, phone.authenticate())
    assert (answer.status, answer.text) == (400, "certificate_revoked\n")
    assert not (await house.call("GET", f"/devices?q={phone.udid}"))["items"]
    # Neither by importing it once more.
    assert await old.outcomes(*rows) == ["certificate_revoked", "already_there"]
    assert (await house.check_in(other, other.authenticate())).status == 200
    again = await _withdrawn(house, phone)
    assert (again.status, again.json["code"]) == (409, "certificate_revoked")
    assert _charges(house) == 1


async def test_one_that_was_issued_is_in_the_crl(house: House) -> None:
    device = house.device()
    device.identity = await house.identity(await house.credential())
    unlisted = "SELECT FROM certificate WHERE revoked_at IS NOT NULL AND crl_number IS NULL"
    assert (await _withdrawn(house, device)).status == 204
    assert len(await house.query(unlisted)) == 1
    await house.service.run_job("crl")
    assert not await house.query(unlisted)
    assert (await house.check_in(device, device.authenticate())).status == 400


async def test_it_is_charged_before_anything_is_done(house: House, old: OldServer) -> None:
    phone = old.device()
    await old.outcomes(old.registration(phone))
    await house.told()
    house.others.answers["command_queue", CHARGE_PATH] = {"refused": "25 of 25 are spent"}
    refused = await _withdrawn(house, phone)
    assert (refused.status, refused.json["code"]) == (409, "guard_refused")
    house.others.failing.add(CHARGE_PATH)
    assert (await _withdrawn(house, phone)).json["code"] == "guard_silent"
    assert not (await house.told()).events
    house.others.failing.clear()
    house.others.answers.clear()
    charged = [body for _, _, path, body in house.others.calls if path == CHARGE_PATH]
    assert len({body["charge_id"] for body in charged if body}) == 1
    assert (await house.check_in(phone, phone.authenticate())).status == 200


async def test_what_a_device_has_enrolled_by_is_not_withdrawn(house: House) -> None:
    device = await house.enrolled()
    answer = await _withdrawn(house, device)
    assert (answer.status, answer.json["code"]) == (409, "certificate_in_use")
    assert (await house.check_in(device, device.token_update())).status == 200
    assert _charges(house) == 0
    reader = await _withdrawn(house, device, permissions=["enrollment.read"])
    assert reader.status == 403
    for name in ("00" * 32, "not-hex"):
        path = f"{API}/certificates/{name}/withdraw"
        unknown = await house.service.call("POST", path, {"reason": "x"})
        assert unknown.status == 404
