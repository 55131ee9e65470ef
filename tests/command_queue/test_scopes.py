"""People with rights on some groups: whom they reach, and which commands they see."""

from __future__ import annotations

from datetime import timedelta
from typing import Any
from uuid import UUID

from shared.events import uuid7
from shared.events.commands import CommandCreated
from shared.events.groups import DeviceGroups
from tests.command_queue.fleet import Fleet, Phone

PATH = "/api/v1/commands"
ALL = ("command.request", "command.inventory.refresh", "command.read", "command.cancel")
A, B = uuid7(), uuid7()


def on(*groups: UUID, only: tuple[str, ...] = ALL) -> dict[str, Any]:
    return {"permissions": (), "groups": dict.fromkeys(groups, only)}


async def put(fleet: Fleet, phone: Phone | UUID, *groups: UUID, **more: Any) -> None:
    device_id = phone if isinstance(phone, UUID) else phone.device_id
    event = DeviceGroups(device_id=device_id, groups=list(groups))
    await fleet.trial.hears(event, service="inventory", **more)


async def request(fleet: Fleet, key: str, rights: dict[str, Any], **targets: Any) -> Any:
    body = {
        "kind": "inventory.refresh",
        "params": {"section": "security"},
        "idempotency_key": key,
        **targets,
    }
    answer = await fleet.trial.call("POST", PATH, body, **rights)
    await fleet.job("expand targets")
    return answer


async def seen(fleet: Fleet, rights: dict[str, Any]) -> list[str]:
    answer = await fleet.trial.call("GET", PATH, **rights)
    assert answer.status == 200
    return [row["command_id"] for row in answer.json["items"]]


async def test_one_device_outside_refuses_the_whole_by_number(fleet: Fleet) -> None:
    inside, outside = await fleet.enroll(2)
    await put(fleet, inside, A)
    await put(fleet, outside, B)
    named = [inside.device_id, outside.device_id, uuid7()]
    refused = await request(fleet, "1", on(A), device_ids=named)
    assert (refused.status, refused.json["code"], refused.json["devices"]) == (
        403,
        "devices_outside",
        2,
    )
    assert str(outside.device_id) not in refused.text
    both = await request(fleet, "2", on(A), channel_ids=[inside.channel_id, outside.channel_id])
    stranger = await request(fleet, "3", on(A), channel_ids=[inside.channel_id, uuid7()])
    assert [one.json["code"] for one in (both, stranger)] == ["devices_outside"] * 2
    assert await fleet.rows("SELECT FROM command") == []
    assert (await request(fleet, "4", on(A, B), device_ids=named[:2])).status == 202


async def test_all_means_all_within_reach(fleet: Fleet) -> None:
    phones = await fleet.enroll(4)
    for phone in phones[:2]:
        await put(fleet, phone, A, B)
    await put(fleet, phones[2], B)
    asked = await request(fleet, "1", on(A), all=True)
    assert asked.json["target_count"] == 2
    targets = await fleet.targets(asked.json["command_id"])
    assert {one["device_id"] for one in targets} == {str(one.device_id) for one in phones[:2]}
    assert (await request(fleet, "2", {}, all=True)).json["target_count"] == 4
    nobody = await request(fleet, "3", on(uuid7()), all=True)
    assert (nobody.status, nobody.json["code"]) == (422, "targets_missing")


async def test_every_permission_is_needed_on_the_same_devices(fleet: Fleet) -> None:
    inside = await fleet.enroll()
    await put(fleet, inside, A)
    groups = {A: ("command.request",), B: ("command.inventory.refresh",)}
    split = {"permissions": (), "groups": groups}
    body = {"device_ids": [inside.device_id]}
    refused = await request(fleet, "1", split, **body)
    assert (refused.status, refused.json["code"]) == (403, "permission_missing")
    mixed = {"permissions": ("command.request",), "groups": {A: ("command.inventory.refresh",)}}
    assert (await request(fleet, "2", mixed, **body)).status == 202
    elsewhere = {"permissions": ("command.request",), "groups": {B: ("command.inventory.refresh",)}}
    assert (await request(fleet, "3", elsewhere, **body)).json["code"] == "devices_outside"


async def test_commands_are_seen_by_whoever_reaches_all_that_they_may_name(fleet: Fleet) -> None:
    phone = await fleet.enroll()
    await put(fleet, phone, A, B)
    targets = {"device_ids": [phone.device_id]}
    asked = {
        name: (await request(fleet, name, rights, **targets)).json["command_id"]
        for name, rights in {"a": on(A), "b": on(B), "ab": on(A, B), "all": {}}.items()
    }
    assert await seen(fleet, on(A)) == [asked["a"]]
    assert set(await seen(fleet, on(A, B))) == {asked["ab"], asked["b"], asked["a"]}
    assert len(await seen(fleet, {})) == 4
    for path in ("", "/targets"):
        hidden = await fleet.trial.call("GET", f"{PATH}/{asked['all']}{path}", **on(A))
        assert (hidden.status, hidden.json["code"]) == (404, "command_unknown")
        shown = await fleet.trial.call("GET", f"{PATH}/{asked['a']}{path}", **on(A))
        assert shown.status == 200
    refused = await fleet.trial.call("POST", f"{PATH}/{asked['b']}/cancel", {}, **on(A))
    assert refused.status == 404
    assert (await fleet.show(asked["b"]))["state"] == "active"
    taken = await fleet.trial.call("POST", f"{PATH}/{asked['a']}/cancel", {}, **on(A))
    assert taken.json == {"cancelled": True}
    created = [event for event in await fleet.events() if isinstance(event, CommandCreated)]
    assert [event.reach for event in created] == [[A], [B], sorted([A, B]), None]


async def test_a_command_that_is_over_keeps_its_reach(fleet: Fleet) -> None:
    phone = await fleet.enroll()
    await put(fleet, phone, A)
    asked = await request(fleet, "1", on(A), device_ids=[phone.device_id])
    await request(fleet, "2", {}, device_ids=[phone.device_id])
    assert len(await phone.drain()) == 2
    fleet.clock.advance(timedelta(minutes=5))
    await fleet.job("sweep ended commands")
    assert len(await fleet.rows("SELECT FROM past_command")) == 2
    assert await seen(fleet, on(A)) == [asked.json["command_id"]]
    assert await seen(fleet, on(B)) == []


async def test_a_device_that_left_is_left_out_and_its_queue_is_nobody_elses(fleet: Fleet) -> None:
    stays, leaves = await fleet.enroll(2)
    for phone in (stays, leaves):
        await put(fleet, phone, A)
    asked = await request(fleet, "1", on(A), all=True)
    await request(fleet, "2", {}, device_ids=[stays.device_id])
    await put(fleet, leaves, B)
    path = f"{PATH}/{asked.json['command_id']}/targets"
    targets = (await fleet.trial.call("GET", path, **on(A))).json["items"]
    assert [one["device_id"] for one in targets] == [str(stays.device_id)]
    url = f"{PATH}/devices/{{}}"
    gone = await fleet.trial.call("GET", url.format(leaves.device_id), **on(A))
    assert (gone.status, gone.json["code"]) == (404, "device_unknown")
    mine = await fleet.trial.call("GET", url.format(stays.device_id), **on(A))
    assert len(mine.json["queue"]) == 2, "all that waits for it, whoever asked"


async def test_groups_are_heard_in_any_order_and_before_the_device(fleet: Fleet) -> None:
    phone = fleet.phone()
    await put(fleet, phone.device_id, A, sequence=1_000_000)
    await put(fleet, phone.device_id, B, sequence=999_999)
    early = await request(fleet, "1", on(A), device_ids=[phone.device_id])
    assert early.json["code"] == "devices_outside", "nobody knows it yet"
    await phone.tell()
    assert (await request(fleet, "2", on(A), device_ids=[phone.device_id])).status == 202
    await put(fleet, phone.device_id, sequence=1_000_001)
    left = await request(fleet, "3", on(A), device_ids=[phone.device_id])
    assert left.json["code"] == "devices_outside"
