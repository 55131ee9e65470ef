"""Service level objectives: how much may go wrong, and when to call somebody.

A page when a month's error budget would be gone within days, a ticket when within the month: each
condition over a long window, so that it matters, and a short one, so that it is still true.
"""

from __future__ import annotations

from dataclasses import dataclass

from tools.monitoring.alerts import Alert

DEVICE_ROUTES = "/(mdm|enroll|scep|pki)/.*"
WINDOWS = ("5m", "30m", "1h", "2h", "6h", "1d", "3d")
# factor, long window, short window, severity: the SRE workbook's table.
_BURNS = (
    (14.4, "1h", "5m", "page"),
    (6, "6h", "30m", "page"),
    (3, "1d", "2h", "ticket"),
    (1, "3d", "6h", "ticket"),
)
RECORDED = "muster:slo_errors:ratio_rate"


@dataclass(frozen=True)
class Objective:
    """`good` and `all` are rates over `$w`; `budget` is the share of `all` that may be bad."""

    name: str
    alert: str
    says: str
    budget: float
    good: str
    all: str

    @property
    def error_ratio(self) -> str:
        """Above 0 only where something came at all: without traffic it is no number."""
        return f"1 - ({self.good}) / ({self.all})"


def _below(metric: str, bound: str, labels: str = "") -> tuple[str, str]:
    """The observations of a histogram up to `bound`, a bucket's own, and all of them."""
    within = ",".join(part for part in (labels, f'le="{bound}"') if part)
    selected = f"{{{labels}}}" if labels else ""
    return (
        f"sum(rate({metric}_bucket{{{within}}}[$w]))",
        f"sum(rate({metric}_count{selected}[$w]))",
    )


_REQUESTS = "muster_http_request_seconds"
_ANSWERED = f'sum(rate({_REQUESTS}_count{{route=~"{DEVICE_ROUTES}",status!~"5.."}}[$w]))'
_ASKED = f'sum(rate({_REQUESTS}_count{{route=~"{DEVICE_ROUTES}"}}[$w]))'

OBJECTIVES = (
    Objective(
        "devices_answered",
        "MusterDevicesUnanswered",
        "99.9 % of devices' requests are answered (no 5xx)",
        0.001,
        f"({_ANSWERED} or 0 * {_ASKED})",
        _ASKED,
    ),
    Objective(
        "devices_fast",
        "MusterDevicesSlow",
        "99 % of check-ins and polls are answered within 250 ms",
        0.01,
        *_below(_REQUESTS, "0.25", 'route=~"/mdm/.*"'),
    ),
    Objective(
        "pushes_in_time",
        "MusterPushesLate",
        "99 % of first pushes leave within 5 s of the work they wake for",
        0.01,
        *_below("muster_push_notifier_queued_to_push_seconds", "5.0"),
    ),
    Objective(
        "events_in_time",
        "MusterEventsLate",
        "99 % of events take effect in the other services within 10 s",
        0.01,
        *_below("muster_event_effect_seconds", "10.0"),
    ),
)


def recordings() -> list[dict[str, object]]:
    """The error ratio of each objective over each window, as recording rules."""
    return [
        {
            "record": RECORDED + window,
            "expr": objective.error_ratio.replace("$w", window),
            "labels": {"slo": objective.name},
        }
        for window in WINDOWS
        for objective in OBJECTIVES
    ]


def burn_alerts() -> list[Alert]:
    """Four alerts an objective, of one name: the label `window` tells them apart."""
    return [
        Alert(
            objective.alert,
            f'{RECORDED}{long}{{slo="{objective.name}"}} > {factor * objective.budget:.4g}'
            f' and {RECORDED}{short}{{slo="{objective.name}"}} > {factor * objective.budget:.4g}',
            severity,
            "devices" if objective.name.startswith("devices") else "events",
            f"{objective.says}: the month's budget burns at {factor:g} times its pace",
            labels={"slo": objective.name, "window": long},
        )
        for objective in OBJECTIVES
        for factor, long, short, severity in _BURNS
    ]
