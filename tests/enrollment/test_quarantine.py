"""Takeover: known hardware with a new certificate (architecture §4; apple.md §1.12, 1)."""

from __future__ import annotations

import asyncio
from uuid import UUID

import pytest

from shared.events.base import uuid7
from shared.events.commands import CommandFinished, TargetState
from shared.events.devices import (
    CertificateRevoked,
    DeviceEnrolled,
    DeviceQuarantined,
    DeviceRefused,
    DeviceReleased,
    DeviceUnenrolled,
    EnrollmentRefused,
)
from tests.enrollment.conftest import Apple, House


async def impostor_of(house: House, device: Apple, **credential: object) -> Apple:
    """Somebody with a certificate of ours who claims to be this device."""
    identity = await house.identity(await house.credential(**credential))
    return Apple(device.udid, device.serial, device.product, identity=identity)


async def test_a_fresh_certificate_cannot_take_a_device_over(house: House) -> None:
    device = await house.enrolled()
    device_id = await house.id_of(device)
    await house.call("PATCH", f"/devices/{device_id}", {"tags": ["precious"]})
    before = (await house.told()).enrollment
    impostor = await impostor_of(house, device)
    message = impostor.authenticate(DeviceName="mine now")
    assert (await house.check_in(impostor, message)).status == 200
    told = await house.told()
    quarantined = told.one(DeviceQuarantined)
    assert quarantined.conflicts_with == quarantined.device_id == device_id
    assert told.enrollment == before  # still the current one, untouched
    waiting = next(e for e in told.state.enrollments if e.state == "quarantined")
    assert waiting.enrollment_id == quarantined.enrollment_id != before.enrollment_id
    assert told.state.name != "mine now"
    assert house.fences == []

    # It may go on speaking, and gets nothing for it.
    assert (await house.check_in(impostor, impostor.token_update(Token=b"evil"))).status == 200
    told = await house.told()
    assert not told.of(DeviceEnrolled)
    waiting = next(e for e in told.state.enrollments if e.state == "quarantined")
    assert [(c.open, c.push, c.unlock_token) for c in waiting.channels] == [(False, None, None)]
    tokens = impostor.message("DeclarativeManagement", Endpoint="tokens")
    assert (await house.check_in(impostor, tokens)).text == "not_enrolled\n"
    answer = await house.check_in(impostor, impostor.message("GetBootstrapToken"))
    assert (answer.status, answer.body) == (200, b"")
    assert (await house.check_in(device, device.token_update())).status == 200
    assert (await house.told()).enrollment.generation == 1


async def test_a_known_serial_under_another_udid_waits_too(house: House) -> None:
    device = await house.enrolled()
    stranger = house.device(serial=device.serial)
    stranger.identity = await house.identity(await house.credential())
    await house.told()
    await house.check_in(stranger, stranger.authenticate())
    told = await house.told()
    assert told.one(DeviceQuarantined).device_id == await house.id_of(device)
    assert told.enrollment.udid == device.udid


async def test_a_person_releases_what_waits(house: House) -> None:
    """The old enrollment is fenced, ended and revoked; the new one takes its device."""
    device = await house.enrolled()
    device_id = await house.id_of(device)
    old = (await house.told()).enrollment
    again = await impostor_of(house, device)
    await house.check_in(again, again.authenticate(DeviceName="new board"))
    await house.check_in(again, again.token_update(Token=b"new"))
    await house.told()
    listed = await house.call("GET", "/devices?state=quarantined")
    assert [one["device_id"] for one in listed["items"]] == [str(device_id)]

    body = {"reason": "logic board replaced, ticket 7"}
    released = await house.call("POST", f"/devices/{device_id}/release", body, actor="ada")
    assert house.fences[-1] == {
        "enrollment_id": str(old.enrollment_id),
        "device_id": str(device_id),
        "generation": 1,
        "state": "ended",
    }
    told = await house.told()
    assert told.one(DeviceReleased).actor == "ada"
    assert told.one(DeviceUnenrolled).reason == "superseded"
    assert told.one(CertificateRevoked).sha256 in old.pins
    assert told.one(DeviceEnrolled).enrollment_id == UUID(released["enrollment_id"])
    assert (told.enrollment.state, told.enrollment.channels[0].open) == ("enrolled", True)
    assert told.state.name == "new board"
    assert (await house.check_in(device, device.token_update())).status == 400
    assert (await house.check_in(again, again.token_update())).status == 200
    path = f"/api/v1/enrollment/devices/{device_id}/release"
    assert (await house.service.call("POST", path, body)).status == 404  # nothing waits now


async def test_a_release_before_the_tokens_came_leaves_it_pending(house: House) -> None:
    device = await house.enrolled()
    again = await impostor_of(house, device)
    await house.check_in(again, again.authenticate())
    device_id = await house.id_of(device)
    await house.call("POST", f"/devices/{device_id}/release", {"reason": "it is ours"})
    told = await house.told()
    assert told.enrollment.state == "pending"
    await house.check_in(again, again.token_update())
    assert (await house.told()).enrollment.state == "enrolled"


async def test_a_release_needs_the_fence(house: House) -> None:
    device = await house.enrolled()
    again = await impostor_of(house, device)
    await house.check_in(again, again.authenticate())
    device_id = await house.id_of(device)
    await house.told()
    house.others.failing.add("command_queue")
    path = f"/api/v1/enrollment/devices/{device_id}/release"
    assert (await house.service.call("POST", path, {"reason": "x"})).status == 503
    assert not (await house.told()).events


async def test_two_that_wait_must_be_told_apart(house: House) -> None:
    device = await house.enrolled()
    waiting = [await impostor_of(house, device) for _ in range(2)]
    for one in waiting:
        await house.check_in(one, one.authenticate())
    device_id = await house.id_of(device)
    path = f"/api/v1/enrollment/devices/{device_id}/release"
    answer = await house.service.call("POST", path, {"reason": "which?"})
    assert answer.status == 409
    chosen = answer.json["enrollments"][0]
    body = {"reason": "this one", "enrollment_id": chosen}
    assert (await house.call("POST", f"/devices/{device_id}/release", body)) == {
        "enrollment_id": chosen
    }


async def test_a_credential_for_exactly_this_serial_is_proof(house: House) -> None:
    device = await house.enrolled()
    old = (await house.told()).enrollment
    again = await impostor_of(house, device, serial=device.serial)
    assert (await house.check_in(again, again.authenticate())).status == 200
    assert house.fences[-1]["state"] == "ended"
    told = await house.told()
    assert not told.of(DeviceQuarantined)
    assert told.one(DeviceUnenrolled).enrollment_id == old.enrollment_id
    assert told.enrollment.state == "pending"
    assert told.state.device_id == await house.id_of(device)
    assert (await house.check_in(device, device.token_update())).status == 400


async def test_the_proof_is_worth_nothing_without_the_fence(house: House) -> None:
    device = await house.enrolled()
    again = await impostor_of(house, device, serial=device.serial)
    await house.told()
    house.others.failing.add("command_queue")
    assert (await house.check_in(again, again.authenticate())).status == 503
    assert not (await house.told()).events
    assert (await house.check_in(device, device.token_update())).status == 200


@pytest.mark.parametrize("how", ["check_out", "erased"])
async def test_hardware_that_was_given_up_comes_back_by_itself(house: House, how: str) -> None:
    device = await house.enrolled()
    device_id = await house.id_of(device)
    enrollment = (await house.told()).enrollment
    if how == "check_out":
        message = device.message("CheckOut", Topic="com.apple.mgmt.x")
        assert (await house.check_in(device, message)).status == 200
    else:
        await house.service.hears(
            CommandFinished(
                device_id=device_id,
                channel_id=enrollment.channels[0].channel_id,
                command_id=uuid7(),
                enrollment_id=enrollment.enrollment_id,
                generation=1,
                kind="device.erase",
                state=TargetState.ACKNOWLEDGED,
                queued_at=house.clock.now(),
                finished_at=house.clock.now(),
            ),
            service="command_queue",
        )
    told = await house.told()
    assert told.one(DeviceUnenrolled).reason == how
    assert told.one(CertificateRevoked).reason == how
    again = await impostor_of(house, device)
    assert (await house.check_in(again, again.authenticate())).status == 200
    assert (await house.check_in(again, again.token_update())).status == 200
    told = await house.told()
    assert told.state.device_id == device_id
    assert (told.enrollment.state, told.enrollment.generation) == ("enrolled", 1)


async def test_what_was_revoked_does_not_come_back_by_itself(house: House) -> None:
    device = await house.enrolled()
    device_id = await house.id_of(device)
    await house.call("POST", f"/devices/{device_id}/revoke", {"reason": "stolen"})
    again = await impostor_of(house, device)
    await house.told()
    await house.check_in(again, again.authenticate())
    assert (await house.told()).of(DeviceQuarantined)


async def test_a_certificate_of_one_device_is_refused_for_another(house: House) -> None:
    """apple.md §1.11, 7."""
    mine, other = await house.enrolled(), house.device()
    await house.told()
    other.identity = mine.identity
    answer = await house.check_in(other, other.authenticate())
    assert (answer.status, answer.text) == (400, "certificate_of_another\n")
    told = await house.told()
    refused = told.one(EnrollmentRefused)
    assert (refused.stage, refused.claimed_udid) == ("authenticate", other.udid)
    assert len(told.events) == 1
    assert (await house.check_in(other, other.token_update())).status == 400


async def test_a_credential_bound_to_a_serial_refuses_others(house: House) -> None:
    device = house.device()
    device.identity = await house.identity(await house.credential(serial="ANOTHER1"))
    answer = await house.check_in(device, device.authenticate())
    assert (answer.status, answer.text) == (400, "serial_not_allowed\n")
    assert not await house.query("SELECT FROM device")


async def test_a_credential_bound_to_a_platform_refuses_others(house: House) -> None:
    device = house.device()
    device.identity = await house.identity(await house.credential(platform="macos"))
    answer = await house.check_in(device, device.authenticate())
    assert (answer.status, answer.text) == (400, "platform_not_allowed\n")


async def test_a_bound_platform_that_cannot_be_told_waits_for_a_person(house: House) -> None:
    """Leaving the product out must not be a way around the bond."""
    device = house.device()
    device.identity = await house.identity(await house.credential(platform="macos"))
    message = device.authenticate(ProductName=None, ModelName=None)
    body = {key: value for key, value in message.items() if value is not None}
    assert (await house.check_in(device, body)).status == 200
    assert (await house.told()).of(DeviceQuarantined)


async def test_a_claim_can_be_turned_down(house: House) -> None:
    """Revoking what waits leaves the device's own enrollment as it is."""
    device = await house.enrolled()
    impostor = await impostor_of(house, device)
    await house.check_in(impostor, impostor.authenticate())
    told = await house.told()
    waiting = told.of(DeviceQuarantined)[-1].enrollment_id
    device_id = told.state.device_id
    body = {"reason": "not ours", "enrollment_id": str(waiting)}
    assert await house.call("POST", f"/devices/{device_id}/revoke", body) == {"state": "ended"}
    told = await house.told()
    assert told.one(DeviceRefused).enrollment_id == waiting
    assert told.enrollment.state == "enrolled"
    assert (await house.check_in(impostor, impostor.token_update())).status == 400
    assert (await house.check_in(device, device.token_update())).status == 200


async def test_a_release_cannot_take_a_udid_that_another_device_bears(house: House) -> None:
    device = await house.enrolled()
    claim = house.device(serial=device.serial)
    claim.identity = await house.identity(await house.credential())
    await house.check_in(claim, claim.authenticate())
    other = Apple(claim.udid, "ANOTHER", identity=await house.identity(await house.credential()))
    await house.check_in(other, other.authenticate())
    path = f"/api/v1/enrollment/devices/{await house.id_of(device)}/release"
    answer = await house.service.call("POST", path, {"reason": "ours"})
    assert (answer.status, answer.json["code"]) == (409, "hardware_elsewhere")
    assert (await house.check_in(device, device.token_update())).status == 200


async def test_a_bound_serial_that_is_not_told_waits_for_a_person(house: House) -> None:
    device = house.device(serial=None)
    device.identity = await house.identity(await house.credential(serial="F2LX0001"))
    assert (await house.check_in(device, device.authenticate())).status == 200
    told = await house.told()
    assert told.one(DeviceQuarantined).reasons == ["bound_serial_untold"]
    device_id = told.state.device_id
    await house.check_in(device, device.token_update())
    await house.call("POST", f"/devices/{device_id}/release", {"reason": "seen it"})
    assert (await house.told()).enrollment.state == "enrolled"


async def test_two_first_enrollments_of_the_same_hardware_do_not_pass_each_other(
    house: House,
) -> None:
    """One of two that come at once is first; the other one waits for a person."""
    device = house.device()
    twins = [await impostor_of(house, device) for _ in range(2)]
    by_serial = house.device(serial=device.serial)
    by_serial.identity = await house.identity(await house.credential())
    racing = [*twins, by_serial]
    answers = await asyncio.gather(*(house.check_in(one, one.authenticate()) for one in racing))
    assert [answer.status for answer in answers] == [200, 200, 200]
    rows = await house.query("SELECT state, count(*) AS many FROM enrollment GROUP BY state")
    assert {row["state"]: row["many"] for row in rows} == {"pending": 1, "quarantined": 2}
    assert len(await house.query("SELECT FROM device")) == 1
