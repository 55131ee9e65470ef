"""Plain targets are placed by the database alone: which they are, and what becomes of others."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

import pytest

from services.command_queue import expansion
from services.command_queue.apple import eligibility
from services.command_queue.store.targets import Wanted
from shared.events.commands import TargetState
from tests.command_queue.fleet import ASTRAY, Fleet, Phone


@pytest.fixture
async def looked_at(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[list[UUID]]:
    """The devices whose targets were looked at one by one, once the traits of a phone are known."""
    expansion._eligible_traits.clear()
    await fleet.ask(await fleet.enroll())
    devices: list[UUID] = []
    sort = expansion._sort

    async def noting(tx: Any, wanted: Sequence[Wanted], now: datetime) -> Any:
        devices.extend(one.device_id for one in wanted)
        return await sort(tx, wanted, now)

    monkeypatch.setattr(expansion, "_sort", noting)
    yield devices
    assert await fleet.rows(ASTRAY) == []


async def test_a_plain_target_is_not_looked_at(fleet: Fleet, looked_at: list[UUID]) -> None:
    phones = await fleet.enroll(3)
    asked = await fleet.ask(*phones)
    assert looked_at == []
    assert (await fleet.show(asked["command_id"]))["progress"] == {"queued": 3}
    told = [one for one in await fleet.queued() if str(one.command_id) == asked["command_id"]]
    assert {(one.device_id, one.channel_id) for one in told} == {
        (phone.device_id, phone.channel_id) for phone in phones
    }
    assert {one.meta.causation_id for one in told} == {asked["command_id"]}
    assert len({one.meta.event_id for one in told}) == 1
    for phone in phones:
        assert (await phone.idle()).command_uuid == asked["command_id"]


async def test_only_what_is_not_plain_is_looked_at(fleet: Fleet, looked_at: list[UUID]) -> None:
    plain, mac = await fleet.enroll(), await fleet.enroll(platform="macos", os_version="10.6")
    unknown, quarantined = fleet.phone(), await fleet.enroll(state="quarantined")
    asked = await fleet.ask(plain, mac, unknown, quarantined)
    assert sorted(looked_at) == sorted([mac.device_id, unknown.device_id, quarantined.device_id])
    progress = (await fleet.show(asked["command_id"]))["progress"]
    assert progress == {"queued": 1, "failed": 2, "waiting": 1}
    reasons = {one["device_id"]: one["reason"] for one in await fleet.targets(asked["command_id"])}
    assert reasons[str(mac.device_id)] == "not eligible: needs macos 10.7 or newer"
    await unknown.tell()
    assert (await fleet.show(asked["command_id"]))["progress"] == {"queued": 2, "failed": 2}


async def test_the_first_of_its_kind_is_looked_at_and_the_next_is_plain(
    fleet: Fleet, looked_at: list[UUID]
) -> None:
    first, second = await fleet.enroll(2, os_version="17.6")
    await fleet.ask(first)
    await fleet.ask(second)
    assert looked_at == [first.device_id]
    # What it is eligible for is known by the kind of request.
    await fleet.ask(second, kind="device.lock")
    assert looked_at == [first.device_id, second.device_id]


async def test_a_fence_has_each_target_looked_at_until_the_device_is_told_of_again(
    fleet: Fleet, looked_at: list[UUID]
) -> None:
    phone = await fleet.enroll()
    before = await fleet.ask(phone, expand=False)
    await fleet.fence(phone, 2)
    # Emitted before the fence, heard after it.
    await phone.tell()
    await fleet.job("expand targets")
    assert looked_at == [phone.device_id]
    [end] = await fleet.finished()
    assert (end.state, end.reason) == (TargetState.CANCELLED, "re-enrolled")
    assert str(end.command_id) == before["command_id"]
    phone.generation = 2
    await phone.tell()
    after = await fleet.ask(phone)
    assert looked_at == [phone.device_id]
    assert (await phone.idle()).command_uuid == after["command_id"]


async def test_what_was_asked_for_before_a_new_enrollment_is_looked_at(
    fleet: Fleet, looked_at: list[UUID]
) -> None:
    old = await fleet.enroll()
    asked = await fleet.ask(old, expand=False)
    old.state = "ended"
    new = fleet.phone(device_id=old.device_id)
    await fleet.trial.hears(new.told(old), service="enrollment")
    await fleet.job("expand targets")
    assert looked_at == [old.device_id]
    assert (await fleet.show(asked["command_id"]))["progress"] == {"cancelled": 1}
    assert await new.idle() is None


async def test_news_that_change_nothing_about_the_way_keep_it_plain(
    fleet: Fleet, looked_at: list[UUID]
) -> None:
    phone = await fleet.enroll()
    asked = await fleet.ask(phone, expand=False)
    await phone.tell()
    await fleet.job("expand targets")
    assert looked_at == []
    assert (await phone.idle()).command_uuid == asked["command_id"]


@pytest.mark.parametrize("change", ["quarantined", "ended", "deleted"])
async def test_a_device_that_takes_no_commands_is_never_plain(
    fleet: Fleet, looked_at: list[UUID], change: str
) -> None:
    phone = await fleet.enroll()
    asked = await fleet.ask(phone, expand=False)
    if change == "deleted":
        await phone.tell(deleted=True)
    else:
        phone.state = change
        await phone.tell()
    await fleet.job("expand targets")
    assert looked_at == [phone.device_id]
    assert await fleet.rows("SELECT FROM pending WHERE device_id = $1", phone.device_id) == []
    assert (await fleet.show(asked["command_id"]))["progress"].keys() <= {"failed", "waiting"}


async def test_a_command_that_was_cancelled_meanwhile_is_placed_nowhere(
    fleet: Fleet, looked_at: list[UUID]
) -> None:
    phones = await fleet.enroll(2)
    asked = await fleet.ask(*phones, expand=False)
    path = f"/api/v1/commands/{asked['command_id']}/cancel"
    await fleet.trial.call("POST", path, {"reason": "wrong"})
    await fleet.job("expand targets")
    assert len(looked_at) == 2
    assert (await fleet.show(asked["command_id"]))["progress"] == {"cancelled": 2}
    assert [one for one in await fleet.queued() if str(one.command_id) == asked["command_id"]] == []


@pytest.mark.parametrize("budgets", [{}])
async def test_a_held_command_waits_in_the_queue_and_nobody_is_told(
    fleet: Fleet, looked_at: list[UUID]
) -> None:
    phones: list[Phone] = await fleet.enroll(6)
    for phone in phones:
        await fleet.ask(phone, kind="device.erase")
    looked_at.clear()
    held = await fleet.ask(phones[0], kind="device.erase")
    assert held["state"] == "held"
    assert looked_at == []
    assert (await fleet.show(held["command_id"]))["progress"] == {"held": 1}
    assert [one for one in await fleet.queued() if str(one.command_id) == held["command_id"]] == []


async def test_two_commands_for_a_device_in_one_bite_keep_their_order(
    fleet: Fleet, looked_at: list[UUID]
) -> None:
    phone = await fleet.enroll()
    asked = [(await fleet.ask(phone, expand=False))["command_id"] for _ in range(3)]
    await fleet.job("expand targets")
    assert looked_at == []
    told = [one for one in await fleet.queued() if one.device_id == phone.device_id]
    assert [str(one.command_id) for one in told] == asked
    assert [given.command_uuid for given in await phone.drain()] == asked


async def test_many_commands_for_one_device_each_are_one_bite(
    fleet: Fleet, looked_at: list[UUID]
) -> None:
    phones = await fleet.enroll(40)
    asked = {phone.device_id: await fleet.ask(phone, expand=False) for phone in phones}
    assert await fleet.trial.run_job("expand targets")
    assert not await fleet.trial.run_job("expand targets")
    assert looked_at == []
    told = {one.device_id: str(one.command_id) for one in await fleet.queued()}
    assert told.items() >= {device: one["command_id"] for device, one in asked.items()}.items()


async def test_a_named_device_channel_is_no_second_target(fleet: Fleet) -> None:
    """The device is meant once, whichever way it was named."""
    phone = await fleet.enroll()
    asked = await fleet.ask(phone, channel_ids=[str(phone.channel_id)])
    assert asked["target_count"] == 1
    assert (await fleet.show(asked["command_id"]))["progress"] == {"queued": 1}


async def test_only_so_many_traits_are_remembered() -> None:
    expansion._eligible_traits.clear()
    for number in range(expansion._MOST_TRAITS + 10):
        expansion._remember("DeviceLock", number)
    known = expansion._eligible_traits["DeviceLock"]
    assert len(known) == expansion._MOST_TRAITS
    assert min(known) == 10


def test_traits_differ_with_everything_that_eligibility_asks_for() -> None:
    facts: dict[str, Any] = {
        "platform": "ios",
        "os_version": "17.5",
        "ownership": "corporate",
        "mode": "device",
        "supervised": True,
        "access_rights": 8191,
        "user_channel": False,
    }
    other: dict[str, Any] = {**dict.fromkeys(facts, "x"), "supervised": None, "access_rights": None}
    other["user_channel"] = True
    found = {eligibility.traits(eligibility.Target(**facts))} | {
        eligibility.traits(eligibility.Target(**(facts | {name: other[name]}))) for name in facts
    }
    assert len(found) == len(facts) + 1
