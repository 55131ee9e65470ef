"""An enrollment that starts over, or is renewed (architecture §4; apple.md §1.2, §1.4)."""

from __future__ import annotations

import base64

import pytest

from shared.events.device_state import DeviceState
from shared.events.devices import CertificateIssued, CertificateRevoked, DeviceEnrolled
from tests.enrollment.conftest import House, opened, payload_of
from tests.enrollment.test_escrow import bootstrap_token
from tests.enrollment.test_user_channels import user_update
from tools.simulator.wire import cms


async def test_authenticate_again_voids_what_was_before(house: House) -> None:
    """apple.md §1.11, 2: the old token is not pushed, the bootstrap token is gone, the queue is
    fenced before the answer; what people decided stays.
    """
    mac = await house.enrolled(product="Mac15,3")
    await house.check_in(mac, mac.token_update(UnlockToken=b"unlock"))
    await house.check_in(mac, user_update(mac, "A-1", "ada"))
    await house.check_in(mac, mac.message("SetBootstrapToken", BootstrapToken=b"bootstrap"))
    device_id = await house.id_of(mac)
    await house.call("PATCH", f"/devices/{device_id}", {"tags": ["kept"], "user": "ada"})
    before = (await house.told()).enrollment

    assert (await house.check_in(mac, mac.authenticate())).status == 200
    told = await house.told()
    after = told.enrollment
    assert house.fences == [
        {
            "enrollment_id": str(before.enrollment_id),
            "device_id": str(device_id),
            "generation": 2,
            "state": "reauthenticated",
        }
    ]
    assert (after.enrollment_id, after.generation, after.state) == (
        before.enrollment_id,
        2,
        "pending",
    )
    [channel] = after.channels
    assert not channel.open
    assert channel.push is None
    assert channel.unlock_token is not None  # until a new one comes
    assert after.pins == before.pins
    assert (told.state.tags, told.state.user) == (["kept"], "ada")
    assert await bootstrap_token(house, mac) == b""

    await house.check_in(mac, mac.token_update(Token=b"new"))
    told = await house.told()
    assert told.one(DeviceEnrolled).again
    assert told.enrollment.channels[0].channel_id == channel.channel_id
    assert told.enrollment.channels[0].open


async def test_without_the_fence_the_old_enrollment_stays_as_it_was(house: House) -> None:
    """architecture §4: an Authenticate that cannot be fenced gets 503 and changes nothing."""
    device = await house.enrolled()
    before = await house.query("SELECT * FROM enrollment")
    await house.told()
    house.others.failing.add("command_queue")
    assert (await house.check_in(device, device.authenticate())).status == 503
    assert await house.query("SELECT * FROM enrollment") == before
    assert not (await house.told()).events
    assert (await house.check_in(device, device.token_update())).status == 200


async def renewed(house: House, device_id: object) -> cms.Identity:
    """The certificate behind a renewal profile."""
    made = await house.call("POST", f"/devices/{device_id}/renewal-profile")
    return await house.identity_of(opened(base64.b64decode(made["profile"])))


async def test_a_profile_sent_again_renews_and_keeps_the_device(house: House) -> None:
    """apple.md §1.11, 26: assignments, escrow and user survive; the old certificate ends once the
    new one has proven to work.
    """
    mac = await house.enrolled(product="Mac15,3", credential=await house.credential(user="ada"))
    await house.check_in(mac, mac.message("SetBootstrapToken", BootstrapToken=b"bootstrap"))
    device_id = await house.id_of(mac)
    await house.call("PATCH", f"/devices/{device_id}", {"tags": ["t"], "name": "Ada's Mac"})
    before = (await house.told()).enrollment
    house.later(days=200)
    old, mac.identity = mac.identity, await renewed(house, device_id)
    mac.style = cms.Style(signing_time=house.clock.now())
    assert (await house.check_in(mac, mac.authenticate())).status == 200
    told = await house.told()
    assert told.one(CertificateIssued).renewal
    assert told.enrollment.enrollment_id == before.enrollment_id
    assert (told.enrollment.generation, len(told.enrollment.pins)) == (2, 2)
    assert (await house.check_in(mac, mac.token_update())).status == 200
    told = await house.told()
    assert told.one(CertificateRevoked).reason == "superseded"
    assert told.enrollment.state == "enrolled"
    assert (await bootstrap_token(house, mac)) == b"bootstrap"
    state = told.of(DeviceState)[-1]
    assert (state.device_id, state.tags, state.name, state.user) == (
        device_id,
        ["t"],
        "Ada's Mac",
        "ada",
    )
    answer = await house.check_in(mac, mac.token_update(), identity=old)
    assert (answer.status, answer.text) == (400, "certificate_revoked\n")


async def test_a_renewal_profile_is_good_for_its_own_device_only(house: House) -> None:
    mine, other = await house.enrolled(), await house.enrolled()
    mine.identity = await renewed(house, await house.id_of(other))
    answer = await house.check_in(mine, mine.authenticate())
    assert (answer.status, answer.text) == (400, "certificate_of_another\n")
    answer = await house.check_in(other, other.token_update(), identity=mine.identity)
    assert (answer.status, answer.text) == (400, "not_authenticated\n")


async def test_only_an_enrolled_device_can_be_renewed(house: House) -> None:
    device = house.device()
    device.identity = await house.identity(await house.credential())
    await house.check_in(device, device.authenticate())
    path = f"/api/v1/enrollment/devices/{await house.id_of(device)}/renewal-profile"
    assert (await house.service.call("POST", path)).status == 409


@pytest.mark.parametrize("method", ["PUT", "POST"])
async def test_a_scep_renewal_speaks_for_the_same_enrollment(house: House, method: str) -> None:
    """The current certificate is the proof; no Authenticate is needed, both count meanwhile."""
    device = await house.enrolled()
    payload = payload_of(await house.profile(await house.credential()), "com.apple.security.scep")
    path = payload["PayloadContent"]["URL"].removeprefix("https://mdm.example.org")
    before = (await house.told()).enrollment
    key = house.new_key()
    issued = await house.issue(path, None, key, signer=device.identity)
    again = await house.issue(path, None, key, signer=device.identity)
    assert again.certificate == issued.certificate  # the same key, the same certificate
    told = await house.told()
    assert told.one(CertificateIssued).renewal
    assert set(told.enrollment.pins) > set(before.pins)
    new = cms.Identity(key, issued.certificate)
    assert (await house.check_in(device, device.token_update(), identity=new)).status == 200
    answer = await house.check_in(device, device.token_update(), method=method)
    assert answer.status == 200
    assert (await house.told()).enrollment.generation == 1
