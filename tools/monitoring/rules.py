"""`deploy/prometheus`: the rules as files."""

from __future__ import annotations

from typing import Any

import yaml

from tools.monitoring import slos
from tools.monitoring.alerts import CERTIFICATES, DEVICES, EMBEDDED, EVENTS, PROCESSES, Alert

FOLDER = "deploy/prometheus"
NOTE = "# Made by `make monitoring` from tools/monitoring: change it there.\n"
_GROUPS = {
    "muster-slo": slos.burn_alerts(),
    "muster-events": EVENTS,
    "muster-devices": DEVICES,
    "muster-certificates": CERTIFICATES,
    "muster-processes": PROCESSES,
    "muster-embedded": EMBEDDED,
}


def alerts() -> list[Alert]:
    """Every alert there is."""
    return [alert for group in _GROUPS.values() for alert in group]


def files() -> dict[str, str]:
    recorded = [{"name": "muster-slo-recorded", "rules": slos.recordings()}]
    alerting = [
        {"name": name, "rules": [alert.rule() for alert in group]}
        for name, group in _GROUPS.items()
    ]
    return {
        f"{FOLDER}/muster-recording.rules.yaml": _yaml({"groups": recorded}),
        f"{FOLDER}/muster-alerts.rules.yaml": _yaml({"groups": alerting}),
    }


def _yaml(value: Any) -> str:
    return NOTE + yaml.safe_dump(value, sort_keys=False, width=1000, allow_unicode=True)
