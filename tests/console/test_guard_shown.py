"""The guard as people see it: alarms, what waits, what is frozen, who gets power; and the veto."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
from prometheus_client import REGISTRY

from shared.events import uuid7
from shared.events.commands import CommandClass, GuardAlarmed
from shared.runtime.testing import RecordedCalls
from tests.console.browsing import signed_in, words_of
from tests.console.fleet import START, Console

COMMANDS = "/api/v1/commands"
_AT = (START - timedelta(hours=1)).isoformat()


@pytest.fixture
def calls() -> RecordedCalls:
    return RecordedCalls()


def _guard(calls: RecordedCalls, **changes: Any) -> None:
    calls.answers["command_queue", f"{COMMANDS}/approvals?limit=50"] = {"items": [], "next": None}
    told: dict[str, Any] = {
        "held": 0,
        "freezes": [],
        "powers": [],
        "approvers": 2,
        "lifters": 2,
        "lifters_needed": 2,
    }
    calls.answers["command_queue", f"{COMMANDS}/guard"] = told | changes


def _power(**changes: Any) -> dict[str, Any]:
    power = {"name": "Mallory", "what": ["the right to approve", "a new key"], "counts_from": _AT}
    return {"account_id": str(uuid4()), **power, **changes}


def _freeze() -> dict[str, Any]:
    return {
        "freeze_id": str(uuid4()),
        "command_class": None,
        "before": None,
        "actor": "ada",
        "reason": "an incident",
        "created_at": _AT,
    }


@pytest.mark.parametrize("path", ["/", "/approvals"])
async def test_what_is_frozen_and_who_gets_power_stands_above_all(
    view: Console, calls: RecordedCalls, path: str
) -> None:
    _guard(calls, freezes=[_freeze()], powers=[_power()], lifters=1)
    owner = await signed_in(view.service, role="owner")
    words = words_of(await owner.get(path))
    assert "All commands are frozen by ada" in words
    assert "Mallory gets power over the guard : the right to approve, a new key" in words
    assert "lift" in words


async def test_the_overview_says_what_waits_and_what_was_alarming(
    view: Console, calls: RecordedCalls
) -> None:
    _guard(calls, held=3)
    alarm = GuardAlarmed(
        alarm_id=uuid7(),
        kind="held",
        actor="eve",
        reason="600 destructive targets",
        command_id=uuid7(),
        command_class=CommandClass.DESTRUCTIVE,
        target_count=600,
    )
    name, labels = "muster_console_guard_alarms_total", {"kind": "held"}
    before = REGISTRY.get_sample_value(name, labels)
    assert before is not None
    await view.service.hears(alarm, service="command_queue")
    assert REGISTRY.get_sample_value(name, labels) == before + 1, "whoever is on call hears of it"
    owner = await signed_in(view.service, role="owner")
    words = words_of(await owner.get("/"))
    assert "3 commands wait for approval Nothing is frozen." in words
    assert "Alarm: what eve asked for is held: 600 destructive targets" in words


async def test_it_is_said_when_the_guard_does_not_answer(
    view: Console, calls: RecordedCalls
) -> None:
    calls.failing.add("command_queue")
    owner = await signed_in(view.service, role="owner")
    answer = await owner.get("/")
    assert answer.status == 200
    assert "guards commands does not answer" in words_of(answer)


async def test_who_sees_no_commands_is_asked_nothing(view: Console, calls: RecordedCalls) -> None:
    browser = await signed_in(view.service, everywhere=["inventory.read"])
    assert "The guard" not in words_of(await browser.get("/"))
    assert calls.calls == []


async def test_who_sees_a_group_sees_what_waits_there_and_no_alarms(
    view: Console, calls: RecordedCalls
) -> None:
    _guard(calls, held=1)
    group = await view.group("Berlin")
    rights = ["inventory.read", "command.read"]
    browser = await signed_in(view.service, groups={group: rights})
    words = words_of(await browser.get("/"))
    assert "1 command waits for approval" in words
    assert "Alarms are of the whole fleet" in words


async def test_a_veto_is_passed_on_with_its_reason(view: Console, calls: RecordedCalls) -> None:
    power = _power()
    _guard(calls, powers=[power])
    owner = await signed_in(view.service, role="owner")
    await owner.get("/approvals")
    path = f"/approvals/powers/{power['account_id']}/veto"
    assert (await owner.post(path, {"reason": ""})).status == 422
    answer = await owner.post(path, {"reason": "who is that?"})
    assert answer.headers["Location"] == "/approvals"
    sent = [one for one in calls.calls if one[1] == "POST"]
    wanted = f"{COMMANDS}/powers/{power['account_id']}/veto"
    assert sent == [("command_queue", "POST", wanted, {"reason": "who is that?"})]
    auditor = await signed_in(view.service, everywhere=["command.read"])
    await auditor.get("/approvals")
    assert (await auditor.post(path, {"reason": "no"})).status == 403
    assert "guard.freeze on all devices" in words_of(await auditor.get("/approvals"))


async def test_no_alarm_is_buried_under_others(view: Console, calls: RecordedCalls) -> None:
    """What is refused is an alarm, too, and anybody may ask for it a hundred times."""
    _guard(calls)
    for number, kind in enumerate(["weakened", "push_certificate", *["refused"] * 20]):
        alarm = GuardAlarmed(alarm_id=uuid7(), kind=kind, actor="eve", reason=f"No. {number}.")
        await view.service.hears(alarm, service="command_queue")
    owner = await signed_in(view.service, role="owner")
    alarms = words_of(await owner.get("/")).partition("Alarms in 24 hours")[2]
    shown = re.findall(r"No\. ([0-9]+)\.", alarms.partition("What happened")[0])
    assert (len(shown), set(shown) & {"0", "1"}) == (7, {"0", "1"})
