"""Every metric of the embedded servers' keeper."""

from __future__ import annotations

from prometheus_client import Counter, Gauge

SERVER_UP = Gauge(
    "muster_embedded_server_up", "1 while the embedded server runs, 0 while it does not", ["server"]
)
SERVER_RESTARTS = Counter(
    "muster_embedded_server_restarts_total",
    "Times a server that died was started again",
    ["server"],
)
DISK_FREE = Gauge(
    "muster_embedded_disk_free_bytes", "Free space where the server keeps its data", ["server"]
)
DISK_LOW = Gauge(
    "muster_embedded_disk_low",
    "1 while the server's disk is nearly full: free some space",
    ["server"],
)
