"""Every metric of the console."""

from __future__ import annotations

from typing import get_args

from prometheus_client import Counter

from shared.events.commands import GuardAlarmed

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
    "Attempts to tell a webhook of an event, by result; dead: it was the last one",
    ["result"],
)
for _result in ("delivered", "failed", "dead"):
    WEBHOOK_ATTEMPTS.labels(_result)  # there from the start: the first is an increase, too
AUDIT_ROOTS = Counter("muster_console_audit_roots_total", "Roots of the audit signed")
AUDIT_FAULTS = Counter(
    "muster_console_audit_faults_total",
    "Signs that somebody changed the audit, by where they were found",
    ["where"],
)
GUARD_ALARMS = Counter(
    "muster_console_guard_alarms_total", "Alarms of the guard that were heard, by kind", ["kind"]
)
for _kind in get_args(GuardAlarmed.model_fields["kind"].annotation):
    GUARD_ALARMS.labels(_kind)
for _where in ("root", "check"):
    AUDIT_FAULTS.labels(_where)
