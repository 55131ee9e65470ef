"""Verdicts on a real database: reached by events, by changes of policy, and by time."""

from __future__ import annotations

from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest

from services.compliance.baseline import BASELINE_ID
from services.compliance.store import devices, verdicts
from shared.bus import apply
from shared.bus.testing import travelled
from shared.events import uuid7
from shared.events.compliance import PolicyChanged, VerdictChanged, VerdictState
from shared.events.devices import Ownership, Platform
from shared.events.inventory import FactChange, FactsChanged

PASSCODE = {"kind": "passcode_present", "id": "passcode"}
ENCRYPTION = {"kind": "encryption_on", "id": "encryption"}
SEEN = {"kind": "last_seen_within", "id": "seen", "hours": 48}
REQUIRED = {"kind": "app_required", "id": "apps", "identifiers": ["vpn"]}
FORBIDDEN = {"kind": "app_forbidden", "id": "bad", "identifiers": ["game"]}


async def test_a_fact_becomes_a_verdict_with_reason_value_and_proof(compliance: Any) -> None:
    policy = await compliance.policy(PASSCODE, name="Phones")
    device = await compliance.device()
    assert await compliance.states(device) == ["not_evaluated", "not_evaluated"]
    await compliance.told()

    (event,) = travelled(
        FactsChanged(
            device_id=device,
            observed_at=compliance.clock.now(),
            changes=[FactChange(name="passcode.present", value=False)],
        ),
        service="inventory",
    )
    service = compliance.service
    await apply(service.context.pool, "compliance", service.parts.handlers, [event])
    (changed,) = (await compliance.told()).of(VerdictChanged)
    assert (changed.state, changed.previous) == (
        VerdictState.NONCOMPLIANT,
        VerdictState.NOT_EVALUATED,
    )
    assert (changed.policy_id, changed.policy_name, changed.policy_version) == (
        policy,
        "Phones",
        1,
    )
    (finding,) = changed.findings
    assert (finding.rule, finding.reason) == ("passcode", "passcode_missing")
    assert (finding.expected, finding.observed) == (True, False)
    assert finding.evidence == event.meta.event_id
    assert changed.meta.causation_id == str(event.meta.event_id)

    shown = (await compliance.verdicts(device))["items"][0]["findings"][0]
    assert shown["evidence"] == str(event.meta.event_id)
    assert shown["explanation"] == "The device has no passcode."


async def test_what_no_rule_reads_changes_no_verdict(compliance: Any) -> None:
    await compliance.policy(PASSCODE)
    device = await compliance.device()
    await compliance.facts(device, passcode__present=True)
    before = await compliance.verdicts(device)
    await compliance.told()
    compliance.clock.advance(timedelta(minutes=5))
    await compliance.facts(device, battery__level=0.5)
    assert await compliance.verdicts(device) == before
    assert not (await compliance.told()).events


async def test_only_policies_that_read_the_fact_are_judged(compliance: Any) -> None:
    await compliance.policy(PASSCODE)
    await compliance.policy(ENCRYPTION)
    device = await compliance.device()
    first = [v["evaluated_at"] for v in (await compliance.verdicts(device))["items"]]
    compliance.clock.advance(timedelta(minutes=5))
    await compliance.facts(device, encryption__enabled=True)
    second = [v["evaluated_at"] for v in (await compliance.verdicts(device))["items"]]
    assert second[0] == first[0]
    assert second[1] > first[1]


async def test_the_same_verdict_again_is_no_news(compliance: Any) -> None:
    await compliance.policy(
        {"kind": "os_at_least", "id": "os", "versions": {"ios": "17"}}, name="OS"
    )
    device = await compliance.device()
    await compliance.facts(device, os__version="17.1")
    await compliance.told()
    await compliance.facts(device, os__version="17.2")
    assert not (await compliance.told()).events
    found = (await compliance.verdicts(device))["items"][0]["findings"][0]
    assert found["observed"] == "17.2"


async def test_an_absent_application_means_something_once_the_list_was_reported(
    compliance: Any,
) -> None:
    await compliance.policy(REQUIRED)
    await compliance.policy(FORBIDDEN)
    device = await compliance.device()
    await compliance.applications(device, installed=["game"])
    assert await compliance.states(device) == ["not_evaluated"] * 3
    await compliance.section(device, "applications")
    assert await compliance.states(device) == ["noncompliant", "noncompliant", "noncompliant"]
    await compliance.applications(device, installed=["vpn"], removed=["game"])
    assert await compliance.states(device) == ["compliant", "compliant", "compliant"]
    await compliance.applications(device, removed=["vpn"])
    assert await compliance.states(device) == ["noncompliant", "noncompliant", "compliant"]


async def test_silence_is_found_by_time_and_ended_by_a_sign_of_life(compliance: Any) -> None:
    policy = await compliance.policy(SEEN)
    device = await compliance.device()
    await compliance.seen(device)
    assert await compliance.states(device) == ["compliant", "compliant"]
    await compliance.time_passes(hours=24)
    await compliance.seen(device)
    await compliance.told()
    await compliance.time_passes(hours=47)
    assert not (await compliance.told()).events
    await compliance.time_passes(hours=1)
    (changed,) = (await compliance.told()).of(VerdictChanged)
    assert (changed.state, changed.findings[0].reason) == (VerdictState.NONCOMPLIANT, "not_seen")
    assert await compliance.counts(policy) == {"noncompliant": 1}
    await compliance.seen(device)
    (changed,) = (await compliance.told()).of(VerdictChanged)
    assert changed.state is VerdictState.COMPLIANT


async def test_reports_grow_stale_and_then_count_as_failed(compliance: Any) -> None:
    await compliance.policy(PASSCODE, inputs_ttl_hours=48, stale_noncompliant_after_hours=24)
    devices = [await compliance.device() for _ in range(5)]
    for device in devices:
        await compliance.facts(device, passcode__present=True)
    await compliance.time_passes(hours=47)
    await compliance.section(devices[0], "security", "passcode.present")
    await compliance.section(devices[1], "security")
    await compliance.told()
    await compliance.time_passes(hours=1)
    changed = (await compliance.told()).of(VerdictChanged)
    assert {event.device_id for event in changed} == set(devices[1:])
    assert {event.state for event in changed} == {VerdictState.STALE}
    assert await compliance.counts() == {"compliant": 1, "stale": 4}
    await compliance.section(devices[2], "security", "passcode.present")
    assert await compliance.states(devices[2]) == ["compliant", "compliant"]
    await compliance.time_passes(hours=24)
    assert await compliance.counts() == {"compliant": 2, "noncompliant": 3}


async def test_a_value_that_cannot_be_judged_holds_the_last_finding_for_a_day(
    compliance: Any,
) -> None:
    await compliance.policy(PASSCODE, inputs_ttl_hours=720)
    device = await compliance.device()
    await compliance.facts(device, passcode__present=True)
    await compliance.facts(device, passcode__present="?")
    found = await compliance.verdicts(device)
    assert found["state"] == "compliant"
    assert found["items"][0]["findings"][0]["reason"] == "error_held"
    await compliance.time_passes(hours=24)
    assert await compliance.states(device) == ["error", "error"]


async def test_a_re_enrolled_device_proves_itself_anew(compliance: Any) -> None:
    await compliance.policy(PASSCODE)
    device = await compliance.device()
    await compliance.facts(device, passcode__present=True)
    compliance.clock.advance(timedelta(hours=1))
    again = compliance.state(device, since=compliance.clock.now())
    await compliance.service.hears(again, service="enrollment")
    assert await compliance.states(device) == ["not_evaluated", "not_evaluated"]
    compliance.clock.advance(timedelta(minutes=1))
    await compliance.section(device, "security", "passcode.present")
    assert await compliance.states(device) == ["compliant", "compliant"]


async def test_scope_follows_platform_ownership_and_tags(compliance: Any) -> None:
    await compliance.policy(PASSCODE, applicability={"tags": ["lab"]})
    await compliance.policy(PASSCODE, applicability={"ownership": ["personal"]})
    device = await compliance.device(tags=["lab"])
    await compliance.facts(device, passcode__present=True)
    assert await compliance.states(device) == ["compliant", "compliant", "not_applicable"]
    await compliance.told()
    for changes, expected in (
        ({"tags": ["lab"], "name": "renamed"}, None),
        ({"tags": []}, ["not_evaluated", "not_applicable", "not_applicable"]),
        ({"ownership": Ownership.PERSONAL}, ["compliant", "not_applicable", "compliant"]),
    ):
        await compliance.service.hears(compliance.state(device, **changes), service="enrollment")
        told = await compliance.told()
        if expected is None:
            assert not told.events
        else:
            assert await compliance.states(device) == expected
            assert len(told.of(VerdictChanged)) == 1


async def test_an_unmanaged_device_is_judged_and_counted_no_more(compliance: Any) -> None:
    policy = await compliance.policy(PASSCODE)
    device = await compliance.device()
    await compliance.facts(device, passcode__present=False)
    assert await compliance.counts() == {"noncompliant": 1}
    await compliance.service.hears(compliance.state(device, state="ended"), service="enrollment")
    assert await compliance.states(device) == ["not_applicable", "not_applicable"]
    assert await compliance.counts() == {}
    assert await compliance.counts(policy) == {"not_applicable": 1}
    await compliance.facts(device, passcode__present=True)
    assert await compliance.states(device) == ["not_applicable", "not_applicable"]


async def test_a_device_without_a_policy_is_not_evaluated(compliance: Any) -> None:
    device = await compliance.device()
    assert await compliance.states(device) == ["not_evaluated"]
    assert await compliance.counts() == {"not_evaluated": 1}


async def test_a_new_policy_goes_through_the_fleet_in_chunks(compliance: Any) -> None:
    devices = [await compliance.device() for _ in range(5)]
    ended = await compliance.device(state="ended")
    for device in devices[:3]:
        await compliance.facts(device, passcode__present=True)
    await compliance.told()
    answer = await compliance.call("POST", "/policies", {"name": "New", "rules": [PASSCODE]})
    policy = answer.json["policy_id"]
    assert len((await compliance.told()).of(PolicyChanged)) == 1
    judged = []
    while await compliance.service.run_job("rollouts"):
        judged.append(len((await compliance.told()).of(VerdictChanged)))
    assert judged == [2, 2, 1, 0]
    assert await compliance.counts(UUID(policy)) == {"compliant": 3, "not_evaluated": 2}
    shown = (await compliance.call("GET", f"/policies/{policy}")).json
    assert shown["rollout"]["judged"] == 5
    assert shown["rollout"]["finished_at"] is not None
    assert await compliance.states(ended) == ["not_applicable"]


async def test_a_change_in_the_middle_of_a_rollout_begins_it_again(compliance: Any) -> None:
    devices = [await compliance.device() for _ in range(5)]
    answer = await compliance.call("POST", "/policies", {"name": "New", "rules": [PASSCODE]})
    policy = answer.json["policy_id"]
    await compliance.service.run_job("rollouts")
    changed = {"name": "New", "rules": [ENCRYPTION]}
    assert (await compliance.call("PUT", f"/policies/{policy}", changed)).json["version"] == 2
    await compliance.roll_out()
    for device in devices:
        (verdict,) = (await compliance.verdicts(device))["items"]
        assert verdict["policy_version"] == 2
        assert [finding["rule"] for finding in verdict["findings"]] == ["encryption"]
    assert sum((await compliance.counts(UUID(policy))).values()) == 5


async def test_a_deleted_policy_judges_nobody(compliance: Any) -> None:
    kept = await compliance.policy(ENCRYPTION)
    policy = await compliance.policy(PASSCODE)
    devices = [await compliance.device() for _ in range(3)]
    for device in devices:
        await compliance.facts(device, passcode__present=False, encryption__enabled=True)
    assert await compliance.counts() == {"noncompliant": 3}
    await compliance.told()
    assert (await compliance.call("DELETE", f"/policies/{policy}")).status == 204
    (told,) = (await compliance.told()).of(PolicyChanged)
    assert (told.policy_id, told.deleted) == (policy, True)
    assert await compliance.states(devices[0]) == ["noncompliant", "compliant"]
    await compliance.roll_out()
    assert await compliance.counts() == {"compliant": 3}
    assert await compliance.counts(kept) == {"compliant": 3}
    pool = compliance.service.context.pool
    assert await pool.fetchval("SELECT count(*) FROM verdict WHERE policy_id = $1", policy) == 0
    await compliance.facts(devices[0], passcode__present=True)
    assert await compliance.states(devices[0]) == ["compliant", "compliant"]


async def test_a_deleted_device_is_forgotten_and_counted_no_more(compliance: Any) -> None:
    policy = await compliance.policy(PASSCODE)
    device, other = await compliance.device(), await compliance.device()
    await compliance.facts(device, passcode__present=True)
    gone = compliance.state(device, deleted=True)
    await compliance.service.hears(gone, service="enrollment")
    assert (await compliance.call("GET", f"/devices/{device}/verdicts")).status == 404
    assert await compliance.counts(policy) == await compliance.counts() == {"not_evaluated": 1}
    assert await compliance.states(other) == ["not_evaluated", "not_evaluated"]


async def test_counts_are_what_a_scan_would_find(compliance: Any) -> None:
    await compliance.policy(PASSCODE)
    await compliance.policy(SEEN, applicability={"platforms": ["ios"]})
    devices = []
    for n in range(8):
        device = await compliance.device(platform=Platform.IOS if n % 2 else Platform.MACOS)
        devices.append(device)
        if n % 3:
            await compliance.facts(device, passcode__present=bool(n % 4))
        await compliance.seen(device)
    await compliance.time_passes(hours=50)
    await compliance.seen(devices[1])
    pool = compliance.service.context.pool
    scanned = await pool.fetch(
        """SELECT policy_id, state, count(*) FROM verdict GROUP BY 1, 2
           UNION ALL SELECT $1, state, count(*) FROM device WHERE state IS NOT NULL GROUP BY 2""",
        UUID(int=0),
    )
    kept = await pool.fetch(
        "SELECT policy_id, state, sum(count)::bigint FROM tally GROUP BY 1, 2 HAVING sum(count) > 0"
    )
    assert sorted(map(tuple, kept)) == sorted(map(tuple, scanned))
    assert len({row["state"] for row in scanned}) >= 4


async def test_events_in_one_batch_end_in_the_same_verdicts(compliance: Any) -> None:
    await compliance.policy(PASSCODE, ENCRYPTION)
    devices = [uuid7() for _ in range(4)]
    events: list[Any] = []
    for device in devices:
        events += travelled(compliance.state(device), service="enrollment")
    for value in (False, True):
        for device in devices:
            changes = [
                FactChange(name="passcode.present", value=value),
                FactChange(name="encryption.enabled", value=True),
            ]
            events += travelled(
                FactsChanged(device_id=device, observed_at=compliance.clock.now(), changes=changes),
                service="inventory",
            )
    service = compliance.service
    await apply(service.context.pool, "compliance", service.parts.handlers, events)
    await apply(service.context.pool, "compliance", service.parts.handlers, events)
    assert await compliance.counts() == {"compliant": 4}
    told = (await compliance.told()).of(VerdictChanged)
    assert [event.state for event in told if event.device_id == devices[0]] == [
        VerdictState.NOT_EVALUATED,
        VerdictState.NONCOMPLIANT,
        VerdictState.COMPLIANT,
    ]


async def test_facts_may_come_before_the_device_is_introduced(compliance: Any) -> None:
    policy = await compliance.policy(PASSCODE)
    device = uuid7()
    await compliance.facts(device, passcode__present=True)
    assert not (await compliance.told()).of(VerdictChanged)
    await compliance.service.hears(compliance.state(device), service="enrollment")
    assert await compliance.states(device) == ["compliant", "compliant"]
    assert await compliance.counts(policy) == await compliance.counts() == {"compliant": 1}


async def test_an_older_fact_changes_nothing(compliance: Any) -> None:
    await compliance.policy(PASSCODE)
    device = await compliance.device()
    old = FactsChanged(
        device_id=device,
        observed_at=compliance.clock.now(),
        changes=[FactChange(name="passcode.present", value=False)],
    )
    (old,) = travelled(old, service="inventory")
    await compliance.facts(device, passcode__present=True)
    service = compliance.service
    await apply(service.context.pool, "compliance", service.parts.handlers, [old])
    assert await compliance.states(device) == ["compliant", "compliant"]


async def test_an_emptied_projection_is_rebuilt_from_device_state(compliance: Any) -> None:
    await compliance.policy(PASSCODE)
    device = await compliance.device(name="Desk")
    await compliance.facts(device, passcode__present=True)
    pool = compliance.service.context.pool
    await pool.execute("DELETE FROM device")
    state = compliance.state(device, name="Desk")
    await compliance.service.hears(state, service="enrollment")
    found = await compliance.verdicts(device)
    assert (found["name"], found["state"]) == ("Desk", "compliant")


@pytest.mark.parametrize("compliance", [True], indirect=True)
async def test_the_baseline_is_there_at_first_and_stays_deleted(
    compliance: Any,
) -> None:
    listed = (await compliance.call("GET", "/policies")).json["items"]
    assert [(p["name"], p["policy_id"]) for p in listed] == [("Baseline", str(BASELINE_ID))]
    await compliance.roll_out()
    device = await compliance.device()
    await compliance.facts(
        device, passcode__present=True, encryption__enabled=True, os__version="17.4"
    )
    await compliance.seen(device)
    assert await compliance.states(device) == ["compliant", "compliant"]
    await compliance.call("DELETE", f"/policies/{BASELINE_ID}")
    context = compliance.service.context
    from services.compliance.app import SERVICE  # noqa: PLC0415 (a second start)

    async with SERVICE.build(context):
        assert (await compliance.call("GET", "/policies")).json["items"] == []


async def test_a_device_costs_the_same_beside_a_fleet(compliance: Any) -> None:
    """Planned while the tables were empty, as a service that has just begun does it."""
    road = compliance.service.context.road
    async with road.acquire() as connection:
        await connection.execute(f"PREPARE roll_up AS {devices.ROLL_UP}")
        await connection.execute(f"PREPARE read AS {verdicts.READ}")
        await connection.execute(
            "INSERT INTO device (device_id, platform, ownership, managed, state)"
            " SELECT gen_random_uuid(), 'ios', 'corporate', true, 'stale'"
            " FROM generate_series(1, 3000)"
        )
        await connection.execute(
            "INSERT INTO verdict (device_id, policy_id, policy_version, state, findings,"
            " evaluated_at, changed_at)"
            " SELECT device_id, policy, 1, 'not_evaluated', '[]', now(), now() FROM device,"
            " (SELECT gen_random_uuid() AS policy FROM generate_series(1, 5)) AS policies"
        )
        [row] = await connection.fetch("SELECT device_id, policy_id FROM verdict LIMIT 1")
        ladder = "'{noncompliant,error,stale,not_evaluated,compliant}'"
        one, policy = f"'{{{row['device_id']}}}'", f"'{{{row['policy_id']}}}'"
        for call in (f"roll_up({one}, {ladder})", f"read({one}, {policy})"):
            [found] = await connection.fetch(
                f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) EXECUTE {call}"
            )
            [told] = found["QUERY PLAN"]
            assert told["Plan"]["Shared Hit Blocks"] < 150, told
        state = "SELECT state FROM device WHERE device_id = $1"
        assert await connection.fetchval(state, row["device_id"]) == "not_evaluated"
        await connection.execute("DEALLOCATE roll_up; DEALLOCATE read")
