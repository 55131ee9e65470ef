"""Every metric of the runtime; a service's own are in its `metrics.py`."""

from __future__ import annotations

from prometheus_client import Counter, Gauge, Histogram

HTTP_SECONDS = Histogram(
    "muster_http_request_seconds",
    "Time to answer a request, by route template",
    ["service", "method", "route", "status"],
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30),
)
HTTP_IN_PROGRESS = Gauge(
    "muster_http_requests_in_progress", "Requests being answered now", ["service"]
)
CONNECTIONS = Gauge("muster_http_connections_open", "Open connections of a listener", ["listener"])
CONNECTIONS_REFUSED = Counter(
    "muster_http_connections_refused_total",
    "Connections closed because the listener has too many (full), their header came too slowly "
    "(slow_header), or their peer does not read (slow_reader)",
    ["listener", "reason"],
)
BODY_BYTES = Gauge(
    "muster_http_body_bytes", "Bytes of request bodies in memory, by listener", ["listener"]
)
BODIES_REFUSED = Counter(
    "muster_http_bodies_refused_total",
    "Requests answered 503 because too many bytes of bodies were in memory",
    ["listener"],
)
TOKENS_REFUSED = Counter(
    "muster_tokens_refused_total", "Requests whose token did not count", ["service"]
)
OUTBOUND_REQUESTS = Counter(
    "muster_outbound_requests_total",
    "Requests to addresses that people, devices or identity providers supplied, by outcome",
    ["outcome"],
)
LOOP_LAG_SECONDS = Histogram(
    "muster_event_loop_lag_seconds",
    "How late the event loop wakes a sleeper: above 0.1 it is blocked",
    buckets=(0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 5),
)
POOL_CONNECTIONS = Gauge(
    "muster_db_pool_connections", "Connections of the pool, by what they do", ["service", "state"]
)
JOB_SECONDS = Histogram(
    "muster_job_seconds", "Time of one run of a job", ["service", "job", "result"]
)
LOGS_SUPPRESSED = Counter(
    "muster_logs_suppressed_total", "Repeated log lines that were left out", ["logger"]
)
RUNNING = Gauge(
    "muster_service_running",
    "1 for each role that this process has in a service",
    ["service", "role"],
)
TLS_NOT_AFTER = Gauge(
    "muster_http_tls_not_after_timestamp_seconds",
    "When the certificate of a listener expires (Unix time)",
    ["listener"],
)
LOGS_LOST = Counter(
    "muster_logs_lost_total", "Log lines that could not be written: a full disk, a closed pipe"
)
WATCHDOG_HEALTHY = Gauge(
    "muster_watchdog_healthy", "1 while the part makes progress, 0 when it is stuck", ["service"]
)
