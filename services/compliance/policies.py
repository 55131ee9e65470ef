"""What a policy says, and to which devices."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from datetime import timedelta
from functools import cached_property
from typing import Annotated, Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, field_validator

from services.compliance.rules import Label, Rule
from shared.events.devices import Ownership, Platform

Hours = Annotated[float, Field(ge=0, le=24 * 120)]


class Applicability(BaseModel):
    """Which devices a policy judges: each list that is not empty must name the device."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    platforms: list[Platform] = Field(default=[], max_length=20)
    ownership: list[Ownership] = Field(default=[], max_length=5)
    tags: list[Label] = Field(default=[], max_length=100)
    """One of these."""


class Definition(BaseModel):
    """All that people decide about a policy; each change of it is a new version."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Label
    description: Annotated[str, StringConstraints(max_length=2000, pattern=r"^[^\x00]*$")] = ""
    applicability: Applicability = Applicability()
    rules: list[Rule] = Field(min_length=1, max_length=100)
    inputs_ttl_hours: Annotated[float, Field(ge=2, le=24 * 120)] = 72
    """How long a report counts; then a finding is stale."""
    stale_noncompliant_after_hours: Hours | None = None
    """How long a finding may be stale until it counts as noncompliant; None: for ever."""
    error_hold_hours: Annotated[float, Field(ge=0, le=168)] = 24
    """How long a rule that cannot be judged keeps its last finding."""
    after_error: Literal["error", "noncompliant", "compliant"] = "error"
    """What holds afterwards: fail closed (noncompliant), open (compliant), or say so."""

    @field_validator("rules")
    @classmethod
    def _distinct(cls, rules: list[Rule]) -> list[Rule]:
        twice = [name for name, count in Counter(rule.id for rule in rules).items() if count > 1]
        if twice:
            raise ValueError(f"two rules have the id {twice[0]}: give each rule an id of its own")
        return rules


class Policy(BaseModel):
    """One version of a policy."""

    model_config = ConfigDict(frozen=True)

    policy_id: UUID
    version: int
    definition: Definition

    @cached_property
    def reads(self) -> frozenset[str]:
        """The inputs of all its rules."""
        return frozenset().union(*(rule.reads for rule in self.definition.rules))

    @property
    def inputs(self) -> tuple[list[str], list[str]]:
        """The facts and the applications that its rules read."""
        return named(self.reads, "fact:"), named(self.reads, "app:")

    @property
    def ttl(self) -> timedelta:
        return timedelta(hours=self.definition.inputs_ttl_hours)

    @property
    def error_hold(self) -> timedelta:
        return timedelta(hours=self.definition.error_hold_hours)

    @property
    def stale_limit(self) -> timedelta | None:
        hours = self.definition.stale_noncompliant_after_hours
        return None if hours is None else timedelta(hours=hours)


def named(reads: Iterable[str], prefix: str) -> list[str]:
    """The inputs of one kind, without its prefix."""
    return sorted(name.removeprefix(prefix) for name in reads if name.startswith(prefix))
