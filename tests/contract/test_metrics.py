"""Metrics: one list a service, and every name that is written anywhere exists."""

from __future__ import annotations

import ast
import importlib
import re
from pathlib import Path

import pytest
from prometheus_client.metrics import MetricWrapperBase

ROOT = Path(__file__).resolve().parents[2]
CODE = sorted([*ROOT.glob("services/*/**/*.py"), *ROOT.glob("shared/**/*.py")])
LISTS = [path for path in CODE if path.name == "metrics.py"]
LISTS += sorted(ROOT.glob("tools/*/metrics.py"))
_NAME = re.compile(r"muster_[a-z_]+_(?:total|seconds|bytes|rows|records|items|open|ratio)\b")
_SUFFIXES = ("_total", "_bucket", "_count", "_sum", "_created")


def _module(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts)


def _defined() -> dict[str, str]:
    """Metric name (without suffix) to the module that lists it."""
    found = {}
    for path in LISTS:
        for value in vars(importlib.import_module(_module(path))).values():
            if isinstance(value, MetricWrapperBase):
                found[value._name] = _module(path)
    return found


def _base(name: str) -> str:
    for suffix in _SUFFIXES:
        name = name.removesuffix(suffix)
    return name


@pytest.mark.parametrize("path", CODE, ids=_module)
def test_metrics_are_made_in_the_list_only(path: Path) -> None:
    if path.name == "metrics.py":
        return
    nodes = list(ast.walk(ast.parse(path.read_text())))
    imported = {
        alias.name
        for node in nodes
        if isinstance(node, ast.ImportFrom) and node.module == "prometheus_client"
        for alias in node.names
    }
    called = {n.func.id for n in nodes if isinstance(n, ast.Call) and isinstance(n.func, ast.Name)}
    kinds = {"Counter", "Gauge", "Histogram", "Summary", "Info", "Enum"}
    assert imported & called & kinds == set()


def test_every_metric_named_anywhere_exists() -> None:
    defined = set(_defined())
    places = [*CODE, *ROOT.glob("deploy/**/*.y*ml"), *ROOT.glob("deploy/**/*.json")]
    places += [*ROOT.glob("docs/**/*.md"), *ROOT.glob("README.md")]
    unknown = {
        f"{path.relative_to(ROOT)}: {name}"
        for path in places
        for name in _NAME.findall(path.read_text())
        if _base(name) not in defined and name not in defined
    }
    assert unknown == set()


def test_names_carry_their_service() -> None:
    for name, module in _defined().items():
        owner = module.split(".")[1]
        if module.startswith("services."):
            short = {"command_queue": ("command",), "push_notifier": ("push",)}
            prefixes = (owner, *short.get(owner, ()))
            assert name.startswith(tuple(f"muster_{prefix}" for prefix in prefixes)), name
        else:
            assert name.startswith("muster_"), name


def test_no_metric_has_a_label_for_each_device() -> None:
    for path in LISTS:
        for value in vars(importlib.import_module(_module(path))).values():
            if isinstance(value, MetricWrapperBase):
                assert not set(value._labelnames) & {"device", "device_id", "serial", "udid"}
