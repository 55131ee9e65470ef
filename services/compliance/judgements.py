"""Judging one rule on one device: pure functions of what is known and of the time.

A finding is about a report, and ages with it: after the policy's `inputs_ttl_hours` it is stale,
later, if the policy says so, noncompliant (enterprise.md §2.3, rule 2). A rule that cannot be
judged keeps its last finding for a while (rule 3).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import Any, Final

from services.compliance import comparisons, versions
from services.compliance.inputs import Device, Input
from services.compliance.policies import Policy
from services.compliance.rules import (
    AppForbidden,
    AppRequired,
    Attribute,
    BaseRule,
    EncryptionOn,
    LastSeenWithin,
    OsAtLeast,
    PasscodePresent,
)
from shared.events.compliance import Finding, VerdictState

COMPLIANT, NONCOMPLIANT = VerdictState.COMPLIANT, VerdictState.NONCOMPLIANT
_MAX_NAMED: Final = 20
"""Applications a finding names."""


class Judgement(Finding):
    """A finding, and what is needed to go on from it."""

    due_at: datetime | None = None
    """When time alone will change it."""
    error_since: datetime | None = None
    before_error: VerdictState | None = None

    def told(self) -> Finding:
        """What the others hear."""
        return Finding.model_validate(self.model_dump(include=set(Finding.model_fields)))


def judge(
    rule: BaseRule, device: Device, policy: Policy, now: datetime, last: Judgement | None = None
) -> Judgement:
    """Judge a rule; `last` is the finding of the same version of the rule, if there is one."""
    if rule.platforms and device.platform not in rule.platforms:
        return _not_applicable(rule)
    found = _EVALUATORS[type(rule)](rule, device, now)
    if not isinstance(rule, LastSeenWithin):
        found = _aged(found, policy, now)
    return _held(found, last, policy, now)


def _aged(found: Judgement, policy: Policy, now: datetime) -> Judgement:
    if found.observed_at is None:
        return found
    expires = found.observed_at + policy.ttl
    if now < expires:
        return found.model_copy(update={"due_at": expires})
    limit = None if policy.stale_limit is None else expires + policy.stale_limit
    if limit is not None and now >= limit:
        return _as(found, NONCOMPLIANT, "inputs_stale_too_long")
    return _as(found, VerdictState.STALE, "inputs_stale", due_at=limit)


def _held(found: Judgement, last: Judgement | None, policy: Policy, now: datetime) -> Judgement:
    if found.state is not VerdictState.ERROR:
        return found
    since = (last.error_since if last else None) or now
    before = last.before_error if last and last.error_since else (last.state if last else None)
    memory = {"error_since": since, "before_error": before}
    until = since + policy.error_hold
    if before in (COMPLIANT, NONCOMPLIANT) and now < until:
        due = min(until, found.due_at or until)
        return _as(found, before, "error_held", due_at=due).model_copy(update=memory)
    after = VerdictState(policy.definition.after_error)
    return _as(found, after, "value_unreadable", due_at=found.due_at).model_copy(update=memory)


def _as(
    found: Judgement, state: VerdictState, reason: str, due_at: datetime | None = None
) -> Judgement:
    return found.model_copy(update={"state": state, "reason": reason, "due_at": due_at})


def _not_applicable(rule: BaseRule) -> Judgement:
    return Judgement(rule=rule.id, state=VerdictState.NOT_APPLICABLE, reason="other_platform")


def _never(rule: BaseRule, expected: Any) -> Judgement:
    """Judge without input: the device has not reported it in its present enrollment."""
    state = VerdictState.NOT_EVALUATED
    return Judgement(rule=rule.id, state=state, reason="not_reported", expected=expected)


def _found(
    rule: BaseRule,
    given: Input,
    reason: str,
    *,
    met: bool | None,
    expected: Any,
    observed: Any = None,
) -> Judgement:
    """Judge by a comparison: None means that it could not be made."""
    state = VerdictState.ERROR if met is None else COMPLIANT if met else NONCOMPLIANT
    return Judgement(
        rule=rule.id,
        state=state,
        reason="met" if met else reason,
        expected=expected,
        observed=given.value if observed is None else observed,
        observed_at=given.observed_at,
        evidence=given.evidence,
    )


def _flag(name: str, reason: str) -> Callable[[Any, Device, datetime], Judgement]:
    def evaluate(rule: BaseRule, device: Device, _now: datetime) -> Judgement:
        given = device.fact(name)
        if given is None:
            return _never(rule, expected=True)
        met = given.value if isinstance(given.value, bool) else None
        return _found(rule, given, reason, met=met, expected=True)

    return evaluate


def _os_at_least(rule: OsAtLeast, device: Device, _now: datetime) -> Judgement:
    wanted = {str(platform): text for platform, text in rule.versions.items()}
    expected = wanted.get(device.platform)
    if expected is None:
        return _not_applicable(rule)
    given = device.fact("os.version")
    if given is None:
        return _never(rule, expected)
    met = versions.at_least(str(given.value), expected)
    return _found(rule, given, "os_too_old", met=met, expected=expected)


def _app_forbidden(rule: AppForbidden, device: Device, _now: datetime) -> Judgement:
    reported = device.reported_applications()
    if reported is None:
        return _never(rule, expected=[])
    bad = [name for name in rule.identifiers if name in device.applications]
    proof = device.applications[bad[0]].evidence if bad else reported.evidence
    return _found(
        rule,
        Input(None, reported.observed_at, proof),
        "app_forbidden",
        met=not bad,
        expected=[],
        observed=bad[:_MAX_NAMED],
    )


def _app_required(rule: AppRequired, device: Device, _now: datetime) -> Judgement:
    expected = rule.identifiers[:_MAX_NAMED]
    reported = device.reported_applications()
    if reported is None:
        return _never(rule, expected)
    missing = [name for name in rule.identifiers if name not in device.applications]
    have = [name for name in expected if name in device.applications]
    return _found(rule, reported, "app_missing", met=not missing, expected=expected, observed=have)


def _last_seen_within(rule: LastSeenWithin, device: Device, now: datetime) -> Judgement:
    if device.seen is None:
        return _never(rule, expected=rule.hours)
    until = device.seen.observed_at + timedelta(hours=rule.hours)
    met = now < until
    found = _found(
        rule,
        device.seen,
        "not_seen",
        met=met,
        expected=rule.hours,
        observed=device.seen.observed_at.isoformat(),
    )
    return found.model_copy(update={"due_at": until if met else None})


def _attribute(rule: Attribute, device: Device, _now: datetime) -> Judgement:
    expected = {"operator": rule.operator, "value": rule.value}
    given = device.fact(rule.fact)
    if given is None:
        return _never(rule, expected)
    met = comparisons.holds(rule.operator, given.value, rule.value)
    return _found(rule, given, "attribute_differs", met=met, expected=expected)


_EVALUATORS: Final[Mapping[type[BaseRule], Callable[[Any, Device, datetime], Judgement]]] = {
    PasscodePresent: _flag("passcode.present", "passcode_missing"),
    EncryptionOn: _flag("encryption.enabled", "not_encrypted"),
    OsAtLeast: _os_at_least,
    AppForbidden: _app_forbidden,
    AppRequired: _app_required,
    LastSeenWithin: _last_seen_within,
    Attribute: _attribute,
}
