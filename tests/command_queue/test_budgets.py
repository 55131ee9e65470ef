"""What may be harmed in a while: by one person, by everybody, by any path, however it is split."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest

from services.command_queue.settings import Window
from shared.bus import apply
from shared.bus.testing import travelled
from shared.events.commands import CommandRequested, GuardAlarmed, TargetState
from tests.command_queue.fleet import Fleet, Phone

API = "/api/v1/commands"


@pytest.fixture
def budgets() -> dict[str, str]:
    return {}


async def _fleet_of(fleet: Fleet, devices: int) -> None:
    """As if so many devices had been seen of late."""
    await fleet.trial.context.pool.execute(
        "INSERT INTO presence (device_id, last_seen_at)"
        " SELECT gen_random_uuid(), $1 FROM generate_series(1, $2)",
        fleet.clock.now(),
        devices,
    )
    await fleet.trial.run_job("count the fleet")


async def _ask(
    fleet: Fleet, *phones: Phone, actor: str = "ada", kind: str = "device.erase"
) -> dict[str, Any]:
    body = {
        "kind": kind,
        "params": {},
        "device_ids": [str(phone.device_id) for phone in phones],
        "idempotency_key": str(uuid4()),
    }
    answer = await fleet.trial.call("POST", API, body, actor=actor)
    assert answer.status == 202, answer.body
    asked: dict[str, Any] = answer.json
    return asked


async def _requested(fleet: Fleet, phone: Phone, service: str, **fields: Any) -> None:
    event = CommandRequested(
        device_id=phone.device_id,
        idempotency_key=str(uuid4()),
        actor=f"service:{service}",
        **fields,
    )
    trial = fleet.trial
    arrived = travelled(event, service=service)
    await apply(trial.context.pool, "command_queue", trial.parts.handlers, arrived)


async def _states(fleet: Fleet) -> list[tuple[str, str | None]]:
    rows = await fleet.rows("SELECT state, hold_reason FROM command ORDER BY ordinal")
    return [(row["state"], row["hold_reason"]) for row in rows]


async def test_a_small_fleet_may_lose_two_devices_an_hour(fleet: Fleet) -> None:
    phones = await fleet.enroll(4)
    fine = await _ask(fleet, *phones[:2])
    assert (fine["state"], fine["hold_reason"]) == ("active", None)
    held = await _ask(fleet, phones[2])
    assert held["state"] == "held"
    assert held["hold_reason"] == (
        "1 destructive targets: 2 of 2 of the installation's budget for one hour are spent"
    )
    await fleet.job("expand targets")
    assert await phones[2].idle() is None
    assert {told.command_id for told in await fleet.queued()} == {UUID(fine["command_id"])}
    assert (await fleet.show(held["command_id"]))["progress"] == {"held": 1}
    # A harmless one is not held up by it.
    assert (await fleet.ask(phones[2]))["state"] == "active"
    assert await phones[2].idle() is not None


async def test_a_held_command_is_an_alarm(fleet: Fleet) -> None:
    phones = await fleet.enroll(3)
    held = await _ask(fleet, *phones)
    [alarm] = [event for event in await fleet.events() if isinstance(event, GuardAlarmed)]
    assert (alarm.kind, alarm.actor, alarm.target_count) == ("held", "ada", 3)
    assert str(alarm.command_id) == held["command_id"]
    assert alarm.reason == held["hold_reason"]


async def test_a_freeze_is_an_alarm(fleet: Fleet) -> None:
    answer = await fleet.trial.call("POST", f"{API}/freeze", {"reason": "look"}, actor="ada")
    assert answer.status == 201
    [alarm] = [event for event in await fleet.events() if isinstance(event, GuardAlarmed)]
    assert (alarm.kind, alarm.actor, alarm.reason) == ("frozen", "ada", "look")


async def test_a_share_of_a_large_fleet_is_everybodys_and_windows_slide(fleet: Fleet) -> None:
    """Half a percent of 2,000 is ten an hour; one person has five in ten minutes."""
    await _fleet_of(fleet, 2000)
    phones = await fleet.enroll(16)
    assert (await _ask(fleet, *phones[:5], actor="ada"))["state"] == "active"
    own = await _ask(fleet, phones[5], actor="ada")
    assert "5 of 5 of the asker's budget for 10 minutes" in own["hold_reason"]
    assert (await _ask(fleet, *phones[5:10], actor="bob"))["state"] == "active"
    everybody = await _ask(fleet, phones[10], actor="eve")
    assert "10 of 10 of the installation's budget for one hour" in everybody["hold_reason"]
    fleet.clock.advance(timedelta(minutes=11))
    again = await _ask(fleet, phones[10], actor="ada")
    assert "the installation's" in again["hold_reason"]
    fleet.clock.advance(timedelta(minutes=50))
    assert (await _ask(fleet, phones[10], actor="ada"))["state"] == "active"


async def test_the_day_and_the_month_of_a_person_have_an_end(fleet: Fleet) -> None:
    await _fleet_of(fleet, 1_000_000)
    phones = await fleet.enroll(5)
    for _ in range(5):
        assert (await _ask(fleet, *phones))["state"] == "active"
        fleet.clock.advance(timedelta(minutes=11))
    held = await _ask(fleet, phones[0])
    assert "25 of 25 of the asker's budget for one day" in held["hold_reason"]
    fleet.clock.advance(timedelta(days=1))
    for _ in range(5):
        assert (await _ask(fleet, *phones))["state"] == "active"
        fleet.clock.advance(timedelta(minutes=11))
    fleet.clock.advance(timedelta(days=2))
    held = await _ask(fleet, phones[0])
    assert "50 of 50 of the asker's budget for 30 days" in held["hold_reason"]


async def test_the_hour_is_never_overspent_by_many_at_once_or_by_splitting(fleet: Fleet) -> None:
    phones = await fleet.enroll(50)
    asked = await asyncio.gather(
        *(_ask(fleet, phone, actor=f"actor {number}") for number, phone in enumerate(phones))
    )
    assert sorted(one["state"] for one in asked) == ["active"] * 2 + ["held"] * 48


async def test_what_disrupts_has_budgets_of_its_own(fleet: Fleet) -> None:
    phones = await fleet.enroll(51)
    asked = await _ask(fleet, *phones[:50], kind="device.restart")
    assert asked["state"] == "active"
    held = await _ask(fleet, phones[50], kind="device.restart")
    assert "50 of 50 of the asker's budget for 10 minutes" in held["hold_reason"]
    other = await _ask(fleet, phones[50], kind="device.restart", actor="bob")
    assert "the installation's budget for one hour" in other["hold_reason"]
    assert (await _ask(fleet, phones[0]))["state"] == "active"


async def test_cancelling_gives_nothing_back_and_what_is_held_costs_nothing(fleet: Fleet) -> None:
    phones = await fleet.enroll(4)
    assert (await _ask(fleet, *phones[:3]))["state"] == "held"
    spent = await _ask(fleet, *phones[:2])
    assert spent["state"] == "active"
    answer = await fleet.trial.call("POST", f"{API}/{spent['command_id']}/cancel", {})
    assert answer.json["cancelled"]
    assert (await _ask(fleet, phones[3]))["state"] == "held"


async def test_a_held_command_can_be_cancelled_and_expires(fleet: Fleet) -> None:
    phones = await fleet.enroll(3)
    cancelled, expiring = await _ask(fleet, *phones), await _ask(fleet, *phones)
    assert cancelled["state"] == expiring["state"] == "held"
    await fleet.job("expand targets")
    path = f"{API}/{cancelled['command_id']}/cancel"
    assert (await fleet.trial.call("POST", path, {})).status == 200
    fleet.clock.advance(timedelta(days=8))
    await fleet.job("sweep ended commands")
    states = {(str(e.command_id), e.state) for e in await fleet.finished()}
    assert states == {
        (cancelled["command_id"], TargetState.CANCELLED),
        (expiring["command_id"], TargetState.EXPIRED),
    }
    assert await fleet.rows("SELECT FROM pending") == []


async def test_a_service_may_propose_destruction_and_no_more(fleet: Fleet) -> None:
    phone = await fleet.enroll()
    await _requested(fleet, phone, "compliance", kind="device.erase")
    await _requested(fleet, phone, "compliance", kind="device.restart")
    [erase, restart] = await _states(fleet)
    assert erase == ("held", "a service proposes it: a person has to decide")
    assert restart == ("held", "no person is at its root: one has to decide")


async def test_a_repeat_is_charged_once(fleet: Fleet) -> None:
    phones = await fleet.enroll(2)
    body = {
        "kind": "device.erase",
        "device_ids": [str(phone.device_id) for phone in phones],
        "idempotency_key": "one",
    }
    for _ in range(3):
        answer = await fleet.trial.call("POST", API, body)
        assert answer.json["state"] == "active"
    assert [row["targets"] for row in await fleet.rows("SELECT targets FROM charge")] == [2]


async def test_people_see_what_is_left(fleet: Fleet) -> None:
    await _fleet_of(fleet, 1000)
    phones = await fleet.enroll(3)
    await _ask(fleet, *phones)
    answer = await fleet.trial.call("GET", f"{API}/budgets", actor="ada")
    left = {
        (one["whose"], one["command_class"], one["window_minutes"]): (one["spent"], one["limit"])
        for one in answer.json["items"]
    }
    assert left == {
        ("actor", "destructive", 10): (3, 5),
        ("actor", "destructive", 1440): (3, 25),
        ("actor", "destructive", 43200): (3, 50),
        ("installation", "destructive", 60): (3, 5),
        ("installation", "destructive", 1440): (3, 20),
        ("installation", "destructive", 10080): (3, 40),
        ("actor", "disruptive", 10): (0, 50),
        ("installation", "disruptive", 60): (0, 50),
    }
    answer = await fleet.trial.call("GET", f"{API}/budgets", actor="bob")
    assert {one["spent"] for one in answer.json["items"] if one["whose"] == "actor"} == {0}


async def test_who_was_not_seen_for_a_month_is_no_part_of_the_fleet(fleet: Fleet) -> None:
    await _fleet_of(fleet, 1000)
    fleet.clock.advance(timedelta(days=31))
    await fleet.trial.run_job("count the fleet")
    phones = await fleet.enroll(3)
    assert "of 2 of the installation's" in (await _ask(fleet, *phones))["hold_reason"]


@pytest.mark.parametrize(
    ("window", "fleet_size", "limit", "words"),
    [
        (Window(minutes=10, least=5), 10**6, 5, "10 minutes"),
        (Window(minutes=60, least=2, share=0.005), 399, 2, "one hour"),
        (Window(minutes=60, least=2, share=0.005), 600, 3, "one hour"),
        (Window(minutes=1440, least=5, share=0.02), 1000, 20, "one day"),
        (Window(minutes=10080, least=5, share=0.04), 100_000, 4000, "7 days"),
        (Window(minutes=90, least=0), 0, 0, "90 minutes"),
    ],
)
def test_a_window_holds_a_number_or_a_share(
    window: Window, fleet_size: int, limit: int, words: str
) -> None:
    assert (window.limit(fleet_size), window.words) == (limit, words)
