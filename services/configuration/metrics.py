"""Every metric of configuration."""

from __future__ import annotations

from prometheus_client import Counter

DECLARATIONS_ASKED = Counter(
    "muster_configuration_declarations_asked_total",
    "Requests of devices for their declarations, by what they asked for",
    ["endpoint"],
)
