"""From the outbox through the broker into the other services."""

from __future__ import annotations

from tools.monitoring.dashboards.queries import (
    SERVICES,
    highest,
    mean,
    quantile,
    rate,
    total,
)
from tools.monitoring.panels import Dashboard, Panel, Row

_BOTH = "service, topic"
_NAMES = "{{service}} {{topic}}"

_OUTBOX = Row(
    "Outbox",
    [
        Panel(
            "Oldest event that waits",
            "s",
            {"{{service}}": highest("muster_outbox_oldest_seconds", "service")},
            limit=60,
        ),
        Panel(
            "Events that wait",
            "short",
            {"{{service}}": highest("muster_outbox_rows", "service")},
            "At most 10,000 are counted.",
        ),
        Panel(
            "Events sent",
            "ops",
            {"{{service}}": rate("muster_outbox_sent_total", "service", SERVICES)},
        ),
    ],
)
_RELAY = Row(
    "Relay",
    [
        Panel(
            "Shards with a relay",
            "short",
            {"{{service}}": total("muster_outbox_relay_shards", "service")},
            "Sixteen a service: with fewer, the events of some devices are not sent.",
        ),
        Panel(
            "Broker away, batches refused",
            "short",
            {
                "away {{service}}": highest("muster_outbox_broker_away", "service"),
                "{{service}} {{error}}": rate(
                    "muster_outbox_send_failures_total", "service, error", SERVICES
                ),
            },
        ),
        Panel(
            "Producers rebuilt",
            "ops",
            {"{{service}}": rate("muster_outbox_producer_rebuilt_total", "service", SERVICES)},
        ),
    ],
)
_CONSUMERS = Row(
    "Consumers",
    [
        Panel(
            "Behind, in seconds",
            "s",
            {_NAMES: highest("muster_consumer_lag_seconds", _BOTH)},
            limit=60,
        ),
        Panel("Behind, in records", "short", {_NAMES: total("muster_consumer_lag_records", _BOTH)}),
        Panel(
            "From happening to effect, p99",
            "s",
            {_NAMES: quantile(0.99, "muster_event_effect_seconds", _BOTH, SERVICES)},
            "Of the oldest event in a batch.",
            limit=10,
        ),
    ],
)
_HANDLING = Row(
    "Handling",
    [
        Panel(
            "Events handled",
            "ops",
            {
                "{{service}} {{type}}": rate(
                    "muster_events_handled_total", "service, type", SERVICES
                )
            },
        ),
        Panel(
            "Time of a batch, p99",
            "s",
            {_NAMES: quantile(0.99, "muster_event_handle_seconds", _BOTH, SERVICES)},
        ),
        Panel(
            "Events a batch, mean",
            "short",
            {_NAMES: mean("muster_event_batch_events", _BOTH, SERVICES)},
        ),
    ],
)
_FAILURES = Row(
    "What went wrong",
    [
        Panel(
            "Dead letters",
            "short",
            {"{{service}}": highest("muster_dead_letters_rows", "service")},
            limit=1,
        ),
        Panel(
            "Given up, tried again, consumers made anew",
            "ops",
            {
                "anew {{service}}": rate("muster_consumer_renewed_total", "service", SERVICES),
                "given up {{service}} {{reason}}": rate(
                    "muster_events_dead_lettered_total", "service, reason", SERVICES
                ),
                "again {{service}} {{kind}}": rate(
                    "muster_event_retries_total", "service, kind", SERVICES
                ),
            },
        ),
        Panel(
            "Came twice, not known here",
            "ops",
            {
                "twice {{service}}": rate("muster_event_duplicates_total", "service", SERVICES),
                "not known {{service}}": rate("muster_events_skipped_total", "service", SERVICES),
            },
        ),
    ],
)
DASHBOARD = Dashboard(
    "muster-events", "Muster: events", [_OUTBOX, _RELAY, _CONSUMERS, _HANDLING, _FAILURES]
)
