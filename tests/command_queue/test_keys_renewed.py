"""What command_queue encrypts, after its keys were rotated and the old ones were taken away."""

from __future__ import annotations

import pytest

from shared.events.devices import Platform
from tests.command_queue.fleet import Fleet
from tests.renewed import renewed

BASE = "/api/v1/commands"


async def test_pins_reach_their_macs_and_people(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    mac = await fleet.enroll(platform=Platform.MACOS, os_version="15.1")
    phone = await fleet.enroll(platform="macos", os_version="14.1")
    await fleet.ask(phone)
    one = await phone.idle()
    assert one
    await phone.say("Acknowledged", one.command_uuid, SecurityInfo={}, UnlockToken=b"marked")
    await fleet.ask(mac, kind="device.lock")
    context = fleet.trial.context
    settings = context.settings
    held = await renewed("command_queue", context.pool, settings.keys_dir, monkeypatch)
    assert held["escrow.sealed"] == held["outcome.secrets"] == 1, held
    assert held["pending.body"] == held["command.body"] == 1, held
    given = await mac.idle()
    assert given is not None
    path = f"{BASE}/devices/{mac.device_id}/secrets"
    [kept] = (await fleet.trial.call("GET", path)).json["items"]
    shown = await fleet.trial.call("POST", f"{path}/{kept['secret_id']}/reveal", {"reason": "x"})
    assert shown.json["value"] == given.command["PIN"]
