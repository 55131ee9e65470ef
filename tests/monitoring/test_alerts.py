"""Every alert fires when it should and keeps quiet when it should not: promtool tries them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.monitoring import promtool
from tools.monitoring import alerts

CASES: dict[str, dict[str, Any]] = yaml.safe_load(
    (Path(__file__).parent / "alerts.yaml").read_text(encoding="utf-8")
)


def test_every_alert_is_tried() -> None:
    assert set(CASES) == {alert.name for alert in alerts.CAUSES}


def test_the_rules_are_well_formed(rule_files: list[Path]) -> None:
    said = promtool.run("check", "rules", *rule_files)
    assert "SUCCESS" in said
    assert "FAILED" not in said


def test_alerts_fire_when_they_should_and_only_then(tmp_path: Path, rule_files: list[Path]) -> None:
    severities = {alert.name: alert.severity for alert in alerts.CAUSES}
    trials = []
    for name, case in CASES.items():
        firing = f'ALERTS{{alertname="{name}",alertstate="firing"}}'
        asked = f"count by (alertname, severity) ({firing})"
        yes: dict[str, float] = {f'{{alertname="{name}",severity="{severities[name]}"}}': 1}
        groups = [
            promtool.group(f"{name} {what}", case["at"], case[what], asked, answer)
            for what, answer in (("fires", yes), ("also fires", yes), ("quiet", {}))
            if what in case
        ]
        trials.append(promtool.Trial.of(rule_files, {name}, groups))
    promtool.try_rules(tmp_path, trials)


def test_a_rule_that_does_not_fire_would_be_noticed(tmp_path: Path, rule_files: list[Path]) -> None:
    """The tests above would fail: an empty answer is not taken for a firing alert."""
    series = {'muster_consumer_stopped{service="inventory"}': "0x20"}
    asked = 'count by (alertname) (ALERTS{alertname="MusterConsumerStopped",alertstate="firing"})'
    wanted = {'{alertname="MusterConsumerStopped"}': 1.0}
    wrong = promtool.group("wrong", "5m", series, asked, wanted)
    promtool.program()
    with pytest.raises(AssertionError, match="FAILED"):
        promtool.try_rules(
            tmp_path, [promtool.Trial.of(rule_files, {"MusterConsumerStopped"}, [wrong])]
        )
