"""Every metric of inventory."""

from __future__ import annotations

from prometheus_client import Counter

REPORTS = Counter(
    "muster_inventory_reports_total",
    "Answers by section and what became of them: applied, outdated, unreadable or incomplete.",
    ["section", "outcome"],
)
VALUES_IGNORED = Counter(
    "muster_inventory_values_ignored_total",
    "Values in answers that had a wrong type or size.",
    ["section"],
)
CHANGES = Counter(
    "muster_inventory_changes_total", "Facts and list entries that changed.", ["section"]
)
REFRESHES = Counter(
    "muster_inventory_refreshes_total", "Sections asked for, by what led to it.", ["why"]
)
HISTORY_DROPPED = Counter(
    "muster_inventory_history_dropped_total", "Partitions of history that grew too old."
)
GROUPS_RETOLD = Counter(
    "muster_inventory_groups_retold_total", "Devices' groups and groups that were told anew."
)
