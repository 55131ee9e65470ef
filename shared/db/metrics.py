"""Every metric of the database layer."""

from __future__ import annotations

from prometheus_client import Counter, Gauge, Histogram

POOL_WAIT = Histogram(
    "muster_db_pool_wait_seconds",
    "How long a transaction waited for a connection",
    buckets=(0.0005, 0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 5),
)
POOL_TIMEOUTS = Counter(
    "muster_db_pool_timeouts_total", "Transactions that got no connection in time and were given up"
)
BATCH_ITEMS = Histogram(
    "muster_db_batch_items",
    "Items that shared one transaction",
    ["batcher"],
    buckets=(1, 2, 4, 8, 16, 32, 64, 128, 256, 512),
)
BATCH_SECONDS = Histogram(
    "muster_db_batch_seconds",
    "How long a batch's transaction took",
    ["batcher"],
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 5),
)
BATCH_WAITING = Gauge("muster_db_batch_waiting", "Items that wait for a batch", ["batcher"])
BATCH_RETRIES = Counter(
    "muster_db_batch_retries_total", "Batches tried again after a passing error", ["batcher"]
)
BATCH_SPLITS = Counter(
    "muster_db_batch_splits_total", "Batches split to find the row that fails", ["batcher"]
)
BATCH_REFUSED = Counter(
    "muster_db_batch_refused_total",
    "Items refused because too many were waiting, or waited too long",
    ["batcher"],
)
DEFAULT_PARTITION_ROWS = Gauge(
    "muster_db_default_partition_rows",
    "Rows that found no partition of their own: create partitions further ahead",
    ["service", "table"],
)
