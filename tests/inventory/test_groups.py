"""Static groups: who makes and fills them, what the others hear, and how they end."""

from __future__ import annotations

import asyncio
from typing import Any
from uuid import UUID, uuid4

import pytest

from services.inventory import groups as groups_concept
from services.inventory import membership
from shared.events import uuid7
from shared.events.audit import AuditRecorded
from shared.events.groups import DeviceGroups, GroupState

PATH = "/api/v1/inventory/groups"


class Desk:
    """A person at the API: with all rights, unless told otherwise."""

    def __init__(self, inventory: Any) -> None:
        self.inventory = inventory

    async def ask(self, method: str, path: str = "", body: Any = None, **rights: Any) -> Any:
        return await self.inventory.service.call(method, PATH + path, body, **rights)

    async def group(self, name: str, **more: Any) -> UUID:
        answer = await self.ask("POST", body={"name": name, **more})
        assert answer.status == 201, answer.text
        return UUID(answer.json["group_id"])

    async def add(self, group: UUID, *devices: UUID, **rights: Any) -> Any:
        body = {"device_ids": list(devices)}
        return await self.ask("POST", f"/{group}/members", body, **rights)

    async def remove(self, group: UUID, *devices: UUID, **rights: Any) -> Any:
        body = {"device_ids": list(devices)}
        return await self.ask("POST", f"/{group}/members/remove", body, **rights)

    async def members(self, group: UUID) -> list[str]:
        answer = await self.ask("GET", f"/{group}/members")
        return [row["device_id"] for row in answer.json["items"]]

    async def held(self) -> dict[UUID, list[UUID]]:
        """What the others heard of devices since the last time."""
        told = await self.inventory.told()
        return {event.device_id: event.groups for event in told.of(DeviceGroups)}


@pytest.fixture
def desk(inventory: Any) -> Desk:
    return Desk(inventory)


def on(group: UUID, *permissions: str) -> dict[str, Any]:
    """The rights of somebody who has them on one group only."""
    return {"permissions": (), "groups": {group: permissions or ("*",)}}


async def test_a_group_is_made_changed_and_told(inventory: Any, desk: Desk) -> None:
    group = await desk.group("Paris", description="Shops", protected=True)
    told = await inventory.told()
    [state] = told.of(GroupState)
    assert (state.name, state.description, state.protected) == ("Paris", "Shops", True)
    [audit] = told.of(AuditRecorded)
    assert (audit.action, audit.target, audit.before) == ("group.create", str(group), None)
    changed = await desk.ask("PATCH", f"/{group}", {"name": "Lyon", "description": None})
    assert (changed.json["name"], changed.json["description"]) == ("Lyon", None)
    told = await inventory.told()
    assert [event.name for event in told.of(GroupState)] == ["Lyon"]
    [audit] = told.of(AuditRecorded)
    assert audit.before == {"name": "Paris", "description": "Shops"}
    assert audit.after == {"name": "Lyon", "description": None}
    again = await desk.ask("PATCH", f"/{group}", {"name": "Lyon"})
    assert again.status == 200
    assert (await inventory.told()).events == []


async def test_names_are_taken_whatever_their_case(desk: Desk) -> None:
    first, second = await desk.group("Paris"), await desk.group("Lyon")
    assert (await desk.ask("POST", body={"name": " pARIS "})).json["code"] == "name_taken"
    assert (await desk.ask("PATCH", f"/{second}", {"name": "PARIS"})).status == 409
    assert (await desk.ask("PATCH", f"/{first}", {"name": "PARIS"})).status == 200
    assert (await desk.ask("DELETE", f"/{first}")).status == 204
    assert (await desk.ask("POST", body={"name": "paris"})).status == 201
    assert (await desk.ask("POST", body={"name": "a\x1bb"})).status == 422


async def test_two_people_cannot_take_one_name(desk: Desk) -> None:
    answers = await asyncio.gather(*(desk.ask("POST", body={"name": "One"}) for _ in range(5)))
    assert sorted(answer.status for answer in answers) == [201, 409, 409, 409, 409]


async def test_members_come_and_go_and_are_told_with_all_their_groups(
    inventory: Any, desk: Desk
) -> None:
    devices = sorted([await inventory.device(serial=f"S{n}") for n in range(3)])
    first, second = await desk.group("A"), await desk.group("B")
    await inventory.told()
    answer = await desk.add(first, *devices)
    assert answer.json == {"moved": 3, "members": 3}
    told = await inventory.told()
    assert {event.device_id: event.groups for event in told.of(DeviceGroups)} == {
        device: [first] for device in devices
    }
    [audit] = told.of(AuditRecorded)
    assert (audit.action, audit.after) == (
        "group.members.added",
        {"name": "A", "members": 3, "added": 3},
    )
    await desk.add(second, devices[0])
    assert await desk.held() == {devices[0]: sorted([first, second])}
    assert (await desk.add(first, *devices)).json == {"moved": 0, "members": 3}
    assert (await inventory.told()).events == []
    gone = await desk.remove(first, devices[0], devices[1], uuid4())
    assert gone.json == {"moved": 2, "members": 1}
    assert await desk.held() == {devices[0]: [second], devices[1]: []}
    assert await desk.members(first) == [str(devices[2])]
    page = await desk.ask("GET", f"/{second}/members?limit=1")
    assert page.json["items"][0]["serial"].startswith("S")
    assert page.json["next"] is None


async def test_what_is_not_known_is_refused_by_number_and_nothing_changes(
    inventory: Any, desk: Desk
) -> None:
    device, group = await inventory.device(), await desk.group("A")
    await inventory.told()
    answer = await desk.add(group, device, uuid7(), uuid7())
    assert (answer.status, answer.json["code"], answer.json["devices"]) == (
        422,
        "devices_unknown",
        2,
    )
    assert await desk.members(group) == []
    assert (await inventory.told()).events == []
    rows = await inventory.service.context.pool.fetchval("SELECT count(*) FROM device")
    assert rows == 1, "strangers' ids must leave no rows"
    assert (await desk.add(uuid4(), device)).status == 404
    assert (await desk.add(group)).status == 422
    too_many = [uuid7() for _ in range(membership.MOST_AT_ONCE + 1)]
    assert (await desk.add(group, *too_many)).json["code"] == "devices_too_many_or_none"


async def test_a_device_comes_into_a_group_only_by_rights_on_both(
    inventory: Any, desk: Desk
) -> None:
    mine, other = await desk.group("Mine"), await desk.group("Other")
    inside, outside = await inventory.device(), await inventory.device()
    await desk.add(mine, inside)
    await desk.add(other, outside)
    await inventory.told()
    refused = await desk.add(mine, inside, outside, uuid7(), **on(mine))
    assert (refused.status, refused.json["code"]) == (403, "devices_outside")
    assert refused.json["devices"] == 2
    assert str(outside) not in refused.text
    assert (await desk.add(other, inside, **on(mine))).status == 404
    assert (await desk.remove(other, outside, **on(mine))).status == 404
    assert (await inventory.told()).events == []
    both = {"permissions": (), "groups": {mine: ("group.members",), other: ("group.members",)}}
    assert (await desk.add(mine, outside, **both)).status == 200
    half = {"permissions": (), "groups": {mine: ("group.members",), other: ("group.read",)}}
    await desk.remove(mine, outside)
    assert (await desk.add(mine, outside, **half)).json["code"] == "devices_outside"
    assert (await desk.add(mine, outside, **on(mine, "group.read"))).status == 403


async def test_people_with_a_group_see_only_theirs(desk: Desk) -> None:
    mine, other = await desk.group("Mine"), await desk.group("Other")
    seen = await desk.ask("GET", **on(mine))
    assert [row["group_id"] for row in seen.json["items"]] == [str(mine)]
    for path in (f"/{other}", f"/{other}/members"):
        assert (await desk.ask("GET", path, **on(mine))).status == 404
    assert (await desk.ask("PATCH", f"/{other}", {"name": "x"}, **on(mine))).status == 404
    assert (await desk.ask("PATCH", f"/{mine}", {"name": "New"}, **on(mine))).status == 200
    assert (await desk.ask("DELETE", f"/{mine}", **on(mine))).status == 403
    assert (await desk.ask("POST", body={"name": "x"}, **on(mine))).status == 403
    assert len((await desk.ask("GET", "?q=OTH")).json["items"]) == 1


async def test_protection_is_decided_on_all_devices(inventory: Any, desk: Desk) -> None:
    group, device = await desk.group("Board", protected=True), await inventory.device()
    await desk.add(group, device)
    lifted = await desk.ask("PATCH", f"/{group}", {"protected": False}, **on(group))
    assert (lifted.status, lifted.json["code"]) == (403, "permission_on_all_missing")
    let_go = await desk.remove(group, device, **on(group))
    assert (let_go.status, let_go.json["code"]) == (403, "permission_on_all_missing")
    assert await desk.members(group) == [str(device)]
    assert (await desk.remove(group, device)).status == 200


async def test_bounds_are_refused_in_clear_words(
    inventory: Any, desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(groups_concept, "MOST_GROUPS", 3)
    monkeypatch.setattr(membership, "MOST_GROUPS_A_DEVICE", 2)
    made = [await desk.group(name) for name in "abc"]
    assert (await desk.ask("POST", body={"name": "d"})).json["code"] == "groups_too_many"
    device, free = await inventory.device(), await inventory.device()
    for group in made[:2]:
        await desk.add(group, device)
    await inventory.told()
    refused = await desk.add(made[2], device, free)
    assert (refused.status, refused.json["code"]) == (409, "groups_of_device_too_many")
    assert refused.json["devices"] == 1
    assert await desk.members(made[2]) == []
    assert (await inventory.told()).events == []


async def test_a_deleted_group_is_emptied_in_bites_and_told_when_done(
    inventory: Any, desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(membership, "_BITE", 2)
    devices = sorted([await inventory.device() for _ in range(5)])
    group, kept = await desk.group("Gone"), await desk.group("Kept")
    await desk.add(group, *devices)
    await desk.add(kept, devices[0])
    await inventory.told()
    assert (await desk.ask("DELETE", f"/{group}?reason=closed")).status == 204
    [audit] = (await inventory.told()).of(AuditRecorded)
    assert audit.before == {
        "name": "Gone",
        "description": None,
        "protected": False,
        "members": 5,
    }
    assert audit.reason == "closed"
    assert (await desk.ask("GET", f"/{group}")).status == 404
    assert (await desk.add(group, devices[0])).status == 404
    heard: dict[UUID, list[UUID]] = {}
    for bite in (2, 2, 1):
        assert await inventory.service.run_job("dissolve") is True
        told = await inventory.told()
        assert told.of(GroupState) == []
        heard |= (of := {event.device_id: event.groups for event in told.of(DeviceGroups)})
        assert len(of) == bite
    assert heard == {device: [kept] if device == devices[0] else [] for device in devices}
    assert await inventory.service.run_job("dissolve") is True
    [state] = (await inventory.told()).of(GroupState)
    assert (state.group_id, state.deleted) == (group, True)
    assert await inventory.service.run_job("dissolve") is False


async def test_a_deleted_device_leaves_its_groups(inventory: Any, desk: Desk) -> None:
    first, second = await desk.group("A"), await desk.group("B")
    device, other = await inventory.device(), await inventory.device()
    for group in (first, second):
        await desk.add(group, device, other)
    await inventory.told()
    end = inventory.state(device, deleted=True)
    await inventory.service.hears(end, service="enrollment")
    assert await desk.held() == {device: []}
    for group in (first, second):
        assert await desk.members(group) == [str(other)]
        assert (await desk.ask("GET", f"/{group}")).json["members"] == 1


async def test_a_late_service_learns_all_groups_within_a_round(inventory: Any, desk: Desk) -> None:
    devices = sorted([await inventory.device() for _ in range(3)])
    first, second = await desk.group("A"), await desk.group("B")
    await desk.add(first, *devices[:2])
    await desk.remove(first, devices[1])
    await inventory.told()
    held: dict[UUID, list[UUID]] = {}
    named: set[str] = set()
    for _ in range(3):
        await inventory.service.run_job("retell")
        told = await inventory.told()
        held |= {event.device_id: event.groups for event in told.of(DeviceGroups)}
        named |= {event.name for event in told.of(GroupState)}
    assert held == {devices[0]: [first], devices[1]: []}, "who left is told as well"
    assert named == {"A", "B"}
    assert second != first


async def test_a_full_call_and_rivals_for_the_same_devices(inventory: Any, desk: Desk) -> None:
    devices = [uuid7() for _ in range(1200)]
    states = [inventory.state(device) for device in devices]
    for at in range(0, len(states), 300):
        await inventory.service.hears(*states[at : at + 300], service="enrollment")
    made = [await desk.group(name) for name in "abcd"]
    await inventory.told()
    answers = await asyncio.gather(*(desk.add(group, *devices) for group in made))
    assert [answer.json["moved"] for answer in answers] == [1200] * 4
    last = await desk.held()
    assert all(last[device] == sorted(made) for device in devices)


@pytest.mark.parametrize(
    "path", ["", "/facts", "/applications", "/profiles", "/certificates", "/history"]
)
async def test_a_device_outside_is_answered_like_none(
    inventory: Any, desk: Desk, path: str
) -> None:
    mine = await desk.group("Mine")
    inside, outside = await inventory.device(), await inventory.device(serial="OUTSIDE")
    await desk.add(mine, inside)
    service, rights = inventory.service, on(mine, "inventory.read")
    url = f"/api/v1/inventory/devices/{{}}{path}"
    assert (await service.call("GET", url.format(inside), **rights)).status == 200
    refused = await service.call("GET", url.format(outside), **rights)
    nobody = await service.call("GET", url.format(uuid7()), **rights)
    assert refused.status == nobody.status == 404
    assert {**refused.json, "correlation_id": ""} == {**nobody.json, "correlation_id": ""}
    listed = await service.call("GET", "/api/v1/inventory/devices", **rights)
    assert [row["device_id"] for row in listed.json["items"]] == [str(inside)]


async def test_only_devices_within_reach_are_asked_for_news(inventory: Any, desk: Desk) -> None:
    mine = await desk.group("Mine")
    inside, outside = await inventory.device(), await inventory.device()
    await desk.add(mine, inside)
    await inventory.told()
    service, rights = inventory.service, on(mine, "inventory.refresh")
    url = "/api/v1/inventory/devices/{}/refresh"
    assert (await service.call("POST", url.format(outside), {}, **rights)).status == 404
    assert (await inventory.told()).events == []
    assert (await service.call("POST", url.format(inside), {}, **rights)).status == 202
