"""Devices as people see and change them: /api/v1/enrollment/devices."""

from __future__ import annotations

import pytest

from services.enrollment.http.devices import AUTHORITIES
from shared.events.audit import AuditRecorded
from shared.events.base import uuid7
from shared.events.commands import DeviceSeen
from shared.events.device_state import AuthorityPublished, DeviceState
from shared.events.devices import DeviceChanged
from tests.enrollment.conftest import API, House


async def test_a_change_is_told_audited_and_replaces_the_state(house: House) -> None:
    device = await house.enrolled()
    device_id = await house.id_of(device)
    await house.told()
    change = {"name": "Front desk", "tags": ["b", "a", "a"], "user": "ada", "ownership": "personal"}
    after = await house.call("PATCH", f"/devices/{device_id}", change, actor="grace")
    assert (after["name"], after["tags"], after["user"]) == ("Front desk", ["a", "b"], "ada")
    told = await house.told()
    changed = told.one(DeviceChanged)
    assert changed.actor == "grace"
    assert changed.before["tags"] == []
    assert changed.after["ownership"] == "personal"
    assert told.one(AuditRecorded).action == "device.change"
    assert (told.state.name, told.state.tags) == ("Front desk", ["a", "b"])

    await house.call("PATCH", f"/devices/{device_id}", change)
    assert not (await house.told()).events  # nothing changed: nothing told
    cleared = await house.call("PATCH", f"/devices/{device_id}", {"user": None, "name": None})
    assert cleared["user"] is None
    assert cleared["name"] == f"Phone {device.serial}"  # what it calls itself again


async def test_what_a_person_chose_survives_what_the_device_says(house: House) -> None:
    device = await house.enrolled()
    device_id = await house.id_of(device)
    await house.call("PATCH", f"/devices/{device_id}", {"name": "ours", "ownership": "personal"})
    await house.check_in(device, device.authenticate(DeviceName="its own", OSVersion="27.0"))
    state = (await house.told()).of(DeviceState)[-1]
    assert (state.name, state.ownership, state.os_version) == ("ours", "personal", "27.0")


@pytest.mark.parametrize(
    "change", [{"tags": [""]}, {"ownership": "mine"}, {"serial": "X"}, {"tags": ["x" * 101]}]
)
async def test_a_change_that_cannot_be_is_refused(house: House, change: dict[str, object]) -> None:
    device = await house.enrolled()
    device_id = await house.id_of(device)
    path = f"{API}/devices/{device_id}"
    assert (await house.service.call("PATCH", path, change)).status == 422


async def test_devices_are_found_by_filters_and_listed_in_pages(house: House) -> None:
    credential = await house.credential(max_uses=5)
    phones = [await house.enrolled(credential=credential) for _ in range(3)]
    mac = await house.enrolled(credential=credential, product="Mac15,3")
    gone = await house.enrolled(credential=credential)
    await house.check_in(gone, gone.message("CheckOut", Topic="com.apple.mgmt.x"))

    async def serials(query: str) -> list[str]:
        found = await house.call("GET", f"/devices?{query}")
        return [one["serial"] for one in found["items"]]

    assert await serials("platform=macos") == [mac.serial]
    assert await serials("state=ended") == [gone.serial]
    assert await serials(f"q={phones[1].serial}") == [phones[1].serial]
    assert await serials("q=100%25") == []  # a wildcard is a letter like any other
    first = await house.call("GET", "/devices?limit=2")
    second = await house.call("GET", f"/devices?limit=2&cursor={first['next']}")
    third = await house.call("GET", f"/devices?limit=2&cursor={second['next']}")
    listed = [one["serial"] for page in (first, second, third) for one in page["items"]]
    assert listed == [one.serial for one in (*phones, mac, gone)]
    assert third["next"] is None


@pytest.mark.parametrize("query", ["cursor=rubbish", "cursor=WzFd", "limit=0", "nonsense=1"])
async def test_a_query_that_cannot_be_is_refused(house: House, query: str) -> None:
    assert (await house.service.call("GET", f"{API}/devices?{query}")).status == 400
    assert (await house.service.call("GET", f"{API}/certificates?{query}")).status == 400


async def test_unknown_ids_are_not_found(house: House) -> None:
    for name in (str(uuid7()), "not-an-id"):
        assert (await house.service.call("GET", f"{API}/devices/{name}")).status == 404
        answer = await house.service.call(
            "POST", f"{API}/devices/{name}/revoke", {"reason": "because"}
        )
        assert answer.status == 404
        assert (await house.service.call("DELETE", f"{API}/credentials/{name}")).status == 404


async def test_certificates_are_listed_newest_first(house: House) -> None:
    one = await house.enrolled()
    house.later(seconds=1)
    two = await house.enrolled()
    listed = await house.call("GET", "/certificates?limit=1")
    after = await house.call("GET", f"/certificates?limit=1&cursor={listed['next']}")
    ids = [page["items"][0]["device_id"] for page in (listed, after)]
    assert ids == [str(await house.id_of(device)) for device in (two, one)]
    of_one = await house.call("GET", f"/certificates?device_id={ids[1]}")
    assert len(of_one["items"]) == 1


async def test_each_change_needs_its_own_permission(house: House) -> None:
    device = await house.enrolled()
    path = f"{API}/devices/{await house.id_of(device)}"
    order = {"reason": "because"}
    for method, ending, body in (
        ("PATCH", "", {"name": "x"}),
        ("POST", "/release", order),
        ("POST", "/revoke", order),
        ("POST", "/renewal-profile", None),
    ):
        answer = await house.service.call(
            method, path + ending, body, permissions=["enrollment.read"]
        )
        assert answer.status == 403, ending


async def test_a_device_is_seen_when_command_queue_says_so(house: House) -> None:
    device = await house.enrolled()
    device_id = await house.id_of(device)
    await house.told()
    house.later(hours=3)
    seen = DeviceSeen(device_id=device_id, channel_id=uuid7(), seen_at=house.clock.now())
    await house.service.hears(seen, service="command_queue")
    assert (await house.find(device))["last_seen"] == house.clock.now().isoformat().replace(
        "+00:00", "Z"
    )
    assert not (await house.told()).events


async def test_a_device_that_others_named_first_is_no_device_yet(house: House) -> None:
    """A shell row (architecture §5) is not shown to people."""
    await house.service.hears(
        DeviceSeen(device_id=uuid7(), channel_id=uuid7(), seen_at=house.clock.now()),
        service="command_queue",
    )
    assert (await house.call("GET", "/devices"))["items"] == []


async def test_the_authority_is_published_once(bare_house: House) -> None:
    told = await bare_house.told()
    assert told.one(AuthorityPublished).certificates[0].startswith("-----BEGIN CERTIFICATE-----")
    await bare_house.service.parts.values[AUTHORITIES].refresh()
    assert not (await bare_house.told()).events
