"""Every metric of command_queue."""

from __future__ import annotations

from prometheus_client import Counter, Gauge, Histogram

REQUESTED = Counter(
    "muster_command_queue_commands_total",
    "Commands that were asked for, by what became of the request",
    ["kind", "result"],
)
QUEUED = Counter("muster_command_queue_targets_queued_total", "Targets that were put into queues")
SETTLED = Counter(
    "muster_command_queue_targets_settled_total",
    "Targets that got their outcome",
    ["kind", "state"],
)
OPEN_TARGETS = Gauge(
    "muster_command_queue_open_targets_rows", "Targets without an outcome, by state", ["state"]
)
AGE_SECONDS = Gauge(
    "muster_command_age_seconds",
    "Since the oldest target in this state was queued; 0 when there is none",
    ["state"],
)
UNEXPANDED = Gauge(
    "muster_command_queue_unexpanded_rows",
    "Targets that are not in their devices' queues yet",
)
SETTLE_SECONDS = Histogram(
    "muster_command_queue_settle_seconds",
    "From queueing to outcome, of targets that a device answered",
    buckets=(0.1, 0.5, 1, 5, 15, 60, 300, 1800, 3600, 6 * 3600, 86400, 7 * 86400),
)
POLLS = Counter(
    "muster_command_queue_polls_total",
    "Connect requests of devices, by how they ended",
    ["result"],
)
REFUSED = Counter(
    "muster_command_queue_connect_refused_total",
    "Connect requests that were refused, by reason",
    ["reason"],
)
HANDED_OUT = Counter(
    "muster_command_queue_handed_out_total", "Commands handed to devices", ["kind"]
)
REPEATED = Counter(
    "muster_command_queue_handed_out_again_total",
    "Commands handed to a device that had been given them before",
    ["kind"],
)
DEFERRED = Counter("muster_command_queue_not_now_total", "NotNow answers", ["kind"])
DUPLICATES = Counter(
    "muster_command_queue_duplicate_answers_total", "Answers that had been given before"
)
UNEXPECTED = Counter(
    "muster_command_queue_unexpected_answers_total",
    "Answers to what was never asked or is settled otherwise",
    ["why"],
)
MALFORMED = Counter(
    "muster_command_queue_malformed_answers_total",
    "Well-signed connect bodies that could not be read",
    ["reason"],
)
TOO_LARGE = Counter(
    "muster_command_queue_answers_too_large_total",
    "Answers above 16 MiB (failed) and above 64 MiB (refused: raise an alarm)",
    ["result"],
)
HELD = Counter("muster_command_queue_held_total", "Commands that were born held", ["why"])
REVEALS = Counter("muster_command_queue_reveals_total", "Secrets shown to people", ["result"])
FENCES = Counter("muster_command_queue_fences_total", "Fences that were raised", ["state"])
FROZEN = Counter("muster_command_queue_freezes_total", "Freezes begun and lifted", ["what"])
VETOED = Counter("muster_command_queue_vetoes_total", "New power that somebody vetoed")
SEEN = Counter("muster_command_queue_devices_seen_total", "Sightings of devices written in bulk")
