"""The screen Policies, over compliance's API."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from services.compliance.policies import Definition
from services.console.http.policies import _FIRST, _OWN, KINDS, rule_text
from shared.events import uuid7
from shared.runtime.testing import RecordedCalls
from tests.console.browsing import Browser, signed_in, words_of
from tests.console.fleet import START, Console

POLICIES = "/api/v1/compliance/policies"
PREVIEWS = "/api/v1/compliance/previews"
POLICY_ID = uuid7()
ONE = f"{POLICIES}/{POLICY_ID}"
RULES: list[dict[str, Any]] = [
    {"kind": "passcode_present", "title": "Passcode <set>", "advice": "Set one."},
    {"kind": "encryption_on"},
    {"kind": "os_at_least", "versions": {"ios": "17.6", "macos": "15.0"}},
    {"kind": "app_required", "identifiers": ["com.example.vpn"]},
    {"kind": "app_forbidden", "identifiers": ["com.example.game", "org.chat"]},
    {"kind": "last_seen_within", "hours": 72},
    {"kind": "attribute", "fact": "battery.level", "operator": "ge", "value": 0.2},
]


@pytest.fixture
def calls() -> RecordedCalls:
    calls = RecordedCalls()
    calls.answers["compliance", f"{POLICIES}?limit=50"] = {"items": [_policy()], "next": None}
    calls.answers["compliance", ONE] = _policy()
    version = {
        "version": 2,
        "definition": {"rules": RULES[:2]},
        "changed_at": START.isoformat(),
        "changed_by": "service:test",
        "reason": "stricter",
    }
    calls.answers["compliance", f"{ONE}/versions?limit=50"] = {"items": [version], "next": None}
    return calls


@pytest.fixture
async def owner(view: Console) -> Browser:
    return await signed_in(view.service, role="owner")


def _policy(**changes: Any) -> dict[str, Any]:
    definition = Definition.model_validate({**_FIRST, "rules": RULES}).model_dump(mode="json")
    return {
        **definition,
        "policy_id": str(POLICY_ID),
        "version": 3,
        "created_at": START.isoformat(),
        "changed_at": START.isoformat(),
        "changed_by": "service:test",
        "counts": {"compliant": 1200, "noncompliant": 34, "not_applicable": 7},
        "rollout": {"judged": 800, "started_at": START.isoformat(), "finished_at": None},
    } | changes


def _said(calls: RecordedCalls) -> list[tuple[str, str, Any]]:
    return [call[1:4] for call in calls.calls if call[1] != "GET"]


def test_what_the_editor_offers_is_what_compliance_takes() -> None:
    Definition.model_validate(_FIRST)
    assert set(_OWN) == set(Definition.model_fields)
    made = Definition.model_validate({"name": "all kinds", "rules": RULES})
    assert {rule.kind for rule in made.rules} == set(KINDS)
    assert [rule_text(rule) for rule in RULES] == [
        "A passcode is set",
        "Data at rest is protected",
        "The system is at least iOS 17.6, macOS 15.0",
        "Installed: com.example.vpn",
        "Not installed: com.example.game, org.chat",
        "Seen in the last 72 hours",
        "battery.level is at least 0.2",
    ]


async def test_policies_are_listed_with_how_the_fleet_stands(
    owner: Browser, calls: RecordedCalls
) -> None:
    text = words_of(await owner.get("/policies"))
    assert "Baseline iOS, iPadOS 7 Not compliant: 34 Compliant: 1,200" in text
    calls.answers["compliance", f"{POLICIES}?limit=50"] = {"items": [], "next": None}
    assert "no device is judged" in words_of(await owner.get("/policies"))


async def test_one_is_shown_in_words(owner: Browser) -> None:
    shown = await owner.get(f"/policies/{POLICY_ID}")
    text = words_of(shown)
    for said in (
        "Version 3, for iOS, iPadOS",
        "Its user is told: Set one.",
        "battery.level is at least 0.2",
        "800 devices are judged anew",
        "stricter",
    ):
        assert said in text, said
    assert "<set>" not in shown.text
    assert f'href="/devices?failing={POLICY_ID}"' in shown.text


async def test_one_is_made(owner: Browser, calls: RecordedCalls) -> None:
    assert "passcode_present" in (await owner.get("/policies/new")).text
    calls.answers["compliance", POLICIES] = {"policy_id": str(POLICY_ID)}
    fields = {"definition": orjson.dumps(_FIRST).decode(), "reason": "first"}
    answer = await owner.post("/policies", fields)
    assert (answer.status, answer.headers["Location"]) == (303, f"/policies/{POLICY_ID}")
    assert _said(calls) == [("POST", POLICIES, dict(_FIRST) | {"reason": "first"})]


async def test_what_was_typed_comes_back_with_what_is_wrong(
    owner: Browser, calls: RecordedCalls
) -> None:
    answer = await owner.post("/policies", {"definition": '{"name": "typo", }'})
    assert (answer.status, "This is no JSON" in words_of(answer)) == (422, True)
    assert "&#34;typo&#34;" in answer.text
    assert (await owner.post("/policies", {"definition": "[1]"})).status == 422
    assert _said(calls) == []
    fault = {"at": "rules.0.kind", "why": "no such <kind>"}
    calls.answers["compliance", POLICIES] = {"detail": "Not so.", "errors": [fault]}
    calls.statuses["compliance", POLICIES] = 422
    answer = await owner.post("/policies", {"definition": '{"name": "x", "rules": []}'})
    assert answer.status == 422
    assert "Not so. Nothing was changed." in words_of(answer)
    assert "rules.0.kind: no such &lt;kind&gt;" in answer.text


async def test_one_is_changed_unless_somebody_was_quicker(
    owner: Browser, calls: RecordedCalls
) -> None:
    shown = await owner.get(f"/policies/{POLICY_ID}/edit")
    assert 'name="version" value="3"' in shown.text
    assert "policy_id" not in shown.text.split("<textarea")[1].split("</textarea>")[0]
    fields = {"definition": '{"name": "Baseline", "rules": []}', "version": "3"}
    answer = await owner.post(f"/policies/{POLICY_ID}", fields)
    assert (answer.status, answer.headers["Location"]) == (303, f"/policies/{POLICY_ID}")
    body: dict[str, Any] = {"name": "Baseline", "rules": [], "reason": None, "expected_version": 3}
    assert _said(calls) == [("PUT", ONE, body)]
    calls.answers["compliance", ONE] = {"detail": "It is version 4 now."}
    calls.statuses["compliance", ONE] = 409
    answer = await owner.post(f"/policies/{POLICY_ID}", fields)
    assert (answer.status, "It is version 4 now." in words_of(answer)) == (409, True)


@pytest.mark.parametrize("place", ["/policies", f"/policies/{POLICY_ID}"])
async def test_who_would_fail_is_shown_before_anything_is_saved(
    owner: Browser, calls: RecordedCalls, place: str
) -> None:
    failing: dict[str, Any] = {"device_id": str(uuid7()), "name": "<b>Ada</b>", "serial": "C39X"}
    failing |= {"platform": "ios", "state": "noncompliant", "why": ["It has no passcode."]}
    calls.answers["compliance", PREVIEWS] = {
        "applies_to": 41_233,
        "judged": 1000,
        "counts": {"compliant": 960, "noncompliant": 40},
        "worse": 38,
        "better": 2,
        "failing": [failing],
    }
    fields = {"definition": '{"name": "Stricter", "rules": []}', "version": "3", "reason": "a"}
    answer = await owner.post(f"{place}/preview", fields)
    text = words_of(answer)
    for said in (
        "for 41,233 managed devices. 1,000 of them were looked at",
        "38 would " + ("fail" if place == "/policies" else "stand worse than now") + ", 2 better.",
        "It has no passcode.",
        "The first 1 of 38.",
    ):
        assert said in text, said
    assert "<b>Ada" not in answer.text
    assert "&#34;Stricter&#34;" in answer.text  # what was typed is still there, and its version
    assert 'name="version" value="3"' in answer.text
    wanted: dict[str, Any] = {"name": "Stricter", "rules": []}
    if place != "/policies":
        wanted["policy_id"] = str(POLICY_ID)
    assert _said(calls) == [("POST", PREVIEWS, wanted)]


async def test_a_draft_for_nobody_is_told_apart_from_one_that_nobody_fails(
    owner: Browser, calls: RecordedCalls
) -> None:
    found = {"applies_to": 0, "judged": 0, "counts": {}, "worse": 0, "better": 0, "failing": []}
    calls.answers["compliance", PREVIEWS] = found
    draft = {"definition": '{"name": "x", "rules": []}'}
    assert "for no managed device" in words_of(await owner.post("/policies/preview", draft))
    calls.answers["compliance", PREVIEWS] = found | {"applies_to": 1, "judged": 1}
    text = words_of(await owner.post("/policies/preview", draft))
    assert "for 1 managed device." in text
    assert "Nobody would fail." in text


async def test_one_is_deleted_after_step_up_only(owner: Browser, calls: RecordedCalls) -> None:
    answer = await owner.post(f"/policies/{POLICY_ID}/delete")
    assert (answer.status, "Delete the policy Baseline" in words_of(answer)) == (403, True)
    assert _said(calls) == []


@pytest.mark.usefixtures("proven")
async def test_it_is_deleted(owner: Browser, calls: RecordedCalls) -> None:
    assert (await owner.post(f"/policies/{POLICY_ID}/delete")).status == 303
    assert _said(calls) == [("DELETE", ONE, None)]


async def test_who_may_only_read_sees_what_is_missing(view: Console) -> None:
    reader = await signed_in(view.service, everywhere=["compliance.read"])
    assert "compliance.write" in (await reader.get("/policies")).text
    assert "Editing needs the permission" in words_of(await reader.get(f"/policies/{POLICY_ID}"))
    assert (await reader.get("/policies/new")).status == 403
    assert (await reader.post("/policies", {"definition": "{}"})).status == 403
