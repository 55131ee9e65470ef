"""`muster.compliance.v1`: verdicts. Written by compliance."""

from __future__ import annotations

from enum import StrEnum
from typing import Any, ClassVar
from uuid import UUID

from pydantic import AwareDatetime

from shared.events.base import Event, Part, Short


class VerdictState(StrEnum):
    COMPLIANT = "compliant"
    NONCOMPLIANT = "noncompliant"
    NOT_EVALUATED = "not_evaluated"
    STALE = "stale"
    ERROR = "error"
    NOT_APPLICABLE = "not_applicable"


class Finding(Part):
    """What one rule found."""

    rule: Short
    state: VerdictState
    reason: Short
    expected: Any = None
    observed: Any = None
    observed_at: AwareDatetime | None = None
    evidence: UUID | None = None
    """The id of the event that carried the observation."""


class VerdictChanged(Event):
    TYPE: ClassVar[str] = "muster.compliance.verdict_changed.v1"
    TOPIC: ClassVar[str] = "muster.compliance.v1"
    device_id: UUID
    policy_id: UUID
    policy_version: int
    policy_name: Short
    state: VerdictState
    previous: VerdictState | None = None
    findings: list[Finding]
    evaluated_at: AwareDatetime


class PolicyChanged(Event):
    TYPE: ClassVar[str] = "muster.compliance.policy_changed.v1"
    TOPIC: ClassVar[str] = "muster.compliance.v1"
    policy_id: UUID
    version: int
    name: Short
    actor: Short
    deleted: bool = False

    @property
    def subject(self) -> str:
        return str(self.policy_id)
