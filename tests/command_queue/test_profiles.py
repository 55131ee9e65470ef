"""Profiles: whose they are, device by device, and what taking one away is therefore."""

from __future__ import annotations

import base64
import plistlib

from tests.command_queue.fleet import Fleet


def profile(
    payload_type: str = "com.apple.wifi.managed", identifier: str = "org.example.wifi"
) -> str:
    profile = {
        "PayloadType": "Configuration",
        "PayloadIdentifier": identifier,
        "PayloadUUID": "1",
        "PayloadVersion": 1,
        "PayloadContent": [
            {"PayloadType": payload_type, "PayloadIdentifier": "a", "PayloadUUID": "2"}
        ],
    }
    return base64.b64encode(plistlib.dumps(profile)).decode()


async def test_an_installed_profile_may_be_removed_and_a_strangers_is_destructive(
    fleet: Fleet,
) -> None:
    phone = await fleet.enroll()
    remove = {"identifier": "org.example.wifi"}
    strange = await fleet.ask(phone, kind="configuration.remove", params=remove)
    assert strange["command_class"] == "destructive"
    await fleet.ask(phone, kind="configuration.install", params={"profile": profile()})
    await phone.drain()
    own = await fleet.ask(phone, kind="configuration.remove", params=remove)
    assert own["command_class"] == "disruptive"
    management = {"identifier": "org.muster.enrollment"}
    asked = await fleet.ask(phone, kind="configuration.remove", params=management)
    assert asked["command_class"] == "destructive"


async def test_a_profile_is_ours_only_on_the_device_that_took_it(fleet: Fleet) -> None:
    phone, other = await fleet.enroll(2)
    remove = {"identifier": "org.example.wifi"}
    await fleet.ask(phone, kind="configuration.install", params={"profile": profile()})
    await phone.drain()
    for phones, expected in (((phone,), "disruptive"), ((phone, other), "destructive")):
        asked = await fleet.ask(*phones, kind="configuration.remove", params=remove)
        assert asked["command_class"] == expected


async def test_a_removal_hidden_in_one_devices_own_body_is_seen(fleet: Fleet) -> None:
    phone, other = await fleet.enroll(2)
    remove = {"identifier": "org.example.wifi"}
    install = {"profile": profile()}
    await fleet.ask(phone, other, kind="configuration.install", params=install)
    await phone.drain()
    await other.drain()
    for hidden in ("org.muster.enrollment", "org.stranger"):
        bodies = {str(other.device_id): {"identifier": hidden}}
        asked = await fleet.ask(
            phone, other, kind="configuration.remove", params=remove, bodies=bodies
        )
        assert asked["command_class"] == "destructive", hidden


async def test_a_profile_that_a_device_was_not_given_is_not_taken_for_ours(fleet: Fleet) -> None:
    """The command names one profile, and each device's own body is another."""
    phone = await fleet.enroll()
    mine = {"profile": profile()}
    bodies = {str(phone.device_id): {"profile": profile(identifier="org.harmless")}}
    await fleet.ask(phone, kind="configuration.install", params=mine, bodies=bodies)
    await phone.drain()
    remove = {"identifier": "org.example.wifi"}
    asked = await fleet.ask(phone, kind="configuration.remove", params=remove)
    assert asked["command_class"] == "destructive"
