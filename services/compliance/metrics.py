"""Every metric of compliance."""

from __future__ import annotations

from prometheus_client import Counter, Histogram

JUDGED = Counter(
    "muster_compliance_judged_total", "Verdicts reached, by what led to it.", ["occasion"]
)
CHANGED = Counter(
    "muster_compliance_verdicts_changed_total",
    "Verdicts that changed, by the new state.",
    ["state"],
)
EVENT_TO_VERDICT_SECONDS = Histogram(
    "muster_compliance_event_to_verdict_seconds",
    "From an event of inventory until the verdicts that it changes.",
    buckets=(0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300),
)
ROLLED_OUT = Counter(
    "muster_compliance_rolled_out_total", "Devices judged anew because a policy changed."
)
