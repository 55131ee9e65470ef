"""Every metric of the console."""

from __future__ import annotations

from prometheus_client import Counter

SETUPS = Counter(
    "muster_console_setups_total", "Attempts to use a set-up link, by result", ["result"]
)
AUDIT_RECORDED = Counter(
    "muster_console_audit_recorded_total",
    "Audit records stored, by the service they are from",
    ["origin"],
)
SIGN_INS = Counter(
    "muster_console_sign_ins_total",
    "Attempts to sign in or to bring a second factor, by result",
    ["result"],
)
WEBHOOK_ATTEMPTS = Counter(
    "muster_console_webhook_attempts_total",
    "Attempts to tell a webhook of an event, by result",
    ["result"],
)
AUDIT_ROOTS = Counter("muster_console_audit_roots_total", "Roots of the audit signed")
AUDIT_FAULTS = Counter(
    "muster_console_audit_faults_total",
    "Signs that somebody changed the audit, by where they were found",
    ["where"],
)
for _where in ("root", "check"):
    AUDIT_FAULTS.labels(_where)  # there from the start: the first fault is an increase, too
