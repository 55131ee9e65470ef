"""Which events the bench takes for the effect of an answer, and which times it counts."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from shared.events import uuid7
from shared.events.compliance import VerdictChanged, VerdictState
from shared.events.inventory import FactChange, FactsChanged
from tools.bench.events import duration, tells_of_loss

NOW = datetime.now(UTC)


def fact(name: str, value: Any) -> FactsChanged:
    change = FactChange(name=name, value=value)
    return FactsChanged(device_id=uuid7(), observed_at=NOW, changes=[change])


def verdict(state: VerdictState) -> VerdictChanged:
    return VerdictChanged(
        device_id=uuid7(),
        policy_id=uuid7(),
        policy_version=1,
        policy_name="Baseline",
        state=state,
        findings=[],
        evaluated_at=NOW,
    )


@pytest.mark.parametrize(
    ("event", "is_it"),
    [
        (fact("passcode.present", value=False), True),
        (fact("passcode.present", value=True), False),
        (fact("os.version", value="26.0"), False),
        (verdict(VerdictState.NONCOMPLIANT), True),
        (verdict(VerdictState.COMPLIANT), False),
    ],
)
def test_only_what_follows_from_the_answer_counts(event: Any, *, is_it: bool) -> None:
    assert tells_of_loss(event) is is_it


def test_what_came_before_its_cause_is_another_s() -> None:
    line = duration("x", {"a": 10.0, "b": 10.0, "c": 10.0}, {"a": 10.5, "b": 9.0})
    assert (line["units"], line["missing"], line["p50_ms"]) == (1, 2, 500.0)
