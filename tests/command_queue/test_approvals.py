"""What is held runs by other people's keys alone, and only as it was when they signed."""

from __future__ import annotations

from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest

from shared.events.access import ApproverKey, HeldRole, LinkedIdentity
from shared.events.audit import AuditRecorded
from shared.events.commands import CommandReleased, GuardAlarmed
from shared.events.devices import Platform
from tests.command_queue.approving import API, RIGHTS, Person, aged, profile
from tests.command_queue.fleet import Fleet, Phone

_ONE = '[{"minutes": 10, "least": 1}]'
_MANY = '[{"minutes": 60, "least": 1000}]'


@pytest.fixture
def budgets() -> dict[str, str]:
    """One device a person; everybody together has room."""
    prefix = "MUSTER_COMMAND_QUEUE_DESTRUCTIVE_OF_"
    return {f"{prefix}ACTOR": _ONE, f"{prefix}ALL": _MANY}


async def _held(fleet: Fleet, *phones: Phone, actor: str = "eve", **fields: Any) -> str:
    body = {
        "kind": "device.erase",
        "device_ids": [str(phone.device_id) for phone in phones],
        "idempotency_key": str(uuid4()),
        "reason": "lost",
        **fields,
    }
    answer = await fleet.trial.call("POST", API, body, actor=actor)
    assert answer.json["state"] == "held", answer.body
    await fleet.job("expand targets")
    return str(answer.json["command_id"])


async def _state(fleet: Fleet, command_id: str) -> str:
    return str((await fleet.show(command_id))["state"])


async def _released(fleet: Fleet) -> None:
    while await fleet.trial.run_job("queue released targets"):
        pass


async def test_a_second_persons_key_lets_a_held_erase_run(fleet: Fleet) -> None:
    phones = await fleet.enroll(2)
    [ada] = await aged(fleet, 1)
    command_id = await _held(fleet, *phones)
    assert await phones[0].idle() is None
    offer = await ada.offer(command_id)
    assert (offer["command"]["needs"], offer["command"]["target_count"]) == (1, 2)
    answer = await ada.approve(command_id, offer)
    assert answer.status == 200, answer.body
    assert answer.json["released"], answer.body
    await _released(fleet)
    for phone in phones:
        given = await phone.idle()
        assert given is not None
        assert given.request_type == "EraseDevice"
    told = {one.device_id for one in await fleet.queued()}
    assert told == {phone.device_id for phone in phones}
    events = await fleet.events()
    [released] = [one for one in events if isinstance(one, CommandReleased)]
    assert released.approvers == [ada.actor]
    audited = [one.action for one in events if isinstance(one, AuditRecorded)]
    assert {"command.approve", "command.release"} <= set(audited)
    assert [row["targets"] for row in await fleet.rows("SELECT targets FROM charge")] == [2]
    assert await fleet.rows("SELECT FROM release") == []


async def test_what_was_not_expanded_yet_is_queued_like_any_other(fleet: Fleet) -> None:
    phones = await fleet.enroll(2)
    [ada] = await aged(fleet, 1)
    body = {
        "kind": "device.erase",
        "device_ids": [str(phone.device_id) for phone in phones],
        "idempotency_key": "one",
    }
    asked = (await fleet.trial.call("POST", API, body)).json
    assert (await ada.approve(asked["command_id"])).json["released"]
    await fleet.job("expand targets")
    await _released(fleet)
    assert await phones[1].idle() is not None


async def test_who_asked_does_not_approve(fleet: Fleet) -> None:
    phones = await fleet.enroll(2)
    [ada] = await aged(fleet, 1)
    command_id = await _held(fleet, *phones, actor=ada.actor)
    offer = await ada.offer(command_id)
    assert offer["options"] is None
    assert "asked for it" in offer["why_not"]
    assert (await ada.approve(command_id, offer)).status == 403
    assert await _state(fleet, command_id) == "held"


@pytest.mark.parametrize("young", ["role", "key", "account", "reset", "link", "heard", "disabled"])
async def test_new_power_waits(fleet: Fleet, young: str) -> None:
    phones = await fleet.enroll(2)
    [ada] = await aged(fleet, 1)
    now, old = fleet.clock.now(), ada.state()
    role = HeldRole(role_id="owner", permissions=RIGHTS, since=now)
    key = ApproverKey(**{**old.keys[0].model_dump(), "since": now})
    fields: dict[str, dict[str, Any]] = {
        "role": {"roles": [role]},
        "key": {"keys": [key]},
        "account": {"created_at": now},
        "reset": {"reset_at": now},
        "link": {"identities": [LinkedIdentity(provider_id=uuid4(), since=now)]},
        "heard": {},
        "disabled": {"disabled": True},
    }
    if young == "heard":
        # The console says that it is old; nobody has ever heard of it.
        ada = Person(fleet, now - timedelta(days=400))
    await ada.tell(**fields[young])
    command_id = await _held(fleet, *phones)
    assert (await ada.offer(command_id))["options"] is None
    assert (await ada.approve(command_id)).status == 403
    fleet.clock.advance(timedelta(hours=71))
    assert (await ada.approve(command_id)).status == 403
    fleet.clock.advance(timedelta(hours=2))
    released = (await ada.approve(command_id)).status == 200
    assert released is (young != "disabled")


async def test_the_set_up_owner_counts_as_aged_and_the_audit_says_so(fleet: Fleet) -> None:
    phones = await fleet.enroll(2)
    owner, other = Person(fleet, fleet.clock.now()), Person(fleet, fleet.clock.now())
    await owner.tell(set_up=True)
    await other.tell(set_up=True)
    command_id = await _held(fleet, *phones)
    assert (await other.approve(command_id)).status == 403
    assert (await owner.approve(command_id)).json["released"]
    after = [
        one.after
        for one in await fleet.events()
        if isinstance(one, AuditRecorded) and one.action == "command.approve"
    ]
    assert [one and one.get("aged_by") for one in after] == ["set-up"]


async def test_a_key_that_the_set_up_owner_adds_later_is_new_power(fleet: Fleet) -> None:
    phones = await fleet.enroll(2)
    owner = Person(fleet, fleet.clock.now())
    await owner.tell(set_up=True)
    fleet.clock.advance(timedelta(hours=2))
    thief = Person(fleet, fleet.clock.now(), account_id=owner.account_id)
    both = [*owner.state().keys, *thief.state().keys]
    await owner.tell(set_up=True, keys=both)
    command_id = await _held(fleet, *phones)
    offer = await owner.offer(command_id)
    assert (await thief.approve(command_id, offer)).status == 403
    assert (await owner.approve(command_id, offer)).json["released"]


async def test_only_the_very_assertion_counts(fleet: Fleet) -> None:
    phones = await fleet.enroll(4)
    ada, bob = await aged(fleet, 2)
    command_id, other = await _held(fleet, *phones[:2]), await _held(fleet, *phones[2:])
    offer = await ada.offer(command_id)
    stranger = Person(fleet, ada.since, account_id=ada.account_id)
    assert (await stranger.approve(command_id, offer)).status == 403
    assert (
        await bob.approve(command_id, offer, credential=ada.key.get(offer["options"]))
    ).status == 403
    assert (await ada.approve(other, offer)).status == 403
    later = (fleet.clock.now() + timedelta(hours=25)).isoformat()
    assert (await ada.approve(command_id, offer, approval_expires_at=later)).status == 403
    for name, value in (("origin", "http://evil"), ("host", "evil"), ("verifies", False)):
        kept = getattr(ada.key, name)
        setattr(ada.key, name, value)
        assert (await ada.approve(command_id, offer)).status == 403, name
        setattr(ada.key, name, kept)
    ada.via = "token:one"
    assert (await ada.approve(command_id, offer)).status == 403
    ada.via = "session:one"
    fleet.clock.advance(timedelta(hours=25))
    assert (await ada.approve(command_id, offer)).status == 403
    assert await _state(fleet, command_id) == "held"


async def test_an_assertion_is_no_use_twice(fleet: Fleet) -> None:
    phones = await fleet.enroll(2)
    [ada] = await aged(fleet, 1)
    command_id = await _held(fleet, *phones)
    await fleet.rows("UPDATE holding SET needs = 2")
    offer = await ada.offer(command_id)
    signed = ada.key.get(offer["options"])
    first = await ada.approve(command_id, offer, credential=signed)
    assert (first.json["given"], first.json["released"]) == (1, False)
    assert (await ada.approve(command_id, offer, credential=signed)).status == 403
    again = await ada.approve(command_id)
    assert (again.json["given"], again.json["released"]) == (1, False)


async def _three(fleet: Fleet) -> tuple[list[Person], str, list[Phone]]:
    phones = await fleet.enroll(2)
    people = await aged(fleet, 3)
    command_id = await _held(fleet, *phones)
    return people, command_id, phones


class TestBeyondEverybodysBudget:
    @pytest.fixture
    def budgets(self) -> dict[str, str]:
        prefix = "MUSTER_COMMAND_QUEUE_DESTRUCTIVE_OF_"
        return {f"{prefix}ACTOR": _MANY, f"{prefix}ALL": _ONE}

    async def test_it_takes_three_and_a_day(self, fleet: Fleet) -> None:
        people, command_id, phones = await _three(fleet)
        fleet.clock.advance(timedelta(hours=1))
        for number, person in enumerate(people, 1):
            given = (await person.approve(command_id)).json
            assert (given["given"], given["needs"], given["released"]) == (number, 3, False)
        fleet.clock.advance(timedelta(hours=22))
        await fleet.trial.run_job("release approved commands")
        assert await _state(fleet, command_id) == "held"
        fleet.clock.advance(timedelta(hours=1, minutes=30))
        await fleet.trial.run_job("release approved commands")
        assert await _state(fleet, command_id) == "active"
        await _released(fleet)
        assert await phones[0].idle() is not None

    @pytest.mark.parametrize("lost", ["right", "key", "disabled", "reset"])
    async def test_who_may_no_more_when_it_begins_does_not_count(
        self, fleet: Fleet, lost: str
    ) -> None:
        people, command_id, _ = await _three(fleet)
        fleet.clock.advance(timedelta(hours=1))
        for person in people:
            await person.approve(command_id)
        fields: dict[str, dict[str, Any]] = {
            "right": {"roles": []},
            "key": {"keys": []},
            "disabled": {"disabled": True},
            "reset": {"reset_at": fleet.clock.now()},
        }
        await people[1].tell(**fields[lost])
        fleet.clock.advance(timedelta(hours=23, minutes=30))
        await fleet.trial.run_job("release approved commands")
        assert await _state(fleet, command_id) == "held"

    @pytest.mark.parametrize(
        "change",
        [
            None,
            "UPDATE command SET body = body || 'x'",
            "UPDATE command SET body = 'x', secret = false",
            "UPDATE command SET reason = 'another'",
            "UPDATE command SET actor = 'another'",
            "UPDATE pending SET device_id = gen_random_uuid()",
            "UPDATE pending SET body = 'x'",
            "UPDATE channel SET kind = 'user'",
            "UPDATE holding SET device_ids = device_ids[1:1]",
            "UPDATE holding SET content = sha256('x')",
            "UPDATE approver_key SET public_key = 'x', credential_id = credential_id || 'x'",
        ],
    )
    async def test_what_changed_since_does_not_run(self, fleet: Fleet, change: str | None) -> None:
        people, command_id, _ = await _three(fleet)
        fleet.clock.advance(timedelta(hours=1))
        for person in people:
            await person.approve(command_id)
        if change:
            await fleet.rows(change)
        fleet.clock.advance(timedelta(hours=23, minutes=30))
        await fleet.trial.run_job("release approved commands")
        assert await _state(fleet, command_id) == ("held" if change else "active")


class TestOthersSpendMeanwhile:
    @pytest.fixture
    def budgets(self) -> dict[str, str]:
        prefix = "MUSTER_COMMAND_QUEUE_DESTRUCTIVE_OF_"
        return {f"{prefix}ACTOR": _ONE, f"{prefix}ALL": '[{"minutes": 60, "least": 3}]'}

    async def test_then_one_approver_is_not_enough_any_more(self, fleet: Fleet) -> None:
        phones = await fleet.enroll(4)
        people = await aged(fleet, 3)
        command_id = await _held(fleet, *phones[:2])
        assert (await people[0].offer(command_id))["command"]["needs"] == 1
        for phone, actor in zip(phones[2:], ("bob", "cleo"), strict=True):
            body = {
                "kind": "device.erase",
                "device_ids": [str(phone.device_id)],
                "idempotency_key": "k",
            }
            asked = await fleet.trial.call("POST", API, body, actor=actor)
            assert asked.json["state"] == "active"
        given = (await people[0].approve(command_id)).json
        assert (given["released"], given["needs"]) == (False, 3)
        for person in people[1:]:
            assert not (await person.approve(command_id)).json["released"]
        assert await _state(fleet, command_id) == "held"
        alarms = [one for one in await fleet.events() if isinstance(one, GuardAlarmed)]
        assert len([one for one in alarms if str(one.command_id) == command_id]) == 2


async def test_a_users_channel_is_part_of_what_is_signed(fleet: Fleet) -> None:
    users = {"u": uuid4(), "v": uuid4()}
    mac = await fleet.enroll(platform=Platform.MACOS, users=users)
    [ada] = await aged(fleet, 1)
    command_id = await _held(
        fleet,
        mac,
        kind="configuration.install",
        params=profile("com.apple.never.heard.of"),
        channel_ids=[str(users["u"])],
    )
    before = (await ada.offer(command_id))["digest"]
    swap = "UPDATE pending SET channel_id = $2 WHERE channel_id = $1"
    await fleet.rows(swap, users["u"], users["v"])
    assert not (await ada.approve(command_id)).json["released"]
    await fleet.rows(swap, users["v"], users["u"])
    assert (await ada.approve(command_id)).json["released"]
    await fleet.rows("UPDATE command SET state = 'held'")
    await fleet.rows("UPDATE holding SET channel_ids = ARRAY[NULL, $1::uuid]", users["v"])
    assert (await ada.offer(command_id))["digest"] != before


async def test_one_refuses_and_it_ends(fleet: Fleet) -> None:
    phones = await fleet.enroll(2)
    [ada] = await aged(fleet, 1)
    command_id = await _held(fleet, *phones)
    assert (await ada.reject(command_id)).json == {"rejected": True}
    assert (
        await ada.approve(
            command_id,
            {"options": None, "approval_expires_at": fleet.clock.now() + timedelta(hours=1)},
        )
    ).status == 404
    await fleet.job("sweep ended commands")
    assert {one.reason for one in await fleet.finished()} == {"refused: no"}


async def test_a_profile_that_takes_over_is_let_run_by_nobody(fleet: Fleet) -> None:
    phone = await fleet.enroll()
    [ada] = await aged(fleet, 1)
    params = profile("com.apple.mdm")
    command_id = await _held(fleet, phone, kind="configuration.install", params=params)
    assert (await ada.offer(command_id))["options"] is None
    assert (await ada.approve(command_id)).status == 403


async def test_the_right_must_reach_every_device(fleet: Fleet) -> None:
    phones = await fleet.enroll(2)
    ada = Person(fleet, fleet.clock.now())
    group = uuid4()
    role = HeldRole(role_id="x", permissions=RIGHTS, group_id=group, since=ada.since)
    await ada.tell(roles=[role])
    fleet.clock.advance(timedelta(hours=73))
    command_id = await _held(fleet, *phones)
    assert "reach" in (await ada.offer(command_id))["why_not"]
    assert (await ada.approve(command_id)).status == 403
    await fleet.rows(
        f"INSERT INTO device_scope SELECT device_id, 1, ARRAY['{group}'::uuid] FROM device"
    )
    assert (await ada.approve(command_id)).json["released"]


async def test_people_see_what_waits(fleet: Fleet) -> None:
    phones = await fleet.enroll(2)
    command_id = await _held(fleet, *phones)
    answer = await fleet.trial.call("GET", f"{API}/approvals")
    [item] = answer.json["items"]
    assert (item["command_id"], item["needs"], item["given"]) == (command_id, 1, 0)
