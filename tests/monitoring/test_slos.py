"""The objectives' alerts: which of the four windows fires at which share of errors."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.monitoring import promtool
from tools.monitoring.slos import OBJECTIVES, RECORDED, WINDOWS, Objective

MINUTE = 100_000  # requests: enough that the smallest budget is whole requests


def series(objective: Objective, bad: int, *, steps: int = 60) -> dict[str, str]:
    """`bad` of the MINUTE observations of each minute are not as promised."""
    metric = {
        "devices_answered": "muster_http_request_seconds",
        "devices_fast": "muster_http_request_seconds",
        "pushes_in_time": "muster_push_notifier_queued_to_push_seconds",
        "events_in_time": "muster_event_effect_seconds",
    }[objective.name]
    bound = {"devices_fast": "0.25", "pushes_in_time": "5.0", "events_in_time": "10.0"}
    if objective.name == "devices_answered":
        route = 'route="/mdm/apple/connect"'
        return {
            f'{metric}_count{{{route},status="200"}}': f"0+{MINUTE - bad}x{steps}",
            f'{metric}_count{{{route},status="503"}}': f"0+{bad}x{steps}",
            f'{metric}_count{{route="/api/v1/commands",status="500"}}': f"0+{MINUTE}x{steps}",
        }
    route = 'route="/mdm/apple/connect",' if objective.name == "devices_fast" else ""
    le = bound[objective.name]
    return {
        f'{metric}_bucket{{{route}le="{le}"}}': f"0+{MINUTE - bad}x{steps}",
        f"{metric}_count{{{route.rstrip(',')}}}": f"0+{MINUTE}x{steps}",
    }


def of(objective: Objective, rule_files: list[Path], groups: list[Any]) -> promtool.Trial:
    """The objective's alerts and the ratios they look at; of others' ratios nothing comes."""
    recorded = {RECORDED + window for window in WINDOWS}
    trial = promtool.Trial.of(rule_files, {objective.alert, *recorded}, groups)
    trial.rules = [rule for rule in trial.rules if rule["labels"]["slo"] == objective.name]
    return trial


def asked(objective: Objective) -> str:
    firing = f'ALERTS{{alertname="{objective.alert}",alertstate="firing"}}'
    return f"count by (severity, window) ({firing})"


@pytest.mark.parametrize("objective", OBJECTIVES, ids=lambda one: one.name)
def test_the_faster_the_budget_burns_the_more_windows_call(
    objective: Objective, tmp_path: Path, rule_files: list[Path]
) -> None:
    windows = [(1, "ticket", "3d"), (3, "ticket", "1d"), (6, "page", "6h"), (14.4, "page", "1h")]
    groups = []
    for pace in (0.5, 1.5, 4, 8, 16):
        bad = round(MINUTE * objective.budget * pace)
        calling: dict[str, float] = {
            f'{{severity="{severity}",window="{window}"}}': 1.0
            for factor, severity, window in windows
            if pace > factor
        }
        name = f"{objective.name} at {pace} times its pace"
        groups.append(
            promtool.group(name, "30m", series(objective, bad), asked(objective), calling)
        )
    promtool.try_rules(tmp_path, [of(objective, rule_files, groups)])


@pytest.mark.parametrize("objective", OBJECTIVES, ids=lambda one: one.name)
def test_a_fault_that_is_over_stops_calling_and_silence_is_no_fault(
    objective: Objective, tmp_path: Path, rule_files: list[Path]
) -> None:
    """The short window forgets quickly; where nothing comes there is no ratio."""
    over = {
        key: f"{value} {_last(value)}+{0 if '503' in key else MINUTE}x30"
        for key, value in series(objective, MINUTE // 2, steps=60).items()
    }
    still = dict.fromkeys(over, "5x120")
    page = f'count(ALERTS{{alertname="{objective.alert}",alertstate="firing",window="1h"}})'
    groups = [
        promtool.group("while it lasts", "60m", over, page, {"{}": 1.0}),
        promtool.group("when it is over", "80m", over, page, {}),
        promtool.group("without traffic", "80m", still, page, {}),
    ]
    promtool.try_rules(tmp_path, [of(objective, rule_files, groups)])


def _last(series: str) -> int:
    """The last value of `0+STEPxTIMES`."""
    step, times = series.removeprefix("0+").split("x")
    return int(step) * int(times)
