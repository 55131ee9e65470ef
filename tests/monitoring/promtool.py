"""Prometheus's own judge of rules: `promtool`, from Debian's package `prometheus`, or any other."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

MISSING = (
    "promtool is not on this machine, so whether alerts fire was not tried: "
    "`apt-get install --no-install-recommends prometheus` brings it, or PROMTOOL names it"
)


def program() -> str:
    """Where promtool is. Without it a test is skipped and says so; in CI it fails."""
    found = os.environ.get("PROMTOOL") or shutil.which("promtool")
    if found is None and os.environ.get("MUSTER_TEST_PROMTOOL") == "required":
        pytest.fail(MISSING)
    if found is None:
        pytest.skip(MISSING)
    return found


def run(*arguments: str | Path) -> str:
    """What promtool says; the test fails when it finds fault."""
    done = subprocess.run(
        [program(), *map(str, arguments)], capture_output=True, text=True, timeout=110, check=False
    )
    said = done.stdout + done.stderr
    assert done.returncode == 0, said
    return said


@dataclass
class Trial:
    """Rules of some names out of the committed files, and what they are tried with."""

    rules: list[dict[str, Any]]
    groups: list[dict[str, Any]]

    @classmethod
    def of(cls, rule_files: list[Path], names: set[str], groups: list[dict[str, Any]]) -> Trial:
        """Only the rules that matter: each is evaluated every minute of every group."""
        files = [yaml.safe_load(path.read_text(encoding="utf-8")) for path in rule_files]
        every = [rule for file in files for group in file["groups"] for rule in group["rules"]]
        found = [rule for rule in every if (rule.get("alert") or rule.get("record")) in names]
        return cls(found, groups)


def try_rules(folder: Path, trials: Iterable[Trial]) -> None:
    """Feed series to rules, and compare what fires; each group begins from nothing."""
    paths = []
    for number, trial in enumerate(trials):
        rules, tests = folder / f"rules-{number}.yaml", folder / f"tests-{number}.yaml"
        rules.write_text(yaml.safe_dump({"groups": [{"name": "tried", "rules": trial.rules}]}))
        document = {
            "rule_files": [str(rules)],
            "evaluation_interval": "1m",
            "tests": trial.groups,
        }
        tests.write_text(yaml.safe_dump(document))
        paths.append(tests)
    run("test", "rules", *paths)


def group(
    name: str, at: str, series: dict[str, str], asked: str, answer: dict[str, float]
) -> dict[str, Any]:
    """One test: after `at` of these series, `asked` is answered by `answer`, value by labels."""
    return {
        "name": name,
        "interval": "1m",
        "input_series": [{"series": key, "values": str(value)} for key, value in series.items()],
        "promql_expr_test": [
            {
                "expr": asked,
                "eval_time": at,
                "exp_samples": [
                    {"labels": labels, "value": value} for labels, value in answer.items()
                ],
            }
        ],
    }
