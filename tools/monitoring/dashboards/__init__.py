"""`deploy/grafana`: what happens on the road, in the events, and inside the processes."""

from __future__ import annotations

from tools.monitoring.dashboards import events, processes, road

FOLDER = "deploy/grafana"
DASHBOARDS = (road.DASHBOARD, events.DASHBOARD, processes.DASHBOARD)


def files() -> dict[str, str]:
    return {f"{FOLDER}/{one.name}.json": one.text() for one in DASHBOARDS}
