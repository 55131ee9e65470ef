"""Grafana's JSON, as far as these dashboards need it: rows of time series panels."""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

_WIDTH, _HEIGHT = 24, 8
_SOURCE = {"type": "prometheus", "uid": "${source}"}


@dataclass(frozen=True)
class Panel:
    """One chart: an expression by the legend of its lines; `says` is shown as its help."""

    title: str
    unit: str
    lines: Mapping[str, str]
    says: str = ""
    limit: float | None = None
    """Above it the chart turns red: where an alert looks."""


@dataclass(frozen=True)
class Row:
    title: str
    panels: Sequence[Panel]


@dataclass(frozen=True)
class Dashboard:
    name: str
    title: str
    rows: Sequence[Row]

    def text(self) -> str:
        """The JSON that Grafana imports; the same code makes the same text."""
        document = {
            "uid": self.name,
            "title": self.title,
            "tags": ["muster"],
            "timezone": "browser",
            "schemaVersion": 39,
            "editable": False,
            "refresh": "30s",
            "time": {"from": "now-3h", "to": "now"},
            "templating": {"list": [_source(), _service()]},
            "panels": _placed(self.rows),
        }
        return json.dumps(document, indent=2, ensure_ascii=False) + "\n"


def _source() -> dict[str, Any]:
    return {"name": "source", "type": "datasource", "query": "prometheus", "label": "Prometheus"}


def _service() -> dict[str, Any]:
    return {
        "name": "service",
        "type": "query",
        "label": "Service",
        "datasource": _SOURCE,
        "query": "label_values(muster_service_running, service)",
        "refresh": 2,
        "multi": True,
        "includeAll": True,
        "allValue": ".*",
        "current": {"text": "All", "value": "$__all"},
    }


def _placed(rows: Sequence[Row]) -> list[dict[str, Any]]:
    placed: list[dict[str, Any]] = []
    y = 0
    for row in rows:
        placed.append(_heading(row.title, y))
        width = _WIDTH // len(row.panels)
        for column, panel in enumerate(row.panels):
            place = {"h": _HEIGHT, "w": width, "x": column * width, "y": y + 1}
            placed.append(_chart(panel, place))
        y += 1 + _HEIGHT
    return placed


def _heading(title: str, y: int) -> dict[str, Any]:
    place = {"h": 1, "w": _WIDTH, "x": 0, "y": y}
    return {"id": _id(f"row {title}"), "type": "row", "title": title, "gridPos": place}


def _chart(panel: Panel, place: dict[str, int]) -> dict[str, Any]:
    steps: list[dict[str, Any]] = [{"color": "green", "value": None}]
    if panel.limit is not None:
        steps.append({"color": "red", "value": panel.limit})
    return {
        "id": _id(panel.title),
        "type": "timeseries",
        "title": panel.title,
        "description": panel.says,
        "datasource": _SOURCE,
        "gridPos": place,
        "fieldConfig": {
            "defaults": {
                "unit": panel.unit,
                "min": 0,
                "custom": {
                    "fillOpacity": 8,
                    "showPoints": "never",
                    "thresholdsStyle": {"mode": "off" if panel.limit is None else "line"},
                },
                "thresholds": {"mode": "absolute", "steps": steps},
            },
            "overrides": [],
        },
        "options": {
            "legend": {
                "displayMode": "table",
                "placement": "bottom",
                "calcs": ["lastNotNull", "max"],
            },
            "tooltip": {"mode": "multi", "sort": "desc"},
        },
        "targets": [
            {"refId": chr(ord("A") + number), "legendFormat": legend, "expr": expression}
            for number, (legend, expression) in enumerate(panel.lines.items())
        ],
    }


def _id(title: str) -> int:
    """Stable, so that adding a panel does not renumber the others."""
    return zlib.crc32(title.encode()) & 0x7FFFFFFF
