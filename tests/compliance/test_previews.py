"""What a policy would say of the fleet, before it is saved."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import pytest

from services.compliance import previews
from services.compliance.store import inputs
from shared.events import uuid7
from shared.events.devices import Ownership, Platform
from tests.compliance.conftest import PASSCODE

ENCRYPTION = {"kind": "encryption_on", "id": "encryption"}


async def look(compliance: Any, *rules: Any, **more: Any) -> Any:
    answer = await compliance.call("POST", "/previews", {"name": "Draft", "rules": rules, **more})
    assert answer.status == 200, answer.json
    return answer.json


def counted(found: Any) -> dict[str, int]:
    return {state: number for state, number in found["counts"].items() if number}


async def test_a_new_policy_names_who_would_fail_and_changes_nothing(compliance: Any) -> None:
    good, bad, silent = [await compliance.device(name=name) for name in ("good", "bad", "silent")]
    await compliance.device(name="a Mac", platform=Platform.MACOS)
    await compliance.device(name="gone", state="ended")
    await compliance.facts(good, passcode__present=True)
    await compliance.facts(bad, passcode__present=False)
    await compliance.told()
    before = (await compliance.call("GET", "/summary")).json
    found = await look(compliance, PASSCODE, applicability={"platforms": ["ios"]})
    assert (found["applies_to"], found["judged"], found["worse"], found["better"]) == (3, 3, 1, 0)
    assert counted(found) == {"compliant": 1, "noncompliant": 1, "not_evaluated": 1}
    (failing,) = found["failing"]
    assert (failing["device_id"], failing["name"]) == (str(bad), "bad")
    assert failing["why"] == ["The device has no passcode."]
    assert str(silent) not in str(found["failing"])
    assert (await compliance.call("GET", "/summary")).json == before
    assert not (await compliance.told()).events


async def test_a_next_version_is_measured_against_the_one_in_force(compliance: Any) -> None:
    policy = await compliance.policy(PASSCODE, name="Phones")
    falls, climbs, stays = [await compliance.device(name=n) for n in ("falls", "climbs", "stays")]
    for device, passcode, encrypted in (
        (falls, True, False),
        (climbs, False, True),
        (stays, True, True),
    ):
        await compliance.facts(device, passcode__present=passcode, encryption__enabled=encrypted)
    found = await look(compliance, ENCRYPTION, policy_id=policy)
    assert (found["worse"], found["better"]) == (1, 1)
    assert [row["name"] for row in found["failing"]] == ["falls"]
    same = await look(compliance, PASSCODE, policy_id=policy)
    assert (same["worse"], same["better"], same["failing"]) == (0, 0, [])


async def test_it_is_for_whom_saving_it_would_be(compliance: Any) -> None:
    await compliance.device(tags=["vip", "lab"])
    await compliance.device(ownership=Ownership.PERSONAL, tags=["vip"])
    await compliance.device(platform=Platform.MACOS)
    for applicability, expected in (
        ({}, 3),
        ({"tags": ["vip", "no such"]}, 2),
        ({"tags": ["vip"], "ownership": ["corporate"]}, 1),
        ({"platforms": ["macos", "ios"]}, 3),
        ({"platforms": ["windows"]}, 0),
    ):
        found = await look(compliance, PASSCODE, applicability=applicability)
        assert (found["applies_to"], found["judged"]) == (expected, expected), applicability
        policy = (
            await compliance.call(
                "POST",
                "/policies",
                {"name": str(applicability), "rules": [PASSCODE], "applicability": applicability},
            )
        ).json["policy_id"]
        await compliance.roll_out()
        counts = (await compliance.call("GET", f"/policies/{policy}")).json["counts"]
        assert sum(counts.values()) - counts["not_applicable"] == expected, applicability


async def test_what_is_stale_by_the_drafts_own_terms_is_stale(compliance: Any) -> None:
    device = await compliance.device()
    await compliance.facts(device, passcode__present=True)
    compliance.clock.advance(timedelta(hours=3))
    assert counted(await look(compliance, PASSCODE)) == {"compliant": 1}
    assert counted(await look(compliance, PASSCODE, inputs_ttl_hours=2)) == {"stale": 1}


async def test_a_large_fleet_is_looked_at_in_part_the_same_part_each_time(
    compliance: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(previews, "LOOKED_AT", 3)
    monkeypatch.setattr(previews, "SHOWN", 2)
    for _ in range(7):
        await compliance.facts(await compliance.device(), passcode__present=False)
    first, again = [await look(compliance, PASSCODE) for _ in range(2)]
    assert (first["applies_to"], first["judged"], first["worse"]) == (7, 3, 3)
    assert len(first["failing"]) == 2
    assert first == again


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"name": "x", "rules": []}, 422),
        ({"name": "x", "rules": [PASSCODE], "policy_id": "no"}, 422),
        ({"name": "x", "rules": [PASSCODE], "policy_id": str(uuid7())}, 200),
    ],
)
async def test_what_could_not_be_saved_is_not_looked_at(
    compliance: Any, body: Any, status: int
) -> None:
    assert (await compliance.call("POST", "/previews", body)).status == status


async def test_it_needs_the_right_to_write_and_to_read(compliance: Any) -> None:
    body = {"name": "x", "rules": [PASSCODE]}
    for permissions in (["compliance.write"], ["compliance.read"]):
        answer = await compliance.call("POST", "/previews", body, permissions=permissions)
        assert (answer.status, answer.json["code"]) == (403, "permission_missing"), permissions


async def test_many_at_once_take_turns(compliance: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever asks for fifty has the service do one."""
    await compliance.device()
    running, most, load = 0, 0, inputs.load

    async def counting(*given: Any) -> Any:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0)
        found = await load(*given)
        running -= 1
        return found

    monkeypatch.setattr(inputs, "load", counting)
    found = await asyncio.gather(*(look(compliance, PASSCODE) for _ in range(5)))
    assert [one["judged"] for one in found] == [1] * 5
    assert most == 1
