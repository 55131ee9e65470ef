"""Profiles: whose they are, device by device, and what taking one away is therefore."""

from __future__ import annotations

import base64
import plistlib

from tests.command_queue.fleet import Fleet

CHECKS = "/api/v1/commands/checks"


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


async def test_a_check_judges_as_asking_would_and_asks_for_nothing(fleet: Fleet) -> None:
    phone = await fleet.enroll()
    install = "configuration.install"
    for kind, params, expected in (
        (install, {"profile": profile("com.apple.webClip.managed")}, "harmless"),
        (install, {"profile": profile()}, "disruptive"),
        (install, {"profile": profile("org.nobody.knows")}, "destructive"),
        ("device.lock", {"pin": "123456"}, "destructive"),
        ("inventory.refresh", {"section": "security"}, "harmless"),
    ):
        answer = await fleet.trial.call("POST", CHECKS, {"kind": kind, "params": params})
        assert answer.status == 200, answer.body
        assert "123456" not in answer.text
        queue = await fleet.trial.call("GET", f"/api/v1/commands/devices/{phone.device_id}")
        assert queue.json["queue"] == []
        asked = await fleet.ask(phone, kind=kind, params=params)
        assert answer.json["command_class"] == asked["command_class"] == expected
        await phone.drain()


async def test_a_check_explains_what_is_wrong_to_whoever_may_ask(fleet: Fleet) -> None:
    answer = await fleet.trial.call("POST", CHECKS, {"kind": "configuration.install", "params": {}})
    assert (answer.status, answer.json["code"]) == (422, "params_invalid")
    body = {"kind": "configuration.install", "params": {"profile": "eHl6"}}
    answer = await fleet.trial.call("POST", CHECKS, body)
    assert (answer.status, answer.json["code"]) == (422, "body_invalid")
    few = ("command.request", "command.device.lock")
    answer = await fleet.trial.call("POST", CHECKS, body, permissions=few)
    assert answer.status == 403
