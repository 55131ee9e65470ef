"""Every metric of push_notifier."""

from __future__ import annotations

from prometheus_client import Counter, Gauge, Histogram

PUSHES = Counter(
    "muster_push_notifier_pushes_total", "Pushes by the vendor's answer.", ["status", "reason"]
)
PUSH_SECONDS = Histogram(
    "muster_push_notifier_push_seconds", "From handing a push to APNs until its answer."
)
QUEUED_TO_PUSH_SECONDS = Histogram(
    "muster_push_notifier_queued_to_push_seconds",
    "From work waiting to the first push for it.",
    buckets=(0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300),
)
PUSH_TO_CHECKIN_SECONDS = Histogram(
    "muster_push_notifier_push_to_checkin_seconds",
    "From the last push until the device came for the command it was pushed for; `push` is "
    "`repeated` where earlier pushes for it had not brought the device",
    ["push"],
    buckets=(0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1800, 3600, 6 * 3600, 86400),
)
TOKENS_DEAD = Counter("muster_push_notifier_tokens_dead_total", "Push tokens declared dead.")
CIRCUITS_OPEN = Gauge(
    "muster_push_notifier_circuits_open", "Topics whose certificate the vendor refuses."
)
CERTIFICATE_EXPIRES_SECONDS = Gauge(
    "muster_push_notifier_certificate_expires_seconds",
    "Until the push certificate expires.",
    ["topic"],
)
UNREADABLE_TOKENS = Counter(
    "muster_push_notifier_unreadable_tokens_total", "Sealed push tokens that did not open."
)
