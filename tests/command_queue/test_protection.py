"""What is in a protected group is destroyed by nobody alone, nor by taking it out of the group."""

from __future__ import annotations

from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest

from shared.events.commands import GuardAlarmed
from shared.events.groups import GroupState
from tests.command_queue.approving import API, aged
from tests.command_queue.fleet import Fleet, Phone
from tests.command_queue.test_scopes import put

_WAITS = timedelta(hours=72)


async def _group(fleet: Fleet, group_id: UUID, *, protected: bool, deleted: bool = False) -> None:
    event = GroupState(group_id=group_id, name="Board", protected=protected, deleted=deleted)
    await fleet.trial.hears(event, service="inventory")


async def _ask(fleet: Fleet, phone: Phone, kind: str = "device.erase") -> dict[str, Any]:
    body = {
        "kind": kind,
        "device_ids": [str(phone.device_id)],
        "idempotency_key": str(uuid4()),
    }
    answer = await fleet.trial.call("POST", API, body, actor="eve")
    assert answer.status == 202, answer.body
    found: dict[str, Any] = answer.json
    return found


async def _state(fleet: Fleet, phone: Phone) -> str:
    return str((await _ask(fleet, phone))["state"])


async def test_what_destroys_a_protected_device_is_held_and_another_may_let_it_run(
    fleet: Fleet,
) -> None:
    inside, outside = await fleet.enroll(2)
    [ada] = await aged(fleet, 1)
    group = uuid4()
    await _group(fleet, group, protected=True)
    await put(fleet, inside, group)
    held = await _ask(fleet, inside)
    assert (held["state"], held["hold_reason"]) == (
        "held",
        "1 of its devices are protected by their group",
    )
    assert await _state(fleet, outside) == "active"
    assert (await _ask(fleet, inside, "device.restart"))["state"] == "active"
    assert (await ada.approve(held["command_id"])).json["released"]


async def test_a_group_of_which_nothing_is_known_counts_as_protected(fleet: Fleet) -> None:
    phone = await fleet.enroll()
    group = uuid4()
    await put(fleet, phone, group)
    assert await _state(fleet, phone) == "held"
    await _group(fleet, group, protected=False)
    assert await _state(fleet, phone) == "active"


@pytest.mark.parametrize("how", ["unmarked", "deleted", "taken out"])
async def test_taking_protection_away_waits(fleet: Fleet, how: str) -> None:
    phone = await fleet.enroll()
    group = uuid4()
    await _group(fleet, group, protected=True)
    await put(fleet, phone, group)
    if how == "taken out":
        await put(fleet, phone)
    else:
        await _group(fleet, group, protected=how != "unmarked", deleted=how == "deleted")
    assert await _state(fleet, phone) == "held"
    fleet.clock.advance(_WAITS - timedelta(minutes=1))
    assert await _state(fleet, phone) == "held"
    # Telling it again does not make it longer.
    if how == "unmarked":
        await _group(fleet, group, protected=False)
    fleet.clock.advance(timedelta(minutes=2))
    assert await _state(fleet, phone) == "active"


async def test_taking_protection_away_is_an_alarm_and_giving_it_is_at_once(fleet: Fleet) -> None:
    phone = await fleet.enroll()
    group = uuid4()
    await _group(fleet, group, protected=False)
    await put(fleet, phone, group)
    assert await _state(fleet, phone) == "active"
    await _group(fleet, group, protected=True)
    assert await _state(fleet, phone) == "held"
    await _group(fleet, group, protected=False)
    alarms = [one for one in await fleet.events() if isinstance(one, GuardAlarmed)]
    assert [(one.kind, one.reason) for one in alarms if one.kind == "weakened"] == [
        ("weakened", "The group Board is to lose its protection")
    ]


async def test_out_of_an_unprotected_group_nothing_waits(fleet: Fleet) -> None:
    phone = await fleet.enroll()
    group = uuid4()
    await _group(fleet, group, protected=False)
    await put(fleet, phone, group)
    await put(fleet, phone)
    assert await _state(fleet, phone) == "active"
