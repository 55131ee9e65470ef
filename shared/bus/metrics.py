"""Every metric of the event bus."""

from __future__ import annotations

from prometheus_client import Counter, Gauge, Histogram

_SECONDS = (0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 5, 10, 30)

HANDLE_SECONDS = Histogram(
    "muster_event_handle_seconds",
    "How long the transaction of a batch of events took",
    ["service", "topic"],
    buckets=_SECONDS,
)
BATCH_EVENTS = Histogram(
    "muster_event_batch_events",
    "Events that took effect in one transaction",
    ["service", "topic"],
    buckets=(1, 2, 4, 8, 16, 32, 64, 128, 256),
)
EFFECT_SECONDS = Histogram(
    "muster_event_effect_seconds",
    "From what happened in one service until its effect in another, of the oldest event in a batch",
    ["service", "topic"],
    buckets=(0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1800, 3600),
)
HANDLED = Counter(
    "muster_events_handled_total", "Events whose effect was committed", ["service", "type"]
)
DUPLICATES = Counter(
    "muster_event_duplicates_total", "Events that came again and had no second effect", ["service"]
)
SKIPPED = Counter(
    "muster_events_skipped_total",
    "Events of a type that this release does not know",
    ["service", "topic"],
)
DEAD_LETTERED = Counter(
    "muster_events_dead_lettered_total", "Events that were given up", ["service", "reason"]
)
DEAD_LETTERS = Gauge(
    "muster_dead_letters_rows",
    "Events that were given up and wait for a person (at most 1,000 are counted)",
    ["service"],
)
RETRIES = Counter(
    "muster_event_retries_total",
    "Batches of events tried again",
    ["service", "kind"],
)
LAG_RECORDS = Gauge(
    "muster_consumer_lag_records",
    "Records that wait, summed over the partitions this process holds",
    ["service", "topic"],
)
LAG_SECONDS = Gauge(
    "muster_consumer_lag_seconds",
    "Age of the oldest record that may still wait; 0 when none does",
    ["service", "topic"],
)
CONSUMER_STOPPED = Gauge(
    "muster_consumer_stopped",
    "1 when too many events failed and the consumer stopped for a person to look",
    ["service"],
)
CONSUMER_RENEWED = Counter(
    "muster_consumer_renewed_total",
    "Times that a consumer stood still, for a reason that is not known, and was made anew",
    ["service"],
)
OUTBOX_ROWS = Gauge("muster_outbox_rows", "Events that wait to be sent (an estimate)", ["service"])
OUTBOX_OLDEST = Gauge(
    "muster_outbox_oldest_seconds", "Age of the oldest event that waits to be sent", ["service"]
)
SENT = Counter("muster_outbox_sent_total", "Events acknowledged by the broker", ["service"])
SEND_FAILURES = Counter(
    "muster_outbox_send_failures_total", "Batches the broker did not take", ["service", "error"]
)
PRODUCER_REBUILT = Counter(
    "muster_outbox_producer_rebuilt_total",
    "Producers thrown away after an error they do not recover from",
    ["service"],
)
BROKER_AWAY = Gauge(
    "muster_outbox_broker_away", "1 while the relay cannot bring events to the broker", ["service"]
)
RELAY_SHARDS = Gauge(
    "muster_outbox_relay_shards", "Shards of the outbox that this process holds", ["service"]
)
