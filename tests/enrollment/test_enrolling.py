"""The straight road: credential, profile, certificate, Authenticate, TokenUpdate."""

from __future__ import annotations

import json

from shared.events.device_state import DeviceState
from shared.events.devices import CertificateIssued, DeviceEnrolled
from shared.sealed import Keyring
from tests.enrollment.conftest import TOPIC, House, payload_of


async def test_authenticate_then_token_update_enrolls(house: House) -> None:
    """apple.md §1.11, 1: nothing is open before the first TokenUpdate."""
    device = house.device()
    device.identity = await house.identity(await house.credential(user="ada@example.org"))
    answer = await house.check_in(device, device.authenticate())
    assert (answer.status, answer.body) == (200, b"")
    told = await house.told()
    issued = told.one(CertificateIssued)
    assert not told.of(DeviceState)  # that comes with its tokens
    assert not told.of(DeviceEnrolled)

    answer = await house.check_in(device, device.token_update())
    assert (answer.status, answer.body) == (200, b"")
    told = await house.told()
    enrolled = told.one(DeviceEnrolled)
    state = told.one(DeviceState)
    [channel] = told.enrollment.channels
    assert enrolled.channel_id == channel.channel_id
    assert (enrolled.platform, enrolled.serial, enrolled.again) == ("ios", device.serial, False)
    assert (told.enrollment.state, told.enrollment.generation) == ("enrolled", 1)
    assert issued.sha256 in told.enrollment.pins
    assert channel.open
    assert channel.push_topic == TOPIC
    assert channel.push is not None
    assert state.user == "ada@example.org"
    assert state.ownership == "corporate"
    assert house.fences == []  # a first enrollment displaces nobody


async def test_post_works_like_put_and_content_types_are_not_required(house: House) -> None:
    """apple.md §1.12, 5: every success is exactly 200, POST like PUT."""
    device = house.device()
    device.identity = await house.identity(await house.credential())
    first = await house.check_in(device, device.authenticate(), method="POST")
    headers = {"Content-Type": "text/plain"}
    second = await house.check_in(device, device.token_update(), method="POST", headers=headers)
    assert (first.status, second.status) == (200, 200)
    assert (first.body, first.headers["Content-Length"]) == (b"", "0")


async def test_a_token_update_without_an_unlock_token_keeps_the_stored_one(house: House) -> None:
    """apple.md §1.11, 3."""
    device = await house.enrolled()
    await house.check_in(device, device.token_update(UnlockToken=b"unlock me"))
    kept = (await house.told()).enrollment.channels[0].unlock_token
    assert kept is not None
    await house.check_in(device, device.token_update(Token=b"\x02" * 32))
    channel = (await house.told()).enrollment.channels[0]
    assert channel.unlock_token == kept
    await house.check_in(device, device.token_update(UnlockToken=b"another"))
    assert (await house.told()).enrollment.channels[0].unlock_token not in (None, kept)


async def test_secrets_are_sealed_to_the_service_that_uses_them(house: House) -> None:
    device = await house.enrolled()
    await house.check_in(device, device.token_update(UnlockToken=b"unlock me", PushMagic="m" * 36))
    told = await house.told()
    channel = told.enrollment.channels[0]
    device_id = told.state.device_id
    keys = house.service.context.settings.keys_dir
    push = Keyring.load(keys / "push_notifier")
    unlock = Keyring.load(keys / "command_queue")
    assert json.loads(push.open(channel.push or "", purpose="push", device_id=device_id)) == {
        "token": "01" * 32,
        "magic": "m" * 36,
    }
    sealed = channel.unlock_token or ""
    assert unlock.open(sealed, purpose="unlock-token", device_id=device_id) == b"unlock me"
    stored = await house.query("SELECT * FROM channel")
    assert "unlock me" not in repr(stored)
    assert "m" * 36 not in repr(stored)


async def test_push_tokens_may_be_short_and_equal_on_many_devices(house: House) -> None:
    """apple.md §1.12, 6."""
    credential = await house.credential(max_uses=2)
    for _ in range(2):
        device = await house.enrolled(credential=credential)
        answer = await house.check_in(device, device.token_update(Token=b"123456789"))
        assert answer.status == 200
    assert len(await house.query("SELECT FROM channel WHERE open_generation = 1")) == 2


async def test_a_personal_device_never_grants_the_right_to_erase(house: House) -> None:
    path = await house.credential(ownership="personal")
    document = await house.profile(path)
    assert not payload_of(document, "com.apple.mdm")["AccessRights"] & 8
    device = house.device()
    device.identity = await house.identity_of(document)
    await house.check_in(device, device.authenticate())
    await house.check_in(device, device.token_update())
    told = await house.told()
    assert told.state.ownership == "personal"
    assert told.enrollment.access_rights == 8191 & ~8


async def test_no_profile_without_a_push_certificate(bare_house: House) -> None:
    path = await bare_house.credential()
    answer = await bare_house.device_get(path)
    assert (answer.status, answer.text) == (503, "push_certificate_missing\n")
    [row] = await bare_house.query("SELECT uses FROM credential")
    assert row["uses"] == 0
    await bare_house.push_certificate()
    document = await bare_house.profile(path)
    assert payload_of(document, "com.apple.mdm")["Topic"] == TOPIC


async def test_the_newest_push_certificate_names_the_topic(house: House) -> None:
    newer = TOPIC.replace("1111", "9999")
    await house.push_certificate(newer)
    document = await house.profile(await house.credential())
    assert payload_of(document, "com.apple.mdm")["Topic"] == newer


async def test_a_user_enrollment_is_known_by_its_enrollment_id(house: House) -> None:
    device = house.device(serial=None, id_key="EnrollmentID")
    device.identity = await house.identity(await house.credential(ownership="personal"))
    await house.check_in(device, device.authenticate())
    await house.check_in(device, device.token_update(UnlockToken=b"forbidden here"))
    told = await house.told()
    assert told.enrollment.mode == "user"
    assert told.enrollment.udid == device.udid
    assert told.enrollment.channels[0].unlock_token is None
