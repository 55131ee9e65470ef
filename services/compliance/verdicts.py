"""From findings to the verdict of a policy on a device, and from verdicts to the device's state.

The ladder, worst first: noncompliant (known to fail), error (could not be judged), stale (was
known), not_evaluated (never known), compliant. A verdict is compliant only when every rule that
applies is; rules that do not apply do not count. A policy that applies to nothing on a device, or
whose device is not managed, is not_applicable. A device takes the worst of its policies, and
not_evaluated when none applies: nobody vouches for it (enterprise.md §2.3, rule 1).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Final
from uuid import UUID

from services.compliance.inputs import Device
from services.compliance.judgements import Judgement, judge
from services.compliance.policies import Policy
from shared.events.compliance import VerdictState

LADDER: Final = (
    VerdictState.NONCOMPLIANT,
    VerdictState.ERROR,
    VerdictState.STALE,
    VerdictState.NOT_EVALUATED,
    VerdictState.COMPLIANT,
)
_SETTLED: Final = frozenset({VerdictState.COMPLIANT, VerdictState.NOT_APPLICABLE})


@dataclass(frozen=True)
class Verdict:
    """A policy's verdict on a device, with the finding of each rule."""

    device_id: UUID
    policy_id: UUID
    policy_version: int
    state: VerdictState
    findings: tuple[Judgement, ...]
    evaluated_at: datetime

    @property
    def due_at(self) -> datetime | None:
        """When time alone will change a finding."""
        return min((f.due_at for f in self.findings if f.due_at), default=None)

    def differs(self, last: Verdict | None) -> bool:
        """Whether the others should hear of it: the verdict itself, or the why, changed.

        A policy that never applied is no news.
        """
        if last is None:
            return self.state is not VerdictState.NOT_APPLICABLE
        return self.state is not last.state or _why(self) != _why(last)


@dataclass(frozen=True)
class Occasion:
    """Why a device is judged: which inputs changed (None: anything may have).

    `confirmed`: they were only reported again, unchanged. What is compliant stays so, and need not
    be looked at: its due time does that when it comes.
    """

    changed: frozenset[str] | None = None
    confirmed: bool = False

    def concerns(self, policy: Policy) -> bool:
        return self.changed is None or not self.changed.isdisjoint(policy.reads)


def _why(verdict: Verdict) -> set[tuple[str, VerdictState, str]]:
    return {(f.rule, f.state, f.reason) for f in verdict.findings}


def worst(states: Iterable[VerdictState]) -> VerdictState:
    """The first of the ladder that occurs; not_applicable when none does."""
    found = set(states)
    return next((state for state in LADDER if state in found), VerdictState.NOT_APPLICABLE)


def applies(policy: Policy, device: Device) -> bool:
    """Whether a policy judges a device at all."""
    where = policy.definition.applicability
    return (
        device.managed
        and (not where.platforms or device.platform in where.platforms)
        and (not where.ownership or device.ownership in where.ownership)
        and (not where.tags or not device.tags.isdisjoint(where.tags))
    )


def reach(
    policy: Policy, device: Device, last: Verdict | None, occasion: Occasion, now: datetime
) -> Verdict | None:
    """Judge a device by a policy; None when the occasion concerns none of its findings.

    Only rules that read what changed are judged again; the others keep their findings, as long as
    these are of the same version of the policy.
    """
    known: dict[str, Judgement] = {}
    if last is not None and last.policy_version == policy.version:
        known = {finding.rule: finding for finding in last.findings}
    findings: list[Judgement] = []
    judged = False
    if applies(policy, device):
        for rule in policy.definition.rules:
            kept = known.get(rule.id)
            if kept is None or _is_open(kept, rule.reads, occasion):
                findings.append(judge(rule, device, policy, now, kept))
                judged = True
            else:
                findings.append(kept)
    same = last is not None and last.policy_version == policy.version
    if not judged and same and len(findings) == len(known):
        return None
    return Verdict(
        device_id=device.device_id,
        policy_id=policy.policy_id,
        policy_version=policy.version,
        state=worst(finding.state for finding in findings),
        findings=tuple(findings),
        evaluated_at=now,
    )


def _is_open(kept: Judgement, reads: frozenset[str], occasion: Occasion) -> bool:
    if occasion.changed is not None and occasion.changed.isdisjoint(reads):
        return False
    return not (occasion.confirmed and kept.state in _SETTLED)
