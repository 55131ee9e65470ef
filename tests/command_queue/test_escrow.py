"""PINs that Macs are locked by: made here, kept before a Mac is handed one, shown seldom."""

from __future__ import annotations

import base64
import plistlib
import re
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest

from shared.events.audit import AuditRecorded
from shared.events.commands import CommandRequested, GuardAlarmed
from shared.events.devices import Platform
from shared.events.groups import DeviceGroups
from shared.runtime.testing import Answer
from tests.attacks.marked import (
    everything_kept,
    everything_logged,
    everything_told,
)
from tests.command_queue.fleet import Fleet, Phone

BASE = "/api/v1/commands"
CHOSEN = "271828"


async def _mac(fleet: Fleet, **fields: Any) -> Phone:
    mac: Phone = await fleet.enroll(platform=Platform.MACOS, os_version="15.1", **fields)
    return mac


async def _secrets(fleet: Fleet, device: Phone) -> list[dict[str, Any]]:
    answer = await fleet.trial.call("GET", f"{BASE}/devices/{device.device_id}/secrets")
    assert answer.status == 200, answer.text
    return list(answer.json["items"])


async def _reveal(
    fleet: Fleet, device: Phone, secret_id: str | UUID, reason: str = "it came back", **who: Any
) -> Answer:
    path = f"{BASE}/devices/{device.device_id}/secrets/{secret_id}/reveal"
    return await fleet.trial.call("POST", path, {"reason": reason}, **who)


async def test_a_mac_is_locked_by_a_pin_that_nobody_chose(fleet: Fleet) -> None:
    mac = await _mac(fleet)
    asked = await fleet.ask(mac, kind="device.lock", reason="left on a train")
    assert asked["command_class"] == "destructive"
    [kept] = await _secrets(fleet, mac)
    assert (kept["kind"], kept["actor"], kept["state"]) == ("lock_pin", "tester", "queued")
    assert (kept["command_id"], kept["reason"]) == (asked["command_id"], "left on a train")
    assert kept["revealed_at"] is None
    given = await mac.idle()
    assert given is not None
    assert re.fullmatch("[0-9]{6}", given.command["PIN"])
    shown = await _reveal(fleet, mac, kept["secret_id"])
    assert shown.json == {"kind": "lock_pin", "value": given.command["PIN"]}
    assert shown.headers["Cache-Control"] == "no-store"
    await mac.say("Acknowledged", given.command_uuid)
    [kept] = await _secrets(fleet, mac)
    assert kept["state"] == "acknowledged"
    assert kept["revealed_at"] is not None


async def test_it_is_kept_when_the_history_is_gone(fleet: Fleet) -> None:
    mac = await _mac(fleet)
    await fleet.ask(mac, kind="device.lock")
    await mac.drain()
    fleet.clock.advance(timedelta(minutes=5))
    await fleet.job("sweep ended commands")
    await fleet.rows("DELETE FROM outcome")
    await fleet.rows("DELETE FROM past_command")
    [kept] = await _secrets(fleet, mac)
    assert (kept["state"], kept["reason"]) == (None, None)
    assert (await _reveal(fleet, mac, kept["secret_id"])).status == 200


async def test_every_mac_has_its_own_and_phones_none(fleet: Fleet) -> None:
    macs = [await _mac(fleet) for _ in range(3)]
    phone = await fleet.enroll()
    asked = await fleet.ask(*macs, phone, kind="device.lock", params={"message": "Call us"})
    assert (await fleet.show(asked["command_id"]))["summary"]["pin"] == "set"
    found = set()
    for mac in macs:
        given = await mac.idle()
        assert given is not None
        assert given.command["Message"] == "Call us"
        found.add(given.command["PIN"])
    assert len(found) > 1
    given = await phone.idle()
    assert given is not None
    assert "PIN" not in given.command
    assert await _secrets(fleet, phone) == []


async def test_a_phone_alone_is_locked_as_before(fleet: Fleet) -> None:
    phone = await fleet.enroll()
    asked = await fleet.ask(phone, kind="device.lock")
    assert asked["command_class"] == "disruptive"
    assert await fleet.rows("SELECT FROM escrow") == []


async def test_what_turns_out_to_be_a_mac_has_a_pin(fleet: Fleet) -> None:
    mac = fleet.phone(platform=Platform.MACOS, os_version="15.1")
    asked = await fleet.ask(mac, kind="device.lock")
    assert asked["command_class"] == "destructive"
    await mac.tell()
    given = await mac.idle()
    assert given is not None
    [kept] = await _secrets(fleet, mac)
    assert (await _reveal(fleet, mac, kept["secret_id"])).json["value"] == given.command["PIN"]


async def test_a_repeat_makes_no_second_pin(fleet: Fleet) -> None:
    mac = await _mac(fleet)
    same = {"kind": "device.lock", "idempotency_key": "once"}
    first = await fleet.ask(mac, **same)  # type: ignore[arg-type]
    again = await fleet.ask(mac, status=200, **same)  # type: ignore[arg-type]
    assert first["command_id"] == again["command_id"]
    assert len(await _secrets(fleet, mac)) == 1


def _raw(request_type: str) -> dict[str, Any]:
    payload = plistlib.dumps({"RequestType": request_type, "PIN": CHOSEN})
    return {"platform": "apple", "payload": base64.b64encode(payload).decode()}


@pytest.mark.parametrize(
    ("kind", "params", "kept"),
    [
        ("device.lock", {"pin": CHOSEN}, "lock_pin"),
        ("device.erase", {"pin": CHOSEN}, "erase_pin"),
        ("raw", _raw("DeviceLock"), "lock_pin"),
        ("raw", _raw("EraseDevice"), "erase_pin"),
    ],
)
async def test_who_chooses_a_pin_is_not_the_only_one_to_know_it(
    fleet: Fleet, kind: str, params: dict[str, Any], kept: str
) -> None:
    mac = await _mac(fleet)
    await fleet.ask(mac, kind=kind, params=params)
    [secret] = await _secrets(fleet, mac)
    assert secret["kind"] == kept
    shown = await _reveal(fleet, mac, secret["secret_id"], actor="somebody else")
    assert shown.json["value"] == CHOSEN


async def test_what_a_service_asks_for_is_held_with_its_pin(fleet: Fleet) -> None:
    mac = await _mac(fleet)
    asked = CommandRequested(
        device_id=mac.device_id,
        kind="device.lock",
        actor="rule:lost",
        idempotency_key="one",
        expires_in_seconds=3600,
    )
    await fleet.trial.hears(asked, service="compliance")
    await fleet.job("expand targets")
    assert await mac.idle() is None
    [kept] = await _secrets(fleet, mac)
    assert kept["state"] == "held"


async def test_the_pin_is_nowhere_in_clear(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("secrets.randbelow", lambda _most: int(CHOSEN))
    mac = await _mac(fleet)
    with everything_logged() as log:
        asked = await fleet.ask(mac, kind="device.lock", reason="left on a train")
        [kept] = await _secrets(fleet, mac)
        said = [
            (await fleet.trial.call("GET", f"{BASE}{path}")).text
            for path in (
                "",
                f"/{asked['command_id']}",
                f"/{asked['command_id']}/targets",
                f"/devices/{mac.device_id}",
                f"/devices/{mac.device_id}/secrets",
            )
        ]
        given = await mac.idle()
        assert given is not None
        assert given.command["PIN"] == CHOSEN
        await mac.say("Acknowledged", given.command_uuid)
        assert (await _reveal(fleet, mac, kept["secret_id"])).json["value"] == CHOSEN
    whole = [log.getvalue(), *said]
    whole += [await everything_kept(fleet.trial), await everything_told(fleet.trial)]
    assert "canary" in whole[0]
    for one in whole:
        spelled = {CHOSEN.encode().hex(), base64.b64encode(CHOSEN.encode()).decode()}
        assert not any(spelling in one for spelling in spelled)
        assert not re.search(rf"(?<![0-9a-f.]){CHOSEN}(?![0-9a-f])", one)


async def test_a_reveal_says_who_why_and_by_which_session(fleet: Fleet) -> None:
    mac = await _mac(fleet)
    asked = await fleet.ask(mac, kind="device.lock")
    [kept] = await _secrets(fleet, mac)
    await _reveal(fleet, mac, kept["secret_id"], "its owner is here", via="session:one")
    told = [one for one in await fleet.events() if isinstance(one, AuditRecorded)][-1]
    assert (told.action, told.actor, told.target) == (
        "secret.reveal",
        "tester",
        str(mac.device_id),
    )
    assert (told.reason, told.via, told.permission) == (
        "its owner is here",
        "session:one",
        "secret.reveal",
    )
    assert told.after == {
        "kind": "lock_pin",
        "secret_id": kept["secret_id"],
        "command_id": asked["command_id"],
    }


async def test_five_in_an_hour_and_twenty_in_a_day(fleet: Fleet) -> None:
    mac = await _mac(fleet)
    await fleet.ask(mac, kind="device.lock")
    [kept] = await _secrets(fleet, mac)
    shown = 0
    for _ in range(5):
        while (answer := await _reveal(fleet, mac, kept["secret_id"])).status == 200:
            shown += 1
        assert answer.status == 429
        assert answer.json["code"] == "reveals_spent"
        assert "value" not in answer.json
        fleet.clock.advance(timedelta(hours=1, seconds=1))
    assert shown == 20
    alarms = [one for one in await fleet.events() if isinstance(one, GuardAlarmed)]
    assert {(one.kind, one.actor, one.about) for one in alarms} == {
        ("refused", "tester", mac.device_id)
    }
    assert (await _reveal(fleet, mac, kept["secret_id"], actor="ada")).status == 200
    fleet.clock.advance(timedelta(days=1))
    assert (await _reveal(fleet, mac, kept["secret_id"])).status == 200


async def test_who_may_not_is_shown_nothing(fleet: Fleet) -> None:
    mac, other = await _mac(fleet), await _mac(fleet)
    await fleet.ask(mac, kind="device.lock")
    [kept] = await _secrets(fleet, mac)
    group, elsewhere = uuid4(), uuid4()
    joined = DeviceGroups(device_id=mac.device_id, groups=[group])
    await fleet.trial.hears(joined, service="inventory")
    secret = kept["secret_id"]
    for who, status in (
        ({"permissions": ["command.read", "command.request"]}, 403),
        ({"permissions": [], "groups": {elsewhere: ["secret.reveal"]}}, 404),
        ({"permissions": [], "groups": {group: ["command.read"]}}, 403),
        ({"permissions": [], "groups": {group: ["secret.reveal"]}}, 200),
    ):
        assert (await _reveal(fleet, mac, secret, **who)).status == status, who
    assert (await _reveal(fleet, other, secret)).json["code"] == "secret_unknown"
    assert (await _reveal(fleet, mac, uuid4())).status == 404
    assert (await _reveal(fleet, mac, secret, reason="")).status == 422
    path = f"{BASE}/devices/{mac.device_id}/secrets"
    outside = await fleet.trial.call(
        "GET", path, permissions=[], groups={elsewhere: ["command.read"]}
    )
    assert outside.status == 404
