"""Whoever may freeze stops everything at once; letting go again takes two people with keys."""

from __future__ import annotations

from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest

from shared.events.access import HeldRole
from shared.events.audit import AuditRecorded
from shared.events.commands import CommandCancelled, GuardAlarmed, TargetState
from tests.command_queue.approving import API, RIGHTS, Person, aged
from tests.command_queue.fleet import Fleet


async def _freeze(fleet: Fleet) -> str:
    answer = await fleet.trial.call("POST", f"{API}/freeze", {"reason": "an incident"})
    assert answer.status == 201, answer.body
    return str(answer.json["freeze_id"])


async def _standing(fleet: Fleet) -> list[str]:
    answer = await fleet.trial.call("GET", f"{API}/freeze")
    return [one["freeze_id"] for one in answer.json["items"]]


async def test_two_keys_lift_a_freeze_and_all_is_told(fleet: Fleet) -> None:
    phone = await fleet.enroll()
    ada, bob = await aged(fleet, 2)
    await fleet.ask(phone)
    freeze_id = await _freeze(fleet)
    assert (await ada.lift(freeze_id)).json == {"lifted": False, "given": 1, "needs": 2}
    # The same person twice is one.
    assert (await ada.lift(freeze_id)).json["given"] == 1
    assert await phone.idle() is None
    assert (await bob.lift(freeze_id)).json["lifted"]
    assert await phone.idle() is not None
    assert await _standing(fleet) == []
    events = await fleet.events()
    told = [one.kind for one in events if isinstance(one, GuardAlarmed)]
    assert [one for one in told if one != "empowered"] == ["frozen", "lifted"]
    audited = [one.action for one in events if isinstance(one, AuditRecorded)]
    assert audited[-2:] == ["guard.unfreeze", "guard.lifted"]
    assert (
        await ada.lift(freeze_id, {"approval_expires_at": _later(fleet), "options": None})
    ).json["code"] == "freeze_unknown"


def _later(fleet: Fleet) -> str:
    return (fleet.clock.now() + timedelta(hours=1)).isoformat()


@pytest.mark.parametrize("fault", ["young", "group", "token", "keyless", "no right", "stranger"])
async def test_who_does_not_count(fleet: Fleet, fault: str) -> None:
    ada, bob = await aged(fleet, 2)
    freeze_id = await _freeze(fleet)
    assert (await ada.lift(freeze_id)).json["given"] == 1
    match fault:
        case "young":
            bob = Person(fleet, fleet.clock.now())
            await bob.tell()
        case "group":
            held = HeldRole(role_id="x", permissions=RIGHTS, group_id=uuid4(), since=bob.since)
            await bob.tell(roles=[held])
            fleet.clock.advance(timedelta(hours=73))
            await ada.lift(freeze_id)
        case "token":
            bob.via = "token:one"
        case "keyless":
            await bob.tell(keys=[])
        case "no right":
            await bob.tell(roles=[])
        case "stranger":
            bob = Person(fleet, bob.since, account_id=bob.account_id)
        case _:
            pytest.fail(fault)
    assert (await bob.lift(freeze_id)).status == 403
    assert await _standing(fleet) == [freeze_id]


async def test_a_word_for_one_freeze_is_none_for_another_nor_for_a_command(fleet: Fleet) -> None:
    ada, bob = await aged(fleet, 2)
    one, other = await _freeze(fleet), await _freeze(fleet)
    assert (await ada.lift(one)).json["given"] == 1
    offer = (await bob._call("GET", f"{API}/freeze/{one}/lift")).json
    assert (await bob.lift(other, offer)).status == 403
    assert (await bob.lift(one, offer)).json["lifted"]
    assert await _standing(fleet) == [other]


async def test_who_loses_the_right_counts_no_more(fleet: Fleet) -> None:
    ada, bob = await aged(fleet, 2)
    freeze_id = await _freeze(fleet)
    await ada.lift(freeze_id)
    await ada.tell(disabled=True)
    assert (await bob.lift(freeze_id)).json == {"lifted": False, "given": 1, "needs": 2}


async def test_a_word_runs_out_after_a_day(fleet: Fleet) -> None:
    ada, bob = await aged(fleet, 2)
    freeze_id = await _freeze(fleet)
    await ada.lift(freeze_id)
    fleet.clock.advance(timedelta(hours=24, minutes=1))
    assert (await bob.lift(freeze_id)).json["given"] == 1


async def test_cancel_all_acts_at_once_and_spares_what_comes_later(fleet: Fleet) -> None:
    phone, other = await fleet.enroll(2)
    first = [await fleet.ask(phone), await fleet.ask(other, kind="device.restart")]
    unexpanded = await fleet.ask(other, expand=False)
    fleet.clock.advance(timedelta(seconds=1))
    answer = await _cancel_all(fleet)
    assert answer.status == 202, answer.body
    assert [await phone.idle(), await other.idle()] == [None, None]
    fleet.clock.advance(timedelta(seconds=1))
    later = await fleet.ask(phone)
    assert [one.command_uuid for one in await phone.drain()] == [later["command_id"]]
    await fleet.job("sweep ended commands")
    events = await fleet.events()
    cancelled = {str(one.command_id) for one in events if isinstance(one, CommandCancelled)}
    assert cancelled == {one["command_id"] for one in [*first, unexpanded]}
    ends = {str(one.command_id): one.state for one in await fleet.finished()}
    assert ends.pop(later["command_id"]) is TargetState.ACKNOWLEDGED
    assert set(ends.values()) == {TargetState.CANCELLED}
    [alarm] = [one for one in events if isinstance(one, GuardAlarmed)]
    assert (alarm.kind, alarm.reason) == ("cancelled", "stop")
    assert "command.cancel_all" in [e.action for e in events if isinstance(e, AuditRecorded)]
    # Until what was on its way has arrived; then it is over.
    assert len(await _open(fleet)) == 1
    fleet.clock.advance(timedelta(minutes=2))
    await fleet.job("sweep ended commands")
    assert await _open(fleet) == []


async def test_cancel_all_of_a_class_spares_the_others_and_is_no_freeze(fleet: Fleet) -> None:
    phone = await fleet.enroll()
    [ada] = await aged(fleet, 1)
    await fleet.ask(phone, kind="device.restart")
    harmless = await fleet.ask(phone)
    fleet.clock.advance(timedelta(seconds=1))
    cancel_id = (await _cancel_all(fleet, command_class="disruptive")).json["cancel_id"]
    assert [one.command_uuid for one in await phone.drain()] == [harmless["command_id"]]
    assert await _standing(fleet) == []
    offer = {"approval_expires_at": _later(fleet), "options": None}
    assert (await ada.lift(cancel_id, offer)).status == 404


async def _cancel_all(fleet: Fleet, **fields: Any) -> Any:
    body = {"reason": "stop", **fields}
    return await fleet.trial.call("POST", f"{API}/cancel-all", body)


async def _open(fleet: Fleet) -> list[Any]:
    return await fleet.rows("SELECT FROM command_freeze WHERE lifted_at IS NULL")
