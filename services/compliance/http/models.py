"""What compliance's API takes and answers."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from pydantic import BaseModel, Field

from services.compliance.policies import Definition
from services.compliance.rules import Label
from shared.events.compliance import VerdictState
from shared.runtime.http import Page


class _Sent(Definition):
    def definition(self) -> Definition:
        return Definition.model_validate(self.model_dump(include=set(Definition.model_fields)))


class NewPolicy(_Sent):
    reason: Label | None = None
    """Why; for the audit."""


class ChangedPolicy(NewPolicy):
    expected_version: int | None = Field(default=None, ge=1)
    """Refuse the change when the policy is no longer at this version."""


class Created(BaseModel):
    policy_id: UUID


class Draft(_Sent):
    policy_id: UUID | None = None
    """The policy whose next version it would be: then changes are told, not only states."""


class FailingDevice(BaseModel):
    device_id: UUID
    name: str | None
    serial: str | None
    platform: str
    state: VerdictState
    why: list[str]
    """A sentence for each of the worst findings, three at most."""


class PreviewView(BaseModel):
    applies_to: int
    """Managed devices that the draft is for."""
    judged: int
    """How many of these were judged for what follows: a thousand at most, from all over."""
    counts: dict[VerdictState, int]
    worse: int
    """How many would stand lower than now; of a new policy, how many would fail."""
    better: int
    failing: list[FailingDevice]
    """Of the worse ones, twenty at most."""


class RolloutView(BaseModel):
    judged: int
    started_at: datetime
    finished_at: datetime | None


class PolicyView(Definition):
    policy_id: UUID
    version: int
    created_at: datetime
    changed_at: datetime
    changed_by: str
    counts: dict[VerdictState, int]
    """Devices by verdict; every state is named."""
    rollout: RolloutView | None = None
    """How far the last change has come through the fleet."""


class PolicyList(BaseModel):
    items: list[PolicyView]
    next: str | None


class VersionView(BaseModel):
    version: int
    definition: Definition
    changed_at: datetime
    changed_by: str
    reason: str | None


class VersionList(BaseModel):
    items: list[VersionView]
    next: str | None


class FindingView(BaseModel):
    rule: str
    state: VerdictState
    reason: str
    explanation: str
    expected: Any = None
    observed: Any = None
    observed_at: datetime | None = None
    evidence: UUID | None = None
    """The id of the event that carried the observation."""


class VerdictView(BaseModel):
    device_id: UUID
    policy_id: UUID
    policy_name: str
    policy_version: int
    state: VerdictState
    findings: list[FindingView]
    evaluated_at: datetime
    changed_at: datetime
    """Since when it is in this state."""


class VerdictRow(VerdictView):
    device_name: str | None
    serial: str | None
    platform: str | None


class VerdictQuery(Page):
    policy: UUID | None = None
    state: VerdictState | None = None


class VerdictList(BaseModel):
    items: list[VerdictRow]
    next: str | None


class DeviceQuery(Page):
    state: VerdictState | None = None


class DeviceRow(BaseModel):
    device_id: UUID
    name: str | None
    serial: str | None
    platform: str
    state: VerdictState
    """The worst of its verdicts; not_evaluated: no policy applies to it."""


class DeviceList(BaseModel):
    items: list[DeviceRow]
    next: str | None


class DeviceVerdicts(DeviceRow):
    counts: dict[VerdictState, int]
    items: list[VerdictView]
    next: str | None = None


class PolicyCounts(BaseModel):
    policy_id: UUID
    counts: dict[VerdictState, int]


class Summary(BaseModel):
    devices: dict[VerdictState, int]
    """Managed devices by their state over all policies."""
    policies: list[PolicyCounts]
