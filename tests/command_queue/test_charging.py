"""What harms and is no command spends the same budgets; what nobody asked for is an alarm."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import pytest

from shared.events.commands import GuardAlarmed
from shared.events.groups import GroupState
from shared.events.pushes import PushCertificateChanged
from shared.runtime.testing import Answer
from tests.command_queue.fleet import Fleet, Phone
from tests.command_queue.test_scopes import put

PATH = "/internal/v1/commands/charge"


@pytest.fixture
def budgets() -> dict[str, str]:
    return {}


async def _charge(fleet: Fleet, *phones: Phone, **fields: Any) -> Answer:
    body = {
        "charge_id": str(uuid4()),
        "what": "ending an enrollment",
        "actor": "ada",
        "command_class": "destructive",
        "device_ids": [str(phone.device_id) for phone in phones],
        **fields,
    }
    return await fleet.trial.call("POST", PATH, body, as_service="enrollment")


async def _alarms(fleet: Fleet, kind: str) -> list[GuardAlarmed]:
    return [
        one for one in await fleet.events() if isinstance(one, GuardAlarmed) and one.kind == kind
    ]


async def test_commands_and_other_acts_spend_one_budget(fleet: Fleet) -> None:
    phones = await fleet.enroll(4)
    assert (await _charge(fleet, phones[0])).json == {"refused": None}
    assert (await fleet.ask(phones[1], kind="device.erase"))["state"] == "active"
    assert (await fleet.ask(phones[2], kind="device.erase"))["state"] == "held"
    refused = await _charge(fleet, phones[3])
    assert "2 of 2 of the installation's budget for one hour" in refused.json["refused"]
    [alarm] = await _alarms(fleet, "refused")
    assert (alarm.actor, alarm.about) == ("ada", phones[3].device_id)
    assert alarm.reason.startswith("ending an enrollment: ")
    assert [row["targets"] for row in await fleet.rows("SELECT targets FROM charge")] == [1, 1]


async def test_the_same_act_is_charged_once(fleet: Fleet) -> None:
    phone = await fleet.enroll()
    charge_id = str(uuid4())
    for _ in range(5):
        answer = await _charge(fleet, phone, charge_id=charge_id)
        assert answer.json == {"refused": None}
    assert len(await fleet.rows("SELECT FROM charge")) == 1


async def test_a_protected_device_is_ended_by_nobody(fleet: Fleet) -> None:
    phone, group = await fleet.enroll(), uuid4()
    event = GroupState(group_id=group, name="Board", protected=True)
    await fleet.trial.hears(event, service="inventory")
    await put(fleet, phone, group)
    assert "protected" in (await _charge(fleet, phone)).json["refused"]


async def test_only_enrollment_may_ask(fleet: Fleet) -> None:
    phone = await fleet.enroll()
    body = {
        "charge_id": str(uuid4()),
        "what": "x",
        "actor": "ada",
        "command_class": "destructive",
        "device_ids": [str(phone.device_id)],
    }
    for service in ("inventory", "console"):
        answer = await fleet.trial.call("POST", PATH, body, as_service=service)
        assert answer.status == 401


@pytest.mark.parametrize(
    ("state", "generation", "alarms"),
    [("ended", 1, 1), ("reauthenticated", 2, 1), ("revoked", 1, 0), ("quarantined", 1, 0)],
)
async def test_who_leaves_unasked_is_an_alarm_once(
    fleet: Fleet, state: str, generation: int, alarms: int
) -> None:
    phone = await fleet.enroll()
    for _ in range(2):
        assert (await fleet.fence(phone, generation, state)).status == 200
    found = await _alarms(fleet, "unasked")
    assert [one.about for one in found] == [phone.device_id] * alarms


@pytest.mark.parametrize("answered", [False, True])
@pytest.mark.parametrize("what", ["erase", "remove"])
async def test_who_was_asked_to_leave_is_none(fleet: Fleet, what: str, *, answered: bool) -> None:
    phone = await fleet.enroll()
    if what == "erase":
        await fleet.ask(phone, kind="device.erase")
    else:
        params = {"identifier": "org.muster.enrollment"}
        await fleet.ask(phone, kind="configuration.remove", params=params)
    given = await phone.idle()
    assert given is not None
    if answered:
        await phone.say("Acknowledged", given.command_uuid)
    assert (await fleet.fence(phone, 1, "ended")).status == 200
    assert await _alarms(fleet, "unasked") == []


@pytest.mark.parametrize("why", ["failed", "not handed out", "another command"])
async def test_asking_alone_explains_nothing(fleet: Fleet, why: str) -> None:
    phone = await fleet.enroll()
    kind = "device.restart" if why == "another command" else "device.erase"
    await fleet.ask(phone, kind=kind)
    if why != "not handed out":
        given = await phone.idle()
        assert given is not None
        status = "Error" if why == "failed" else "Acknowledged"
        await phone.say(status, given.command_uuid)
    await fleet.fence(phone, 1, "ended")
    assert len(await _alarms(fleet, "unasked")) == 1


async def test_what_is_about_no_device_by_name_counts_as_one(fleet: Fleet) -> None:
    assert (await _charge(fleet, device_ids=[])).json == {"refused": None}
    assert [row["targets"] for row in await fleet.rows("SELECT targets FROM charge")] == [1]


async def test_a_push_certificate_that_takes_the_place_of_another_is_an_alarm(fleet: Fleet) -> None:
    def changed(former: str | None, topic: str) -> PushCertificateChanged:
        return PushCertificateChanged(
            topic=topic,
            fingerprint="ab",
            not_after=fleet.clock.now(),
            former_topic=former,
            by="account:eve",
        )

    for event in (changed(None, "a"), changed("a", "a"), changed("a", "b")):
        await fleet.trial.hears(event, service="push_notifier")
    alarms = await _alarms(fleet, "push_certificate")
    assert [(one.actor, one.reason) for one in alarms] == [
        ("account:eve", "Devices of its topic are woken by it from now on"),
        ("account:eve", "New devices are enrolled under b, no longer under a"),
    ]
