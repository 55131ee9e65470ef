"""Every rule in every state, by tables: what is known and the time decide, nothing else."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from pydantic import TypeAdapter, ValidationError

from services.compliance.baseline import BASELINE
from services.compliance.explanations import REASONS
from services.compliance.inputs import Device, Input
from services.compliance.judgements import Judgement, judge
from services.compliance.policies import Definition, Policy
from services.compliance.rules import Rule
from services.compliance.verdicts import Occasion, Verdict, applies, reach, worst
from shared.events.compliance import VerdictState

NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)
EVENT = uuid4()
RULE: TypeAdapter[Rule] = TypeAdapter(Rule)
C, N, X, S, E, A = (
    VerdictState.COMPLIANT,
    VerdictState.NONCOMPLIANT,
    VerdictState.NOT_EVALUATED,
    VerdictState.STALE,
    VerdictState.ERROR,
    VerdictState.NOT_APPLICABLE,
)


def ago(hours: float) -> datetime:
    return NOW - timedelta(hours=hours)


def device(facts: dict[str, Any] | None = None, **changes: Any) -> Device:
    values: dict[str, Any] = {
        "device_id": UUID(int=7),
        "platform": "ios",
        "ownership": "corporate",
        "since": ago(1000),
        "facts": {name: Input(value, ago(1), EVENT) for name, value in (facts or {}).items()},
    }
    return Device(**values | changes)


def policy(*rules: dict[str, Any], version: int = 1, **changes: Any) -> Policy:
    definition = Definition.model_validate({"name": "P", "rules": list(rules), **changes})
    return Policy(policy_id=UUID(int=1), version=version, definition=definition)


def judged(rule: dict[str, Any], given: Device, now: datetime = NOW, **changes: Any) -> Judgement:
    whole = policy(rule, **changes)
    return judge(whole.definition.rules[0], given, whole, now)


PASSCODE = {"kind": "passcode_present"}
OS = {"kind": "os_at_least", "versions": {"ios": "17.2", "macos": "14"}}
FORBIDDEN = {"kind": "app_forbidden", "identifiers": ["bad.one", "bad.two"]}
REQUIRED = {"kind": "app_required", "identifiers": ["vpn", "edr"]}
SEEN = {"kind": "last_seen_within", "hours": 48}
SIP = {"kind": "attribute", "fact": "sip.enabled", "operator": "eq", "value": True}


def apps(*identifiers: str, listed: float | None = 1, **changes: Any) -> Device:
    found = {name: Input("1", ago(500), uuid4()) for name in identifiers}
    reported = None if listed is None else Input(None, ago(listed), EVENT)
    return device(applications=found, application_list=reported, **changes)


@pytest.mark.parametrize(
    ("rule", "given", "state", "reason", "observed"),
    [
        (PASSCODE, device({"passcode.present": True}), C, "met", True),
        (PASSCODE, device({"passcode.present": False}), N, "passcode_missing", False),
        (PASSCODE, device(), X, "not_reported", None),
        (PASSCODE, device({"passcode.present": "yes"}), E, "value_unreadable", "yes"),
        ({"kind": "encryption_on"}, device({"encryption.enabled": True}), C, "met", True),
        (
            {"kind": "encryption_on"},
            device({"encryption.enabled": False}),
            N,
            "not_encrypted",
            False,
        ),
        (OS, device({"os.version": "17.10"}), C, "met", "17.10"),
        (OS, device({"os.version": "17.1.9"}), N, "os_too_old", "17.1.9"),
        (OS, device({"os.version": "14.0"}, platform="macos"), C, "met", "14.0"),
        (OS, device({"os.version": "9"}, platform="tvos"), A, "other_platform", None),
        (OS, device({"os.version": "new"}), E, "value_unreadable", "new"),
        (OS, device({"os.version": 17}), N, "os_too_old", 17),
        (OS, device(), X, "not_reported", None),
        ({**PASSCODE, "platforms": ["macos"]}, device(), A, "other_platform", None),
        (FORBIDDEN, apps("good"), C, "met", []),
        (FORBIDDEN, apps("bad.two", "good"), N, "app_forbidden", ["bad.two"]),
        (FORBIDDEN, apps("bad.two", listed=None), X, "not_reported", None),
        (FORBIDDEN, apps(listed=1001), X, "not_reported", None),
        (REQUIRED, apps("vpn", "edr"), C, "met", ["vpn", "edr"]),
        (REQUIRED, apps("vpn"), N, "app_missing", ["vpn"]),
        (REQUIRED, apps(listed=None), X, "not_reported", None),
        (SEEN, device(seen=Input(None, ago(47))), C, "met", ago(47).isoformat()),
        (SEEN, device(seen=Input(None, ago(48))), N, "not_seen", ago(48).isoformat()),
        (SEEN, device(), X, "not_reported", None),
        (SIP, device({"sip.enabled": True}), C, "met", True),
        (SIP, device({"sip.enabled": False}), N, "attribute_differs", False),
        (SIP, device({"sip.enabled": 1}), E, "value_unreadable", 1),
        (SIP, device(), X, "not_reported", None),
    ],
)
def test_rules(
    rule: dict[str, Any], given: Device, state: VerdictState, reason: str, observed: Any
) -> None:
    found = judged(rule, given)
    assert (found.state, found.reason, found.observed) == (state, reason, observed)
    assert reason in REASONS


def test_a_finding_names_its_proof() -> None:
    found = judged(PASSCODE, device({"passcode.present": True}))
    assert (found.expected, found.observed_at, found.evidence) == (True, ago(1), EVENT)
    bad = apps("bad.one")
    assert judged(FORBIDDEN, bad).evidence == bad.applications["bad.one"].evidence
    assert judged(FORBIDDEN, apps()).evidence == EVENT


def test_what_was_reported_before_the_device_enrolled_again_does_not_count() -> None:
    given = device({"passcode.present": True}, since=ago(0.5))
    assert judged(PASSCODE, given).reason == "not_reported"


@pytest.mark.parametrize(
    ("age", "limit", "state", "reason", "due_in"),
    [
        (0, None, C, "met", 72),
        (71.9, None, C, "met", 0.1),
        (72, None, S, "inputs_stale", None),
        (9999, None, S, "inputs_stale", None),
        (72, 24, S, "inputs_stale", 24),
        (95.9, 24, S, "inputs_stale", 0.1),
        (96, 24, N, "inputs_stale_too_long", None),
        (72, 0, N, "inputs_stale_too_long", None),
    ],
)
def test_reports_grow_old(
    age: float, limit: float | None, state: VerdictState, reason: str, due_in: float | None
) -> None:
    given = device(facts={"passcode.present": True}, since=None)
    now = NOW + timedelta(hours=age - 1)
    found = judged(PASSCODE, given, now, stale_noncompliant_after_hours=limit)
    assert (found.state, found.reason) == (state, reason)
    due = None if due_in is None else now + timedelta(hours=due_in)
    assert found.due_at == due


def test_silence_is_due_at_its_own_hour_and_does_not_go_stale() -> None:
    given = device(seen=Input(None, ago(47)))
    assert judged(SEEN, given, inputs_ttl_hours=2).due_at == NOW + timedelta(hours=1)
    silent = device(seen=Input(None, ago(500)))
    assert judged(SEEN, silent, inputs_ttl_hours=2).state is N


@pytest.mark.parametrize("before", [C, N])
@pytest.mark.parametrize(
    ("after_error", "state"), [("error", E), ("noncompliant", N), ("compliant", C)]
)
def test_a_rule_that_cannot_be_judged_keeps_its_last_finding_for_a_while(
    before: VerdictState, after_error: str, state: VerdictState
) -> None:
    whole = policy(PASSCODE, error_hold_hours=24, after_error=after_error)
    rule = whole.definition.rules[0]
    known = judge(rule, device({"passcode.present": before is C}), whole, NOW)
    broken = device({"passcode.present": "?"})
    held = judge(rule, broken, whole, NOW, known)
    assert (held.state, held.reason) == (before, "error_held")
    assert held.due_at == NOW + timedelta(hours=24)
    held = judge(rule, broken, whole, NOW + timedelta(hours=23), held)
    assert (held.state, held.due_at) == (before, NOW + timedelta(hours=24))
    over = judge(rule, broken, whole, NOW + timedelta(hours=24), held)
    assert (over.state, over.reason) == (state, "value_unreadable")
    fine = judge(rule, device({"passcode.present": True}), whole, NOW, over)
    assert (fine.state, fine.error_since, fine.before_error) == (C, None, None)


def test_an_error_without_a_last_finding_is_an_error_at_once() -> None:
    assert judged(PASSCODE, device({"passcode.present": "?"})).state is E


@pytest.mark.parametrize(
    ("states", "expected"),
    [
        ([C, C], C),
        ([C, A], C),
        ([A, A], A),
        ([], A),
        ([C, X], X),
        ([X, S], S),
        ([S, E], E),
        ([C, X, S, E, N, A], N),
    ],
)
def test_the_worst_of_the_ladder_counts(states: list[VerdictState], expected: VerdictState) -> None:
    assert worst(states) is expected


@pytest.mark.parametrize(
    ("where", "changes", "expected"),
    [
        ({}, {}, True),
        ({}, {"managed": False}, False),
        ({"platforms": ["ios"]}, {}, True),
        ({"platforms": ["macos", "ipados"]}, {}, False),
        ({"ownership": ["corporate"]}, {}, True),
        ({"ownership": ["personal"]}, {}, False),
        ({"tags": ["lab", "kiosk"]}, {"tags": frozenset({"kiosk"})}, True),
        ({"tags": ["lab"]}, {"tags": frozenset({"kiosk"})}, False),
        ({"platforms": ["ios"], "tags": ["lab"]}, {}, False),
    ],
)
def test_applicability(where: dict[str, Any], changes: dict[str, Any], expected: bool) -> None:
    assert applies(policy(PASSCODE, applicability=where), device(**changes)) is expected


def reached(
    whole: Policy, given: Device, last: Verdict | None = None, occasion: Occasion | None = None
) -> Verdict | None:
    return reach(whole, given, last, occasion or Occasion(), NOW)


def test_only_rules_that_read_what_changed_are_judged_again() -> None:
    whole = policy(PASSCODE, SIP)
    good = device({"passcode.present": True, "sip.enabled": True})
    bad = device({"passcode.present": False, "sip.enabled": False})
    first = reached(whole, good)
    assert first is not None
    assert first.state is C
    again = reached(whole, bad, first, Occasion(frozenset({"fact:sip.enabled"})))
    assert again is not None
    assert [finding.state for finding in again.findings] == [C, N]
    assert reached(whole, bad, first, Occasion(frozenset({"fact:battery.level"}))) is None


def test_a_confirmation_leaves_alone_what_is_settled() -> None:
    whole = policy(PASSCODE)
    confirmed = Occasion(frozenset({"fact:passcode.present"}), confirmed=True)
    good = reached(whole, device({"passcode.present": True}))
    assert reached(whole, device({"passcode.present": False}), good, confirmed) is None
    unknown = reached(whole, device())
    told = reached(whole, device({"passcode.present": True}), unknown, confirmed)
    assert told is not None
    assert told.state is C


def test_another_version_keeps_no_finding() -> None:
    given = device({"passcode.present": True})
    first = reached(policy(PASSCODE), given)
    second = reached(policy(PASSCODE, version=2), given, first, Occasion(frozenset({"seen"})))
    assert second is not None
    assert second.policy_version == 2


def test_a_policy_that_no_longer_applies_says_so() -> None:
    whole = policy(PASSCODE, applicability={"tags": ["lab"]})
    inside = device({"passcode.present": True}, tags=frozenset({"lab"}))
    first = reached(whole, inside)
    left = reached(whole, device(), first)
    assert left is not None
    assert (left.state, left.findings, left.differs(first)) == (A, (), True)
    assert not left.differs(None)
    assert reached(whole, device(), left, Occasion(frozenset({"seen"}))) is None


def test_the_news_is_in_states_and_reasons_not_in_values() -> None:
    whole = policy(OS)
    first = reached(whole, device({"os.version": "17.4"}))
    newer = reached(whole, device({"os.version": "17.5"}), first)
    older = reached(whole, device({"os.version": "16"}), first)
    assert newer is not None
    assert older is not None
    assert not newer.differs(first)
    assert older.differs(first)
    assert first is not None
    assert first.differs(None)


@pytest.mark.parametrize(
    "rule",
    [
        {"kind": "passcode"},
        {"kind": "os_at_least", "versions": {}},
        {"kind": "os_at_least", "versions": {"ios": "new"}},
        {"kind": "os_at_least", "versions": {"amiga": "3"}},
        {"kind": "app_forbidden", "identifiers": []},
        {"kind": "app_forbidden", "identifiers": ["a\0"]},
        {"kind": "last_seen_within", "hours": 1},
        {"kind": "last_seen_within", "hours": float("nan")},
        {"kind": "passcode_present", "id": "Not A Slug"},
        {"kind": "passcode_present", "extra": 1},
        {"kind": "attribute", "fact": "no dots", "operator": "eq", "value": 1},
        {"kind": "attribute", "fact": "a.b", "operator": "like", "value": 1},
        {"kind": "attribute", "fact": "a.b", "operator": "eq", "value": [1]},
        {"kind": "attribute", "fact": "a.b", "operator": "in", "value": 1},
        {"kind": "attribute", "fact": "a.b", "operator": "ge", "value": "1"},
        {"kind": "attribute", "fact": "a.b", "operator": "ge", "value": True},
        {"kind": "attribute", "fact": "a.b", "operator": "eq", "value": float("inf")},
        {"kind": "attribute", "fact": "a.b", "operator": "version_at_least", "value": "x"},
        {"kind": "attribute", "fact": "a.b", "operator": "contains", "value": 1},
        {"kind": "attribute", "fact": "a.b", "operator": "eq", "value": None},
    ],
)
def test_rules_that_mean_nothing_are_refused(rule: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        RULE.validate_python(rule)


def test_rules_of_a_policy_have_ids_of_their_own() -> None:
    with pytest.raises(ValidationError, match="two rules have the id"):
        policy(PASSCODE, PASSCODE)
    assert [rule.id for rule in policy(PASSCODE, {**PASSCODE, "id": "b"}).definition.rules] == [
        "passcode_present",
        "b",
    ]


def test_policies_read_what_their_rules_read() -> None:
    assert policy(PASSCODE, SEEN, FORBIDDEN).reads == {
        "fact:passcode.present",
        "seen",
        "section:applications",
        "app:bad.one",
        "app:bad.two",
    }


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (device({"passcode.present": True, "encryption.enabled": True, "os.version": "17.4"}), C),
        (
            device({"encryption.enabled": True, "os.version": "14.2"}, platform="macos"),
            C,
        ),
        (
            device({"encryption.enabled": False, "os.version": "14.2"}, platform="macos"),
            N,
        ),
        (device({"passcode.present": True}), X),
    ],
)
def test_the_baseline_can_be_met_by_phones_and_macs(given: Device, expected: VerdictState) -> None:
    whole = Policy(policy_id=UUID(int=1), version=1, definition=BASELINE)
    seen = Device(**{**given.__dict__, "seen": Input(None, ago(1))})
    found = reached(whole, seen)
    assert found is not None
    assert found.state is expected


def test_a_stored_judgement_comes_back_whole() -> None:
    held = judged(PASSCODE, device({"passcode.present": "?"}))
    stored = held.model_dump(mode="json", exclude_none=True)
    assert Judgement.model_validate(stored) == held
    assert set(held.told().model_dump()) == set(type(held.told()).model_fields)
    assert "error_since" not in held.told().model_dump()
