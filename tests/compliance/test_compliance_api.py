"""The API of compliance: policies with versions, lists with pages, refusals with reasons."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import pytest

from shared.events import uuid7
from shared.events.audit import AuditRecorded
from shared.events.compliance import PolicyChanged

PASSCODE = {"kind": "passcode_present", "id": "passcode"}
ENCRYPTION = {"kind": "encryption_on", "id": "encryption"}


async def test_a_policy_is_created_changed_and_deleted_with_versions_and_audit(
    compliance: Any,
) -> None:
    body = {"name": "Phones", "rules": [PASSCODE], "reason": "ISO 27001"}
    made = await compliance.call("POST", "/policies", body, actor="ada")
    policy = made.json["policy_id"]
    told = await compliance.told()
    (audit,) = told.of(AuditRecorded)
    assert (audit.actor, audit.action, audit.target, audit.reason) == (
        "ada",
        "compliance.policy.create",
        policy,
        "ISO 27001",
    )
    assert audit.after is not None
    assert audit.after["rules"][0]["kind"] == "passcode_present"

    changed = {"name": "Phones", "rules": [ENCRYPTION], "expected_version": 1}
    answer = await compliance.call("PUT", f"/policies/{policy}", changed, actor="bob")
    assert (answer.status, answer.json["version"], answer.json["changed_by"]) == (200, 2, "bob")
    told = await compliance.told()
    (audit,) = told.of(AuditRecorded)
    assert audit.before is not None
    assert audit.before["rules"][0]["kind"] == "passcode_present"
    assert [event.version for event in told.of(PolicyChanged)] == [2]

    answer = await compliance.call("PUT", f"/policies/{policy}", changed)
    assert (answer.status, answer.json["code"], answer.json["version"]) == (
        409,
        "policy_changed",
        2,
    )
    del changed["expected_version"]
    answer = await compliance.call("PUT", f"/policies/{policy}", changed)
    assert answer.json["version"] == 2
    assert not (await compliance.told()).events

    assert (await compliance.call("DELETE", f"/policies/{policy}", actor="eve")).status == 204
    (audit,) = (await compliance.told()).of(AuditRecorded)
    assert (audit.actor, audit.action) == ("eve", "compliance.policy.delete")
    for method, given in (("GET", None), ("PUT", changed), ("DELETE", None)):
        answer = await compliance.call(method, f"/policies/{policy}", given)
        assert (answer.status, answer.json["code"]) == (404, "policy_unknown")

    first = (await compliance.call("GET", f"/policies/{policy}/versions?limit=1")).json
    assert [(v["version"], v["changed_by"]) for v in first["items"]] == [(2, "bob")]
    path = f"/policies/{policy}/versions?limit=1&cursor={first['next']}"
    second = (await compliance.call("GET", path)).json
    assert [(v["version"], v["reason"]) for v in second["items"]] == [(1, "ISO 27001")]
    assert second["next"] is None


async def test_names_are_distinct_until_a_policy_is_deleted(compliance: Any) -> None:
    body = {"name": "Phones", "rules": [PASSCODE]}
    policy = (await compliance.call("POST", "/policies", body)).json["policy_id"]
    other = await compliance.policy(PASSCODE, name="Other")
    for method, path in (("POST", "/policies"), ("PUT", f"/policies/{other}")):
        answer = await compliance.call(method, path, {**body, "name": "PHONES"})
        assert (answer.status, answer.json["code"]) == (409, "name_taken")
    await compliance.call("DELETE", f"/policies/{policy}")
    assert (await compliance.call("POST", "/policies", body)).status == 201


@pytest.mark.parametrize(
    ("change", "where"),
    [
        ({"rules": []}, "rules"),
        ({"rules": [{"kind": "no_such_rule"}]}, "rules.0"),
        ({"rules": [{"kind": "os_at_least", "versions": {"ios": "new"}}]}, "versions"),
        ({"rules": [PASSCODE, PASSCODE]}, "rules"),
        ({"name": " "}, "name"),
        ({"name": "a\0b"}, "name"),
        ({"inputs_ttl_hours": 0}, "inputs_ttl_hours"),
        ({"after_error": "ignore"}, "after_error"),
        ({"applicability": {"platforms": ["amiga"]}}, "applicability.platforms.0"),
        ({"grace": 1}, "grace"),
    ],
)
async def test_a_policy_that_cannot_be_is_refused_where_it_is_wrong(
    compliance: Any, change: dict[str, Any], where: str
) -> None:
    answer = await compliance.call(
        "POST", "/policies", {"name": "X", "rules": [PASSCODE], **change}
    )
    assert answer.status == 422
    assert answer.headers["Content-Type"].startswith("application/problem+json")
    assert answer.json["code"] == "body_invalid"
    assert any(where in error["at"] for error in answer.json["errors"])


@pytest.mark.parametrize(
    ("method", "path", "permissions", "status"),
    [
        ("POST", "/policies", ["compliance.read"], 403),
        ("GET", "/policies", ["compliance.write"], 403),
        ("GET", "/summary", [], 403),
        ("GET", "/policies/rubbish", ["*"], 404),
        ("GET", f"/policies/{uuid7()}", ["*"], 404),
        ("GET", f"/policies/{uuid7()}/versions", ["*"], 404),
        ("GET", f"/devices/{uuid7()}/verdicts", ["*"], 404),
        ("GET", "/devices/rubbish/verdicts", ["*"], 404),
        ("GET", "/policies?cursor=WyJ4Il0", ["*"], 400),
        ("GET", "/verdicts?cursor=WyJ4Il0", ["*"], 400),
        ("GET", "/verdicts?state=fine", ["*"], 400),
        ("GET", "/verdicts?policy=fine", ["*"], 400),
        ("GET", "/devices?limit=501", ["*"], 400),
    ],
)
async def test_requests_that_cannot_be_are_refused(
    compliance: Any, method: str, path: str, permissions: list[str], status: int
) -> None:
    answer = await compliance.call(method, path, permissions=permissions)
    assert answer.status == status, answer.text
    assert answer.json["code"]


async def pages(compliance: Any, path: str) -> list[Any]:
    found: list[Any] = []
    joined, cursor = "&" if "?" in path else "?", ""
    while True:
        answer = (await compliance.call("GET", f"{path}{joined}limit=2{cursor}")).json
        found += answer["items"]
        if answer["next"] is None:
            return found
        assert len(answer["items"]) == 2
        cursor = f"&cursor={answer['next']}"


async def test_lists_page_and_filter(compliance: Any) -> None:
    policies = [await compliance.policy(rule) for rule in (PASSCODE, ENCRYPTION, PASSCODE)]
    devices = [await compliance.device(name=f"D{n}") for n in range(5)]
    for device in devices[:3]:
        await compliance.facts(device, passcode__present=False, encryption__enabled=True)

    def keys(rows: list[Any]) -> list[tuple[str, str]]:
        return [(row["policy_id"], row["device_id"]) for row in rows]

    every = [(str(p), str(d)) for p in policies for d in devices]
    assert keys(await pages(compliance, "/verdicts")) == every
    of_one = await pages(compliance, f"/verdicts?policy={policies[1]}")
    assert keys(of_one) == every[5:10]
    assert of_one[0]["device_name"] == "D0"
    bad = await pages(compliance, "/verdicts?state=noncompliant")
    assert keys(bad) == every[:3] + every[10:13]
    both = await pages(compliance, f"/verdicts?policy={policies[2]}&state=noncompliant")
    assert keys(both) == every[10:13]
    listed = await pages(compliance, "/policies")
    assert [UUID(row["policy_id"]) for row in listed] == policies
    assert listed[0]["counts"] == {
        "compliant": 0,
        "noncompliant": 3,
        "not_evaluated": 2,
        "stale": 0,
        "error": 0,
        "not_applicable": 0,
    }
    failing = await pages(compliance, "/devices?state=noncompliant")
    assert [row["device_id"] for row in failing] == [str(d) for d in devices[:3]]
    assert len(await pages(compliance, "/devices")) == 5
    one = await compliance.verdicts(devices[0])
    assert one["counts"]["noncompliant"] == 2
    assert one["counts"]["compliant"] == 1
