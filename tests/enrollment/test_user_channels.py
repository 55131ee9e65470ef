"""Users of a device: each a channel of their own, keyed by columns (apple.md §1.2)."""

from __future__ import annotations

from services.enrollment.opening import MAX_USERS
from shared.events.devices import UserChannelOpened
from tests.enrollment.conftest import Apple, House

ALL_F = "FFFFFFFF-FFFF-FFFF-FFFF-FFFFFFFFFFFF"


def user_update(mac: Apple, user_id: str, short: str, **more: object) -> dict[str, object]:
    return mac.token_update(UserID=user_id, UserShortName=short, NotOnConsole=False, **more)


async def test_a_user_of_a_mac_gets_a_channel_of_their_own(house: House) -> None:
    mac = await house.enrolled(product="Mac15,3")
    await house.told()
    answer = await house.check_in(mac, user_update(mac, "A-1", "ada", Token=b"ada's"))
    assert answer.status == 200
    told = await house.told()
    opened = told.one(UserChannelOpened)
    device, user = sorted(told.enrollment.channels, key=lambda one: one.kind)
    assert (device.kind, user.kind, user.user_key, user.user_name) == (
        "device",
        "user",
        "A-1",
        "ada",
    )
    assert opened.channel_id == user.channel_id != device.channel_id
    assert user.open
    assert user.push != device.push
    await house.check_in(mac, user_update(mac, "A-1", "ada", Token=b"again"))
    told = await house.told()
    assert not told.of(UserChannelOpened)
    assert len(told.enrollment.channels) == 2


async def test_users_of_a_shared_ipad_are_told_apart_by_their_short_names(house: House) -> None:
    """apple.md §1.11, 16: the UserID is the same for all of them."""
    ipad = await house.enrolled(product="iPad14,1")
    for name in ("ada@school.example", "bob@school.example", "ada@school.example"):
        answer = await house.check_in(ipad, user_update(ipad, ALL_F, name))
        assert answer.status == 200
    enrollment = (await house.told()).enrollment
    users = {one.user_key for one in enrollment.channels if one.kind == "user"}
    assert users == {"ada@school.example", "bob@school.example"}
    assert enrollment.mode == "shared_ipad"


async def test_a_user_id_cannot_name_a_shared_ipads_user(house: House) -> None:
    """The kind of the key is part of the identity: equal texts are different channels."""
    ipad = await house.enrolled(product="iPad14,1")
    await house.check_in(ipad, user_update(ipad, ALL_F, "same"))
    await house.check_in(ipad, user_update(ipad, "same", "whoever"))
    channels = (await house.told()).enrollment.channels
    assert len({one.channel_id for one in channels if one.user_key == "same"}) == 2


async def test_an_unlock_token_from_a_user_changes_nothing(house: House) -> None:
    mac = await house.enrolled(product="Mac15,3")
    await house.check_in(mac, mac.token_update(UnlockToken=b"device's"))
    before = (await house.told()).enrollment.channels[0].unlock_token
    await house.check_in(mac, user_update(mac, "A-1", "ada", UnlockToken=b"user's"))
    channels = (await house.told()).enrollment.channels
    assert [one.unlock_token for one in channels if one.kind == "device"] == [before]
    assert [one.unlock_token for one in channels if one.kind == "user"] == [None]


async def test_a_device_has_at_most_fifty_user_channels(house: House) -> None:
    mac = await house.enrolled(product="Mac15,3")
    for number in range(MAX_USERS):
        assert (await house.check_in(mac, user_update(mac, f"U-{number}", "u"))).status == 200
    refused = await house.check_in(mac, user_update(mac, "U-more", "u"))
    assert (refused.status, refused.text) == (400, "too_many_users\n")
    assert (await house.check_in(mac, user_update(mac, "U-3", "u"))).status == 200
    assert len(await house.query("SELECT FROM channel WHERE kind = 'user'")) == MAX_USERS


async def test_a_user_channel_is_declined_for_this_login(house: House) -> None:
    """apple.md §1.11, 17: UserAuthenticate → 410."""
    mac = await house.enrolled(product="Mac15,3")
    message = mac.message("UserAuthenticate", UserID="A-1", UserShortName="ada")
    assert (await house.check_in(mac, message)).status == 410


async def test_device_only_messages_are_refused_on_user_channels(house: House) -> None:
    mac = await house.enrolled(product="Mac15,3")
    await house.told()
    for kind in ("Authenticate", "CheckOut", "SetBootstrapToken", "GetBootstrapToken"):
        message = {**mac.authenticate(UserID="A-1"), "MessageType": kind}
        assert (await house.check_in(mac, message)).status == 400, kind
    assert not (await house.told()).events
