"""From the request to the device and back."""

from __future__ import annotations

from tools.monitoring.dashboards.queries import quantile, quantiles, rate
from tools.monitoring.panels import Dashboard, Panel, Row
from tools.monitoring.slos import DEVICE_ROUTES, OBJECTIVES, RECORDED

_DEVICES = f'route=~"{DEVICE_ROUTES}"'
_HTTP = "muster_http_request_seconds"
_QUEUE = "muster_command_queue"
_PUSH = "muster_push_notifier"

_OVERVIEW = Row(
    "Objectives",
    [
        Panel(
            "Error ratio over an hour",
            "percentunit",
            {one.name: f'{RECORDED}1h{{slo="{one.name}"}}' for one in OBJECTIVES},
            "What share was not as promised. The budgets are 0.1 % of answers, 1 % of the others.",
        ),
        Panel(
            "Commands without an outcome",
            "short",
            {
                "{{state}}": f"max by (state) ({_QUEUE}_open_targets_rows)",
                "not expanded": f"max({_QUEUE}_unexpanded_rows)",
            },
        ),
        Panel(
            "Oldest command, by state",
            "s",
            {"{{state}}": "max by (state) (muster_command_age_seconds)"},
            "Devices that are away make this long: it is no fault by itself.",
        ),
    ],
)
_REQUESTS = Row(
    "Devices ask",
    [
        Panel(
            "Requests of devices",
            "reqps",
            {"{{method}} {{route}}": rate(f"{_HTTP}_count", "method, route", _DEVICES)},
        ),
        Panel(
            "Time to answer check-ins and polls",
            "s",
            quantiles(_HTTP, "", 'route=~"/mdm/.*"'),
            limit=0.25,
        ),
        Panel(
            "Answers that are no success",
            "reqps",
            {
                "{{status}} {{route}}": rate(
                    f"{_HTTP}_count", "status, route", f'{_DEVICES},status!~"2.."'
                )
            },
        ),
    ],
)
_COMMANDS = Row(
    "Commands",
    [
        Panel(
            "How polls end",
            "reqps",
            {
                "{{result}}": rate(f"{_QUEUE}_polls_total", "result"),
                "refused: {{reason}}": rate(f"{_QUEUE}_connect_refused_total", "reason"),
            },
        ),
        Panel(
            "Queued, handed out, settled",
            "ops",
            {
                "queued": rate(f"{_QUEUE}_targets_queued_total"),
                "handed out": rate(f"{_QUEUE}_handed_out_total"),
                "handed out again": rate(f"{_QUEUE}_handed_out_again_total"),
                "{{state}}": rate(f"{_QUEUE}_targets_settled_total", "state"),
            },
        ),
        Panel("From queueing to outcome", "s", quantiles(f"{_QUEUE}_settle_seconds")),
    ],
)
_PUSHES = Row(
    "Pushes",
    [
        Panel(
            "Pushes by the vendor's answer",
            "ops",
            {"{{status}} {{reason}}": rate(f"{_PUSH}_pushes_total", "status, reason")},
        ),
        Panel(
            "From work to push, and the vendor's time",
            "s",
            {
                "work to push p99": quantile(0.99, f"{_PUSH}_queued_to_push_seconds"),
                "vendor p99": quantile(0.99, f"{_PUSH}_push_seconds"),
            },
            limit=5,
        ),
        Panel(
            "From push to check-in",
            "s",
            quantiles(f"{_PUSH}_push_to_checkin_seconds", "push"),
            "From the last push until the device fetched the command. `repeated`: earlier pushes "
            "had not brought it.",
        ),
    ],
)
_ENROLLMENT = Row(
    "Enrollment and verdicts",
    [
        Panel(
            "Check-ins",
            "reqps",
            {
                "{{message}} {{outcome}}": rate(
                    "muster_enrollment_checkins_total", "message, outcome"
                )
            },
        ),
        Panel(
            "Time of a check-in, p99",
            "s",
            {"{{message}}": quantile(0.99, "muster_enrollment_checkin_seconds", "message")},
        ),
        Panel(
            "From what a device reported to the verdict",
            "s",
            quantiles("muster_compliance_event_to_verdict_seconds"),
            limit=10,
        ),
    ],
)
DASHBOARD = Dashboard(
    "muster-road",
    "Muster: the road of a command",
    [_OVERVIEW, _REQUESTS, _COMMANDS, _PUSHES, _ENROLLMENT],
)
