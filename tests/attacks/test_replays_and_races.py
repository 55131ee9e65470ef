"""The same message again, and many at once: what counts once must count once."""

from __future__ import annotations

import asyncio
import base64
import plistlib
from datetime import timedelta

import pytest

from services.enrollment.issuing import _MAX_LIVE
from services.enrollment.opening import MAX_USERS
from tests.command_queue.fleet import CONNECT, Fleet
from tests.enrollment.conftest import PKI_OPERATION, Apple, House
from tools.simulator.wire import cms, scep


async def _scep_path(house: House) -> tuple[str, str]:
    document = await house.profile(await house.credential())
    payload = next(p for p in document["PayloadContent"] if p["PayloadType"].endswith(".scep"))
    content = payload["PayloadContent"]
    return content["URL"].removeprefix("https://mdm.example.org"), content["Challenge"]


async def test_a_captured_request_buys_nothing_more(house: House) -> None:
    """Replayed at once and later: the same certificate for the same key, and one row."""
    path, challenge = await _scep_path(house)
    sent, authorities = await house.request(path, challenge, house.new_key())
    answers = await asyncio.gather(
        *(
            house.service.send("devices", "POST", path + PKI_OPERATION, sent.message)
            for _ in range(8)
        )
    )
    house.later(days=3)
    again = await house.service.send("devices", "POST", path + PKI_OPERATION, sent.message)
    issued = {scep.open_reply(a.body, sent, authorities).certificate for a in (*answers, again)}
    assert len(issued) == 1
    assert len(await house.query("SELECT FROM certificate")) == 1


async def test_a_captured_renewal_is_worthless_once_the_renewed_certificate_is_over(
    house: House,
) -> None:
    device = await house.enrolled()
    path, _ = await _scep_path(house)
    sent, authorities = await house.request(path, None, house.new_key(), signer=device.identity)
    await house.service.send("devices", "POST", path + PKI_OPERATION, sent.message)
    device_id = await house.id_of(device)
    await house.call("POST", f"/devices/{device_id}/revoke", {"reason": "stolen"})
    rows = await house.query("SELECT sha256, revoked_at FROM certificate")
    assert len(rows) == 2
    assert all(row["revoked_at"] for row in rows)
    replayed = await house.service.send("devices", "POST", path + PKI_OPERATION, sent.message)
    with pytest.raises(scep.ScepRefused):
        scep.open_reply(replayed.body, sent, authorities)
    assert len(await house.query("SELECT FROM certificate")) == 2


async def test_renewals_at_once_stay_within_what_one_enrollment_may_hold(house: House) -> None:
    device = await house.enrolled()
    path, _ = await _scep_path(house)
    keys = [house.new_key() for _ in range(_MAX_LIVE + 3)]
    results = await asyncio.gather(
        *(house.issue(path, None, key, signer=device.identity) for key in keys),
        return_exceptions=True,
    )
    issued = [one for one in results if isinstance(one, scep.Issued)]
    refused = [one for one in results if isinstance(one, scep.ScepRefused)]
    assert (len(issued), len(refused)) == (_MAX_LIVE - 1, 4)
    live = "SELECT FROM certificate WHERE enrollment_id IS NOT NULL AND revoked_at IS NULL"
    assert len(await house.query(live)) == _MAX_LIVE


async def test_users_at_once_stay_within_what_one_device_may_hold(house: House) -> None:
    mac = await house.enrolled(product="Mac15,3")
    answers = await asyncio.gather(
        *(
            house.check_in(mac, mac.token_update(UserID=f"USER-{number}"))
            for number in range(MAX_USERS + 6)
        )
    )
    assert sorted(a.status for a in answers) == [200] * MAX_USERS + [400] * 6
    assert {a.text for a in answers if a.status != 200} == {"too_many_users\n"}
    rows = await house.query("SELECT FROM channel WHERE kind = 'user'")
    assert len(rows) == MAX_USERS


async def test_a_captured_check_out_does_not_end_the_next_enrollment(house: House) -> None:
    """The device left and came back: its old farewell is signed by what counts no more."""
    device = await house.enrolled()
    farewell = device.message("CheckOut", Topic="com.apple.mgmt.x")
    assert device.identity is not None
    old = device.identity
    assert (await house.check_in(device, farewell)).status == 200
    device.identity = await house.identity(await house.credential())
    assert (await house.check_in(device, device.authenticate())).status == 200
    assert (await house.check_in(device, device.token_update())).status == 200
    answer = await house.check_in(device, farewell, identity=old)
    assert (answer.status, answer.text) == (400, "certificate_revoked\n")
    assert (await house.find(device))["state"] == "enrolled"


async def test_a_check_in_is_no_connect_and_a_connect_is_no_check_in(
    house: House, fleet: Fleet
) -> None:
    """One signature, two addresses: each takes only its own kind of message."""
    device = await house.enrolled()
    idle = plistlib.dumps({"Status": "Idle", "UDID": device.udid})
    answer = await house.check_in(device, idle)
    assert (answer.status, answer.text) == (400, "malformed: no known MessageType\n")
    phone = await fleet.enroll()
    await fleet.ask(phone)
    given = await phone.idle()
    assert given
    body = plistlib.dumps({"MessageType": "CheckOut", "UDID": phone.udid, "Topic": "t"})
    assert (await phone.send(body)).status == 400
    assert await fleet.finished() == []
    both = plistlib.dumps(
        {
            "MessageType": "CheckOut",
            "Topic": "t",
            "UDID": phone.udid,
            "Status": "Acknowledged",
            "CommandUUID": given.command_uuid,
        }
    )
    assert (await phone.send(both)).status == 400
    assert await fleet.finished() == []


@pytest.mark.parametrize("hours", [-25, 25])
async def test_connect_takes_no_signature_of_another_day(fleet: Fleet, hours: int) -> None:
    phone = await fleet.enroll()
    await fleet.ask(phone)
    at = fleet.clock.now() + timedelta(hours=hours)
    answer = await phone.send(phone.body("Idle"), at=at)
    assert (answer.status, answer.text) == (400, "signed at another time\n")
    assert await phone.idle()


async def test_a_signature_is_good_for_its_body_only(fleet: Fleet) -> None:
    """A captured Idle cannot become an acknowledgement, nor a longer or shorter body."""
    phone = await fleet.enroll()
    await fleet.ask(phone)
    given = await phone.idle()
    assert given
    idle = phone.body("Idle")
    signature = phone.identity.header(idle, fleet.clock.now())
    done = phone.body("Acknowledged", given.command_uuid)
    for body in (done, idle + b" ", idle[:-1], b"", b" " + idle, idle.replace(b"Idle", b"idle")):
        answer = await fleet.trial.send(
            "devices", "PUT", CONNECT, body, {"Mdm-Signature": signature}
        )
        assert answer.status == 400
    assert await fleet.finished() == []


async def test_a_revoked_device_loses_every_race(house: House) -> None:
    """Whatever is under way when a person revokes, afterwards nothing of the device counts."""
    device = await house.enrolled()
    device_id = await house.id_of(device)
    path, _ = await _scep_path(house)
    keys = [house.new_key() for _ in range(2)]
    await asyncio.gather(
        house.check_in(device, device.token_update(Token=b"late")),
        house.issue(path, None, keys[0], signer=device.identity),
        house.check_in(device, device.message("SetBootstrapToken", BootstrapToken=b"late")),
        house.call("POST", f"/devices/{device_id}/revoke", {"reason": "stolen"}),
        house.check_in(device, device.authenticate()),
        house.issue(path, None, keys[1], signer=device.identity),
        house.check_in(device, device.token_update(Token=b"later")),
        return_exceptions=True,
    )
    # What the fence had to wait for is carried on by the job.
    house.later(minutes=10)
    await house.service.run_job("fences")
    for message in (device.token_update(), device.authenticate(), device.message("CheckOut")):
        style = cms.Style(signing_time=house.clock.now())
        device.style = style
        assert (await house.check_in(device, message)).status == 400
    assert not await house.query("SELECT FROM certificate WHERE revoked_at IS NULL")
    assert not await house.query("SELECT FROM enrollment WHERE state <> 'ended'")


async def test_a_credential_for_one_cannot_be_shared_by_many_at_once(house: House) -> None:
    path = await house.credential()
    answers = await asyncio.gather(*(house.device_get(path) for _ in range(12)))
    assert sorted(a.status for a in answers) == [200] + [403] * 11
    assert {a.text for a in answers if a.status == 403} == {"credential_spent\n"}
    assert len(await house.query("SELECT FROM session")) == 1


async def test_guessing_tells_nothing(house: House) -> None:
    """A token that was never made, and one that differs in its last letter, look the same."""
    path = await house.credential()
    last = "A" if path[-1] != "A" else "B"
    guesses = [path[:-1] + last, path[:-1], path + "A", "/enroll/apple/" + "A" * 32]
    await house.told()
    answers = [await house.device_get(guess) for guess in guesses]
    assert {(a.status, a.text) for a in answers} == {(403, "credential_unknown\n")}
    assert not (await house.told()).events  # a stranger leaves no trace but a count


def _header(device: Apple, body: bytes) -> str:
    assert device.identity is not None
    return base64.b64encode(cms.sign(body, [device.identity], device.style)).decode()


async def test_two_signature_headers_are_not_chosen_between(house: House) -> None:
    """Another device's good header in front or behind makes nobody speak for it."""
    mine, other = await house.enrolled(), await house.enrolled()
    body = plistlib.dumps(other.token_update(Token=b"mine"))
    good, forged = _header(other, b"something else"), _header(mine, body)
    for first, second in ((good, forged), (forged, good)):
        request = (
            "PUT /mdm/apple/checkin HTTP/1.1\r\nHost: a\r\nConnection: close\r\n"
            f"Mdm-Signature: {first}\r\nMdm-Signature: {second}\r\n"
            f"Content-Length: {len(body)}\r\n\r\n"
        ).encode()
        assert (await house.raw(request + body)).startswith(b"HTTP/1.1 400")
    rows = await house.query("SELECT DISTINCT open_generation FROM channel")
    assert len(rows) == 1
