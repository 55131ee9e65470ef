"""What a device could be asked for, before anybody asks."""

from __future__ import annotations

from shared.events import uuid7
from shared.events.devices import Ownership
from tests.command_queue.fleet import Fleet
from tests.command_queue.test_scopes import on, put

PATH = "/api/v1/commands/devices"


async def _obstacles(fleet: Fleet, device_id: object) -> dict[str, str | None]:
    answer = await fleet.trial.call("GET", f"{PATH}/{device_id}/possible")
    assert answer.status == 200, answer.text
    return {one["kind"]: one["obstacle"] for one in answer.json["items"]}


async def test_it_says_what_would_fail(fleet: Fleet) -> None:
    [phone] = await fleet.enroll(1)
    found = await _obstacles(fleet, phone.device_id)
    assert {"device.lock", "device.erase", "device.restart"} <= set(found)
    assert "raw" not in found
    assert found["device.lock"] is None
    phone.ownership = Ownership.PERSONAL
    await phone.tell()
    assert (await _obstacles(fleet, phone.device_id))["device.erase"] == (
        "personal devices are never erased"
    )
    assert set((await _obstacles(fleet, uuid7())).values()) == {"device unknown"}


async def test_a_device_beyond_reach_does_not_exist(fleet: Fleet) -> None:
    [phone] = await fleet.enroll(1)
    group, other = uuid7(), uuid7()
    await put(fleet, phone, group)
    path = f"{PATH}/{phone.device_id}/possible"
    assert (await fleet.trial.call("GET", path, **on(group))).status == 200
    assert (await fleet.trial.call("GET", path, **on(other))).status == 404
