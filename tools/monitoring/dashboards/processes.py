"""What the processes use, and what they wait for."""

from __future__ import annotations

from tools.monitoring.dashboards.queries import SERVICES, mean, quantile, quantiles, rate, total
from tools.monitoring.panels import Dashboard, Panel, Row

_OURS = 'job=~"muster.*"'

_RESOURCES = Row(
    "Processes",
    [
        Panel(
            "CPU",
            "percentunit",
            {"{{instance}}": rate("process_cpu_seconds_total", "instance", _OURS)},
            "1 is one core, and all that a process can use.",
        ),
        Panel("Memory", "bytes", {"{{instance}}": f"process_resident_memory_bytes{{{_OURS}}}"}),
        Panel("File descriptors", "short", {"{{instance}}": f"process_open_fds{{{_OURS}}}"}),
    ],
)
_LOOP = Row(
    "Event loop and connections",
    [
        Panel(
            "Loop lag, p99",
            "s",
            {"{{instance}}": quantile(0.99, "muster_event_loop_lag_seconds", "instance")},
            "How late a sleeper is woken, looked at twice a second.",
            limit=0.1,
        ),
        Panel(
            "Requests in progress",
            "short",
            {"{{service}} {{instance}}": f"muster_http_requests_in_progress{{{SERVICES}}}"},
        ),
        Panel(
            "Connections",
            "short",
            {
                "{{listener}} {{instance}}": total(
                    "muster_http_connections_open", "listener, instance", ""
                ),
                "refused {{listener}} {{reason}}": rate(
                    "muster_http_connections_refused_total", "listener, reason"
                ),
            },
        ),
    ],
)
_DATABASE = Row(
    "Database",
    [
        Panel(
            "Wait for a connection",
            "s",
            quantiles("muster_db_pool_wait_seconds"),
            limit=0.1,
        ),
        Panel(
            "Connections of the pools",
            "short",
            {"{{service}} {{state}}": total("muster_db_pool_connections", "service, state")},
        ),
        Panel(
            "No connection in time",
            "ops",
            {"{{instance}}": rate("muster_db_pool_timeouts_total", "instance")},
        ),
    ],
)
_BATCHES = Row(
    "Group commit",
    [
        Panel(
            "Items a batch, mean",
            "short",
            {"{{batcher}}": mean("muster_db_batch_items", "batcher")},
        ),
        Panel(
            "Time of a batch of items, p99",
            "s",
            {"{{batcher}}": quantile(0.99, "muster_db_batch_seconds", "batcher")},
        ),
        Panel(
            "Waiting, refused, tried again, split",
            "short",
            {
                "waiting {{batcher}}": total("muster_db_batch_waiting", "batcher", ""),
                "refused {{batcher}}": rate("muster_db_batch_refused_total", "batcher"),
                "again {{batcher}}": rate("muster_db_batch_retries_total", "batcher"),
                "split {{batcher}}": rate("muster_db_batch_splits_total", "batcher"),
            },
        ),
    ],
)
_JOBS = Row(
    "Jobs and certificates",
    [
        Panel(
            "Time of jobs, p95",
            "s",
            {
                "{{service}}: {{job}}": quantile(
                    0.95, "muster_job_seconds", "service, job", SERVICES
                )
            },
        ),
        Panel(
            "Jobs that failed",
            "ops",
            {
                "{{service}}: {{job}}": rate(
                    "muster_job_seconds_count", "service, job", f'{SERVICES},result="failed"'
                )
            },
        ),
        Panel(
            "Certificates: time left",
            "s",
            {
                "push {{topic}}": "min by (topic)"
                " (muster_push_notifier_certificate_expires_seconds)",
                "signs as {{role}}": "min by (role) (muster_enrollment_authority_expires_seconds)",
                "TLS {{listener}}": "min by (listener)"
                " (muster_http_tls_not_after_timestamp_seconds) - time()",
                "CRL {{authority}}": "min by (authority)"
                " (muster_enrollment_crl_next_update_seconds)",
            },
        ),
    ],
)
DASHBOARD = Dashboard(
    "muster-processes",
    "Muster: processes and database",
    [_RESOURCES, _LOOP, _DATABASE, _BATCHES, _JOBS],
)
