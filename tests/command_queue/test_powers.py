"""New power is told when it is heard of, and vetoed before it counts; what is old stays."""

from __future__ import annotations

from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest

from shared.events.access import ApproverKey, HeldRole, LinkedIdentity
from shared.events.audit import AuditRecorded
from shared.events.commands import GuardAlarmed
from shared.runtime.testing import Answer
from tests.command_queue.approving import API, RIGHTS, Person, aged
from tests.command_queue.fleet import Fleet

_OLD = timedelta(hours=73)


@pytest.fixture
def budgets() -> dict[str, str]:
    return {"MUSTER_COMMAND_QUEUE_DESTRUCTIVE_OF_ACTOR": '[{"minutes": 10, "least": 0}]'}


async def _held(fleet: Fleet) -> str:
    phone = await fleet.enroll()
    asked = await fleet.ask(phone, kind="device.erase")
    assert asked["state"] == "held"
    return str(asked["command_id"])


async def _may(fleet: Fleet, person: Person) -> bool:
    return (await person.offer(await _held(fleet)))["options"] is not None


async def _alarms(fleet: Fleet, kind: str) -> list[GuardAlarmed]:
    return [
        one for one in await fleet.events() if isinstance(one, GuardAlarmed) and one.kind == kind
    ]


async def _veto(fleet: Fleet, person: Person, **who: Any) -> Answer:
    who = {"via": "session:one", "actor": "dora", "permissions": ["guard.freeze"], **who}
    body = {"reason": "who is that?"}
    return await fleet.trial.call("POST", f"{API}/powers/{person.account_id}/veto", body, **who)


async def _young(fleet: Fleet) -> list[Any]:
    answer = await fleet.trial.call("GET", f"{API}/powers")
    assert answer.status == 200, answer.body
    return list(answer.json["items"])


def _changes(person: Person) -> dict[str, dict[str, Any]]:
    """What makes a person of old young again."""
    now, old = person.fleet.clock.now(), person.state()
    extra = ApproverKey(
        passkey_id=uuid4(),
        credential_id=uuid4().bytes,
        public_key=old.keys[0].public_key,
        since=now,
    )
    return {
        "role": {"roles": [*old.roles, _role(group_id=uuid4(), since=now)]},
        "key": {"keys": [*old.keys, extra]},
        "reset": {"reset_at": now},
        "link": {"identities": [LinkedIdentity(provider_id=uuid4(), since=now)]},
        "back-dated": {"reset_at": now - timedelta(days=400)},
    }


def _role(**fields: Any) -> HeldRole:
    return HeldRole(role_id="approver", permissions=RIGHTS, **fields)


async def test_a_new_approver_is_told_once_with_when_it_counts(fleet: Fleet) -> None:
    ada = Person(fleet, fleet.clock.now())
    await ada.tell()
    fleet.clock.advance(timedelta(seconds=1))
    await ada.tell()
    [alarm] = await _alarms(fleet, "empowered")
    assert alarm.account_id == ada.account_id
    assert alarm.reason == "Ada gets the right to approve, the right to lift freezes, a new key"
    assert alarm.counts_from == ada.since + timedelta(hours=72)
    [young] = await _young(fleet)
    assert young["account_id"] == str(ada.account_id)
    fleet.clock.advance(_OLD)
    assert await _young(fleet) == []
    assert await _may(fleet, ada)


@pytest.mark.parametrize("change", ["role", "key", "reset", "link", "back-dated"])
async def test_what_makes_somebody_young_is_told(fleet: Fleet, change: str) -> None:
    [ada] = await aged(fleet, 1)
    before = len(await _alarms(fleet, "empowered"))
    await ada.tell(**_changes(ada)[change])
    assert len(await _alarms(fleet, "empowered")) == before + 1
    assert len(await _young(fleet)) == 1


async def test_enabled_again_is_new_power(fleet: Fleet) -> None:
    [ada] = await aged(fleet, 1)
    await ada.tell(disabled=True)
    await ada.tell()
    assert not await _may(fleet, ada)
    assert len(await _alarms(fleet, "empowered")) == 2
    fleet.clock.advance(_OLD)
    assert await _may(fleet, ada)


async def test_a_console_that_back_dates_a_reset_makes_nobody_older(fleet: Fleet) -> None:
    [ada] = await aged(fleet, 1)
    assert await _may(fleet, ada)
    await ada.tell(**_changes(ada)["back-dated"])
    assert not await _may(fleet, ada)
    await ada.tell()
    assert not await _may(fleet, ada)
    fleet.clock.advance(_OLD)
    assert await _may(fleet, ada)


async def test_a_console_that_says_the_set_up_was_today_ages_no_key(fleet: Fleet) -> None:
    owner = Person(fleet, fleet.clock.now())
    await owner.tell(set_up=True)
    fleet.clock.advance(timedelta(days=10))
    now = fleet.clock.now()
    thief = Person(fleet, now, account_id=owner.account_id)
    await thief.tell(set_up=True, created_at=now)
    assert not await _may(fleet, thief)


async def test_who_holds_no_right_is_no_news(fleet: Fleet) -> None:
    ada = Person(fleet, fleet.clock.now())
    await ada.tell(roles=[])
    assert await _alarms(fleet, "empowered") == []
    await ada.tell()
    assert len(await _alarms(fleet, "empowered")) == 1


async def test_the_set_up_itself_is_no_alarm_and_what_comes_later_is(fleet: Fleet) -> None:
    owner = Person(fleet, fleet.clock.now())
    await owner.tell(set_up=True, keys=[])
    await owner.tell(set_up=True)
    assert await _alarms(fleet, "empowered") == []
    assert await _young(fleet) == []
    await owner.tell(set_up=True, reset_at=fleet.clock.now())
    assert len(await _alarms(fleet, "empowered")) == 1


@pytest.mark.parametrize("change", ["role", "key", "reset", "link"])
async def test_what_was_vetoed_never_counts(fleet: Fleet, change: str) -> None:
    [ada] = await aged(fleet, 1)
    if change == "role":
        # All that she holds is new: what is old stays, see below.
        ada = Person(fleet, fleet.clock.now())
    changes = {} if change == "role" else _changes(ada)[change]
    await ada.tell(**changes)
    answer = await _veto(fleet, ada)
    assert answer.status == 200, answer.body
    fleet.clock.advance(_OLD)
    await ada.tell(**changes)
    assert await _young(fleet) == []
    assert await _may(fleet, ada) is (change == "key")
    [alarm] = await _alarms(fleet, "vetoed")
    assert (alarm.actor, alarm.account_id) == ("dora", ada.account_id)
    audited = [one.action for one in await fleet.events() if isinstance(one, AuditRecorded)]
    assert "guard.veto" in audited


async def test_a_vetoed_key_does_not_sign_and_an_old_one_does(fleet: Fleet) -> None:
    [ada] = await aged(fleet, 1)
    thief = Person(fleet, fleet.clock.now(), account_id=ada.account_id)
    both = [*ada.state().keys, *thief.state().keys]
    await ada.tell(keys=both)
    assert (await _veto(fleet, ada)).status == 200
    fleet.clock.advance(_OLD)
    await ada.tell(keys=both)
    command_id = await _held(fleet)
    offer = await ada.offer(command_id)
    assert (await thief.approve(command_id, offer)).status == 403
    assert (await ada.approve(command_id, offer)).json["released"]


@pytest.mark.parametrize("given", ["role", "reset"])
async def test_power_that_was_vetoed_is_given_anew_and_waits_anew(fleet: Fleet, given: str) -> None:
    [ada] = await aged(fleet, 1)
    if given == "role":
        ada = Person(fleet, fleet.clock.now())
        await ada.tell()
    else:
        await ada.tell(reset_at=fleet.clock.now())
    await _veto(fleet, ada)
    fleet.clock.advance(_OLD)
    if given == "role":
        await ada.tell(roles=[], keys=[])
        await ada.tell()
    else:
        await ada.tell(reset_at=fleet.clock.now())
    assert not await _may(fleet, ada)
    assert len(await _young(fleet)) == 1
    fleet.clock.advance(_OLD)
    assert await _may(fleet, ada)


async def test_old_power_cannot_be_vetoed_nor_by_whoever_likes(fleet: Fleet) -> None:
    [ada] = await aged(fleet, 1)
    assert (await _veto(fleet, ada)).json["code"] == "new_power_unknown"
    bob = Person(fleet, fleet.clock.now())
    await bob.tell()
    assert (await _veto(fleet, bob, via="token:one")).status == 403
    assert (await _veto(fleet, bob, permissions=["command.approve"])).status == 403
    groups = {uuid4(): ["guard.freeze"]}
    assert (await _veto(fleet, bob, permissions=[], groups=groups)).status == 403
    assert await _may(fleet, ada)
    assert len(await _young(fleet)) == 1


async def _guard(fleet: Fleet, **who: Any) -> Any:
    answer = await fleet.trial.call("GET", f"{API}/guard", **who)
    assert answer.status == 200, answer.body
    return answer.json


async def test_how_the_guard_stands(fleet: Fleet) -> None:
    await aged(fleet, 1)
    bob = Person(fleet, fleet.clock.now())
    await bob.tell()
    await _held(fleet)
    await fleet.trial.call("POST", f"{API}/freeze", {"reason": "look"})
    found = await _guard(fleet)
    assert (found["held"], found["approvers"], found["lifters"]) == (1, 1, 1)
    assert [one["reason"] for one in found["freezes"]] == ["look"]
    assert [one["account_id"] for one in found["powers"]] == [str(bob.account_id)]
    fleet.clock.advance(_OLD)
    found = await _guard(fleet)
    assert (found["lifters"], found["lifters_needed"], found["powers"]) == (2, 2, [])
    groups = {uuid4(): ["command.read"]}
    seen = await _guard(fleet, permissions=[], groups=groups)
    assert (seen["held"], seen["freezes"], seen["powers"]) == (0, [], [])


@pytest.mark.parametrize("part", ["client_data", "authenticator_data", "signature"])
async def test_the_signature_is_verified_again_when_the_command_begins(
    fleet: Fleet, part: str
) -> None:
    ada, bob = await aged(fleet, 2)
    command_id = await _held(fleet)
    await fleet.rows("UPDATE holding SET needs = 2")
    assert (await ada.approve(command_id)).json["given"] == 1
    # Somebody writes into the table: the digest stays what it was.
    await fleet.rows(f"UPDATE approval SET {part} = set_byte({part}, 35, get_byte({part}, 35) # 1)")
    assert (await bob.approve(command_id)).json == {
        "released": False,
        "given": 1,
        "needs": 2,
        "not_before": (await bob.offer(command_id))["command"]["not_before"],
    }


async def test_an_approval_without_a_signature_is_none(fleet: Fleet) -> None:
    ada, bob = await aged(fleet, 2)
    command_id, other = await _held(fleet), await _held(fleet)
    await fleet.rows("UPDATE holding SET needs = 2")
    for one in (command_id, other):
        assert (await ada.approve(one)).json["given"] == 1
    # Ada's word in Bob's name.
    forged = "UPDATE approval SET account_id = $1, credential_id = $2 WHERE subject_id = $3"
    await fleet.rows(forged, bob.account_id, bob.key.credential_id, command_id)
    assert (await ada.offer(command_id))["given"] == []
    # Her word for one command under another.
    moved = "UPDATE approval SET subject_id = $1 WHERE subject_id = $2"
    await fleet.rows("DELETE FROM approval WHERE subject_id = $1", command_id)
    await fleet.rows(moved, command_id, other)
    assert (await ada.offer(command_id))["given"] == []


@pytest.mark.parametrize("who", ["made today", "unknown", "reset", "old", "a service's token"])
async def test_what_a_newcomer_asks_for_takes_two_approvers(fleet: Fleet, who: str) -> None:
    """Else whoever can make accounts asks by one of them and approves by their own."""
    ada, bob, cleo = await aged(fleet, 3)
    mallory = Person(fleet, fleet.clock.now())
    if who == "made today":
        await mallory.tell(roles=[], keys=[])
    elif who == "reset":
        await cleo.tell(reset_at=fleet.clock.now())
    actors = {"reset": cleo.actor, "old": cleo.actor, "a service's token": "user:operator"}
    phone = await fleet.enroll()
    body = {"kind": "device.erase", "device_ids": [str(phone.device_id)], "idempotency_key": "k"}
    answer = await fleet.trial.call("POST", API, body, actor=actors.get(who, mallory.actor))
    command_id = answer.json["command_id"]
    needs = 1 if who in {"old", "a service's token"} else 2
    assert ("less than three days" in answer.json["hold_reason"]) is (needs == 2)
    first = (await ada.approve(command_id)).json
    assert (first["needs"], first["released"]) == (needs, needs == 1)
    if needs == 2:
        assert (await bob.approve(command_id)).json["released"]
