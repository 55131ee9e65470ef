"""Lost mode: what it is made into, how dangerous it is, who can take it."""

from __future__ import annotations

import base64
import plistlib
from typing import Any

import pytest

from services.command_queue import catalogue
from services.command_queue.apple import eligibility
from services.command_queue.errors import CommandRefused
from shared.events.commands import CommandClass
from shared.events.devices import Platform
from tests.command_queue.fleet import Fleet


def _raw(**command: Any) -> dict[str, Any]:
    return {"platform": "apple", "payload": base64.b64encode(plistlib.dumps(command)).decode()}


@pytest.mark.parametrize(
    ("kind", "params", "command"),
    [
        (
            "lost_mode.enable",
            {"message": "lost", "phone_number": "+41 1", "footnote": "reward"},
            {
                "RequestType": "EnableLostMode",
                "Message": "lost",
                "PhoneNumber": "+41 1",
                "Footnote": "reward",
            },
        ),
        ("lost_mode.disable", {}, {"RequestType": "DisableLostMode"}),
        ("lost_mode.play_sound", {}, {"RequestType": "PlayLostModeSound"}),
    ],
)
def test_each_kind_becomes_its_command_and_is_disruptive(
    kind: str, params: dict[str, Any], command: dict[str, Any]
) -> None:
    order = catalogue.make(kind, params)
    assert order.command == command
    assert order.command_class is CommandClass.DISRUPTIVE
    assert not order.change
    assert catalogue.make("raw", _raw(**command)).command_class is CommandClass.DISRUPTIVE
    unknown = catalogue.make("raw", _raw(**command, Unheard=1))
    assert unknown.command_class is CommandClass.DESTRUCTIVE


@pytest.mark.parametrize("words", [{}, {"Footnote": "reward"}, {"Message": ""}])
def test_without_words_no_device_could_take_it(words: dict[str, str]) -> None:
    with pytest.raises(CommandRefused, match="Message or PhoneNumber"):
        catalogue.make("raw", _raw(RequestType="EnableLostMode", **words))
    with pytest.raises(CommandRefused):
        catalogue.make("lost_mode.enable", {k.lower(): value for k, value in words.items()})


@pytest.mark.parametrize("request_type", ["EnableLostMode", "DisableLostMode", "PlayLostModeSound"])
def test_it_is_for_supervised_phones_and_tablets(request_type: str) -> None:
    """Apple's schema: device.lostmode.*.yaml."""
    phone: dict[str, Any] = {
        "platform": "ipados",
        "os_version": "17.4",
        "ownership": None,
        "mode": "device",
        "supervised": True,
        "access_rights": 0,
        "user_channel": False,
    }
    assert eligibility.why_not(request_type, eligibility.Target(**phone)) is None
    changes: tuple[tuple[dict[str, Any], str], ...] = (
        ({"supervised": False}, "needs a supervised device"),
        ({"platform": "macos"}, "macos does not know this command"),
        ({"mode": "user"}, "forbidden in a user enrollment"),
        ({"os_version": "9.2"}, "or newer"),
        ({"user_channel": True}, "the device channel only"),
    )
    for change, said in changes:
        why = eligibility.why_not(request_type, eligibility.Target(**phone | change))
        assert why is not None
        assert said in why


async def test_a_phone_is_lost_and_what_it_shows_is_on_record(fleet: Fleet) -> None:
    phone = await fleet.enroll(supervised=True, os_version="17.4")
    words = {"message": "Bring me back", "phone_number": "+41 1"}
    asked = await fleet.ask(phone, kind="lost_mode.enable", params=words)
    given = await phone.idle()
    assert given is not None
    assert given.command["RequestType"] == "EnableLostMode"
    shown = (await fleet.trial.call("GET", f"/api/v1/commands/{asked['command_id']}")).json[
        "summary"
    ]
    assert shown["Message"] == "Bring me back"


async def test_a_mac_says_before_that_it_cannot(fleet: Fleet) -> None:
    mac = await fleet.enroll(platform=Platform.MACOS, os_version="15.1")
    path = f"/api/v1/commands/devices/{mac.device_id}/possible"
    found = {one["kind"]: one for one in (await fleet.trial.call("GET", path)).json["items"]}
    for kind in ("lost_mode.enable", "lost_mode.disable", "lost_mode.play_sound"):
        assert found[kind]["obstacle"] == "macos does not know this command"
        assert found[kind]["command_class"] == "disruptive"
