"""Every expression can be read, asks for metrics and labels that exist, and leads to a runbook."""

from __future__ import annotations

import importlib
import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import promql_parser
import pytest
import yaml
from prometheus_client import Histogram
from prometheus_client.metrics import MetricWrapperBase

from tests.monitoring.conftest import ROOT
from tools.cli import generated, services
from tools.monitoring import dashboards, generate, rules
from tools.monitoring.slos import DEVICE_ROUTES

# What Prometheus and its client library tell besides ours, with the labels each may have.
_FOREIGN = {
    "up": set[str](),
    "ALERTS": set[str](),
    "process_cpu_seconds_total": set[str](),
    "process_resident_memory_bytes": set[str](),
    "process_open_fds": set[str](),
}
_ANYWHERE = {"job", "instance"}
_SUFFIXES = {"Histogram": ("_bucket", "_count", "_sum"), "Counter": ("_total",), "Gauge": ("",)}


def _metrics() -> dict[str, MetricWrapperBase]:
    """Every series of ours by its name."""
    lists = [
        path
        for room in ("shared", "services", "tools")
        for path in ROOT.glob(f"{room}/*/metrics.py")
    ]
    found = {}
    for path in lists:
        module = importlib.import_module(".".join(path.relative_to(ROOT).with_suffix("").parts))
        for metric in vars(module).values():
            if isinstance(metric, MetricWrapperBase):
                for suffix in _SUFFIXES[type(metric).__name__]:
                    found[metric._name + suffix] = metric
    return found


METRICS = _metrics()
RECORDED = {
    rule["record"]: {"slo"}
    for file in rules.files().values()
    for group in yaml.safe_load(file)["groups"]
    for rule in group["rules"]
    if "record" in rule
}


def _panels() -> Iterator[tuple[str, str]]:
    for name, text in dashboards.files().items():
        for panel in json.loads(text)["panels"]:
            for target in panel.get("targets", ()):
                title = f"{Path(name).stem}: {panel['title']} {target['refId']}"
                plain = target["expr"].replace("$__rate_interval", "5m").replace("$service", "x")
                yield title, plain


def _rules() -> Iterator[tuple[str, str]]:
    for file in rules.files().values():
        for group in yaml.safe_load(file)["groups"]:
            for number, rule in enumerate(group["rules"]):
                yield f"{rule.get('alert') or rule.get('record')} {number}", rule["expr"]


EXPRESSIONS = dict([*_rules(), *_panels()])


def _parts(expression: str) -> list[Any]:
    found: list[Any] = []
    promql_parser.walk(promql_parser.parse(expression), pre_visit=found.append)
    return [part.vector_selector if hasattr(part, "vector_selector") else part for part in found]


def _labels_of(name: str) -> set[str] | None:
    """The labels that a series may have; None when there is no such series."""
    if name in RECORDED:
        return RECORDED[name]
    if name in _FOREIGN:
        return _FOREIGN[name] | _ANYWHERE
    metric = METRICS.get(name)
    if metric is None:
        return None
    return {*metric._labelnames, *_ANYWHERE, *({"le"} if name.endswith("_bucket") else ())}


@pytest.mark.parametrize("name", sorted(EXPRESSIONS))
def test_an_expression_asks_for_what_there_is(name: str) -> None:
    """It parses; its metrics exist; it selects and groups by labels that one of them has."""
    parts = _parts(EXPRESSIONS[name])
    known: set[str] = set()
    for part in parts:
        if isinstance(part, promql_parser.VectorSelector):
            series = str(part.name)
            labels = _labels_of(series)
            assert labels is not None, f"{part.name} is in no metrics.py"
            known |= labels
            for matcher in part.matchers.matchers:
                assert matcher.name in labels, f"{part.name} has no label {matcher.name}"
                if matcher.name == "le":
                    _is_a_bucket(series, matcher.value)
    for part in parts:
        if isinstance(part, promql_parser.AggregateExpr) and part.modifier:
            assert set(part.modifier.labels) <= known, part.prettify()


def _is_a_bucket(series: str, bound: str) -> None:
    metric = METRICS[series]
    assert isinstance(metric, Histogram)
    assert bound in {str(float(one)) for one in metric._kwargs["buckets"]}, (
        f"{series} has no le={bound}"
    )


def test_a_wrong_expression_is_noticed() -> None:
    assert _labels_of("muster_no_such_metric_total") is None
    with pytest.raises(ValueError, match="left parenthesis"):
        promql_parser.parse("sum by (service (rate(x[5m]))")


def test_the_objectives_look_at_every_route_of_devices_and_no_other() -> None:
    for service in services.load_all():
        for route in service.routes:
            matched = re.fullmatch(DEVICE_ROUTES, route.path) is not None
            assert matched == (route.listener == "devices"), route.path


def test_what_is_committed_is_what_the_code_makes() -> None:
    assert generated.differing(generate.files(), generated.ROOT, swept=generate.SWEPT) == []


def test_panels_have_places_and_ids_of_their_own() -> None:
    for text in dashboards.files().values():
        panels = json.loads(text)["panels"]
        places = [tuple(panel["gridPos"].values()) for panel in panels]
        assert len(set(places)) == len(places)
        assert len({panel["id"] for panel in panels}) == len(panels)
        assert all(panel["gridPos"]["x"] + panel["gridPos"]["w"] <= 24 for panel in panels)


def _sections(page: Path) -> Sequence[str]:
    return re.findall(r"^## (Muster\w+)$", page.read_text(encoding="utf-8"), re.MULTILINE)


def test_every_alert_has_its_runbook_and_every_runbook_its_alert() -> None:
    alerts = {alert.name: alert for alert in rules.alerts()}
    written = {
        name: page.name
        for page in (ROOT / "docs" / "runbooks").glob("*.md")
        for name in _sections(page)
    }
    assert set(written) == set(alerts)
    for name, page in written.items():
        assert alerts[name].runbook == f"docs/runbooks/{page}#{name.lower()}"


def test_runbooks_ask_for_metrics_that_exist() -> None:
    for page in (ROOT / "docs" / "runbooks").glob("*.md"):
        text = page.read_text(encoding="utf-8")
        for name in set(re.findall(r"\bmuster_[a-z_]+\b", text)) - _schemas():
            assert name in METRICS or f"{name}_bucket" in METRICS, f"{page.name}: {name}"


def _schemas() -> set[str]:
    return {f"muster_{path.name}" for path in (ROOT / "services").iterdir() if path.is_dir()}


def test_runbooks_give_commands_that_exist() -> None:
    """Each `muster …` in a code block is one that the program takes, up to its own arguments."""
    from tools.cli.main import parser  # noqa: PLC0415 - heavy, and only here

    for page in (ROOT / "docs" / "runbooks").glob("*.md"):
        for line in page.read_text(encoding="utf-8").splitlines():
            if match := re.match(r" {4}muster ([a-z_-]+(?: [a-z_-]+)?)", line):
                words = [word for word in match[1].split() if not word.startswith("-")]
                with pytest.raises(SystemExit) as ended:
                    parser().parse_args([*words, "--help"])
                assert ended.value.code == 0, f"{page.name}: {line}"
