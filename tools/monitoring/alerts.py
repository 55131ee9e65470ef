"""What somebody should look at before devices or people feel it; runbooks in `docs/runbooks`.

`page`: devices or people are harmed, or will be within the hour. `ticket`: within days.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Alert:
    """One alerting rule; `page` names the runbook's file, its section is the alert's name."""

    name: str
    expr: str
    severity: str
    page: str
    summary: str
    wait: str | None = None
    labels: Mapping[str, str] = field(default_factory=dict)

    @property
    def runbook(self) -> str:
        return f"docs/runbooks/{self.page}.md#{self.name.lower()}"

    def rule(self) -> dict[str, object]:
        """The rule as Prometheus reads it."""
        return {
            "alert": self.name,
            "expr": self.expr,
            **({"for": self.wait} if self.wait else {}),
            "labels": {"severity": self.severity, **self.labels},
            "annotations": {"summary": self.summary, "runbook": self.runbook},
        }


_SERVICE = "{{ $labels.service }}"
_WAITS = "{{ $value | humanizeDuration }}"
_COUNT = "{{ $value | humanize }}"
_SHARDS = "sum by (service) (muster_outbox_relay_shards)"

_ALARMS = "muster_console_guard_alarms_total"

EVENTS = (
    Alert(
        "MusterOutboxOld",
        "max by (service) (muster_outbox_oldest_seconds) > 60",
        "ticket",
        "events",
        f"{_SERVICE}: an event has waited {_WAITS} to be sent",
        "5m",
    ),
    Alert(
        "MusterOutboxVeryOld",
        "max by (service) (muster_outbox_oldest_seconds) > 600",
        "page",
        "events",
        f"{_SERVICE}: an event has waited {_WAITS} to be sent: devices are served, nobody hears",
        "2m",
    ),
    Alert(
        "MusterBrokerAway",
        "max by (service) (muster_outbox_broker_away) > 0",
        "page",
        "events",
        f"{_SERVICE}: the broker takes no events; they wait in the outbox",
        "2m",
    ),
    Alert(
        "MusterNoRelay",
        f"{_SHARDS} < 16 or count by (service) (muster_service_running) * 0"
        f" unless on (service) {_SHARDS}",
        "page",
        "events",
        f"{_SERVICE}: only {_COUNT} of 16 outbox shards are sent by a relay",
        "3m",
    ),
    Alert(
        "MusterConsumerBehind",
        "max by (service, topic) (muster_consumer_lag_seconds) > 60",
        "ticket",
        "events",
        f"{_SERVICE} is {_WAITS} behind on {{{{ $labels.topic }}}}",
        "5m",
    ),
    Alert(
        "MusterConsumerStopped",
        "max by (service) (muster_consumer_stopped) > 0",
        "page",
        "events",
        f"{_SERVICE}: too many events failed, the consumer stopped for a person to look",
    ),
    Alert(
        "MusterDeadLetters",
        "max by (service) (muster_dead_letters_rows) > 0",
        "ticket",
        "events",
        f"{_SERVICE}: {_COUNT} events were given up and wait for a person",
    ),
    Alert(
        "MusterAuditBroken",
        "sum by (where) (increase(muster_console_audit_faults_total[1h])) > 0",
        "page",
        "audit",
        "The audit does not hold together (found by: {{ $labels.where }})",
    ),
    Alert(
        "MusterGuardStopped",
        f"sum by (kind) (increase({_ALARMS}{{kind=~'frozen|cancelled|weakened'}}[10m])) > 0",
        "page",
        "guard",
        "Somebody stopped commands, or took protection away ({{ $labels.kind }})",
    ),
    Alert(
        "MusterGuardAlarms",
        f"sum by (kind) (increase({_ALARMS}{{kind!~'frozen|cancelled|weakened|unasked'}}[1h])) > 0",
        "ticket",
        "guard",
        "The guard alarmed: {{ $labels.kind }}, {{ $value | humanize }} times in an hour",
    ),
    Alert(
        "MusterDevicesLeave",
        f"sum(increase({_ALARMS}{{kind='unasked'}}[1h])) > 10",
        "page",
        "guard",
        "{{ $value | humanize }} devices were erased or left in an hour, and Muster had not asked",
    ),
    Alert(
        "MusterWebhooksDead",
        "sum(increase(muster_console_webhook_attempts_total{result='dead'}[1h])) > 0",
        "ticket",
        "guard",
        "{{ $value | humanize }} deliveries to webhooks were given up in an hour",
    ),
    Alert(
        "MusterAuditUnsigned",
        "sum(increase(muster_console_audit_roots_total[10m])) < 1",
        "ticket",
        "audit",
        "No root of the audit was signed for ten minutes",
        "5m",
    ),
)

DEVICES = (
    Alert(
        "MusterOverloaded",
        "sum by (batcher) (rate(muster_db_batch_refused_total[5m])) > 0",
        "page",
        "devices",
        "{{ $labels.batcher }}: {{ $value | humanize }} requests a second are refused with 503",
        "5m",
    ),
    Alert(
        "MusterConnectionsFull",
        'sum by (listener) (rate(muster_http_connections_refused_total{reason="full"}[5m])) > 0',
        "page",
        "devices",
        "The {{ $labels.listener }} listener is full: new connections are closed",
        "2m",
    ),
    Alert(
        "MusterBodiesRefused",
        "sum by (listener) (rate(muster_http_bodies_refused_total[5m])) > 0",
        "page",
        "devices",
        "The {{ $labels.listener }} listener holds all the bytes of bodies it may: 503",
        "5m",
    ),
    Alert(
        "MusterPushCertificateRefused",
        "max(muster_push_notifier_circuits_open) > 0",
        "page",
        "push",
        "The vendor refuses a push certificate: its devices are not woken",
        "5m",
    ),
    Alert(
        "MusterPushesFail",
        'sum(rate(muster_push_notifier_pushes_total{reason!~"woken|dead"}[15m]))'
        " / sum(rate(muster_push_notifier_pushes_total[15m])) > 0.05",
        "ticket",
        "push",
        "{{ $value | humanizePercentage }} of pushes fail",
        "15m",
    ),
    Alert(
        "MusterFanOutStuck",
        "min_over_time(muster_command_queue_unexpanded_rows[15m]) > 0"
        " and on () sum(increase(muster_command_queue_targets_queued_total[15m])) == 0",
        "ticket",
        "devices",
        "Commands wait to be put into queues, and none was for a quarter of an hour",
    ),
    Alert(
        "MusterFencesWait",
        "max(muster_enrollment_fences_waiting) > 0",
        "ticket",
        "devices",
        f"{_COUNT} ended enrollments are not fenced yet: command_queue cannot be told",
        "15m",
    ),
    Alert(
        "MusterAnswersTooLarge",
        'increase(muster_command_queue_answers_too_large_total{result="refused"}[1h]) > 0',
        "ticket",
        "devices",
        "A device sent an answer above 64 MiB, again and again until its command ends",
    ),
)

CERTIFICATES = (
    Alert(
        "MusterPushCertificateExpires",
        "min by (topic) (muster_push_notifier_certificate_expires_seconds) < 30 * 86400",
        "ticket",
        "certificates",
        f"The push certificate of {{{{ $labels.topic }}}} expires in {_WAITS}",
        "10m",
    ),
    Alert(
        "MusterPushCertificateExpiresSoon",
        "min by (topic) (muster_push_notifier_certificate_expires_seconds) < 7 * 86400",
        "page",
        "certificates",
        f"The push certificate of {{{{ $labels.topic }}}} expires in {_WAITS}",
        "10m",
    ),
    Alert(
        "MusterAuthorityExpires",
        'min by (role) (muster_enrollment_authority_expires_seconds{role="ca"}) < 365 * 86400'
        " or min by (role) (muster_enrollment_authority_expires_seconds) < 29 * 86400",
        "ticket",
        "certificates",
        f"The certificate that signs as {{{{ $labels.role }}}} expires in {_WAITS}",
        "2h",
    ),
    Alert(
        "MusterTlsExpires",
        "min by (listener) (muster_http_tls_not_after_timestamp_seconds) - time() < 14 * 86400",
        "ticket",
        "certificates",
        f"The certificate that the {{{{ $labels.listener }}}} listener uses expires in {_WAITS}",
        "10m",
    ),
    Alert(
        "MusterCrlOld",
        "min by (authority) (muster_enrollment_crl_next_update_seconds) < 6 * 3600",
        "page",
        "certificates",
        f"The published CRL of {{{{ $labels.authority }}}} is valid for {_WAITS} more",
        "10m",
    ),
)

PROCESSES = (
    Alert(
        "MusterDown",
        'up{job=~"muster.*"} == 0',
        "page",
        "processes",
        "{{ $labels.instance }} does not answer",
        "3m",
    ),
    Alert(
        "MusterStuck",
        "min by (service, instance) (muster_watchdog_healthy) == 0",
        "page",
        "processes",
        f"{_SERVICE} on {{{{ $labels.instance }}}} makes no progress",
        "3m",
    ),
    Alert(
        "MusterLoopBlocked",
        "histogram_quantile(0.99, sum by (le, instance)"
        " (rate(muster_event_loop_lag_seconds_bucket[5m]))) > 0.1",
        "ticket",
        "processes",
        f"The event loop of {{{{ $labels.instance }}}} wakes {_WAITS} late",
        "10m",
    ),
    Alert(
        "MusterLogsLost",
        "sum by (instance) (increase(muster_logs_lost_total[15m])) > 0",
        "ticket",
        "processes",
        "{{ $labels.instance }} cannot write its log: what it does leaves no trace",
        "0m",
    ),
    Alert(
        "MusterPoolExhausted",
        "sum by (instance) (rate(muster_db_pool_timeouts_total[5m])) > 0",
        "page",
        "database",
        "{{ $labels.instance }}: transactions get no connection within five seconds",
        "2m",
    ),
    Alert(
        "MusterPoolWaits",
        "histogram_quantile(0.95, sum by (le, instance)"
        " (rate(muster_db_pool_wait_seconds_bucket[5m]))) > 0.1",
        "ticket",
        "database",
        f"{{{{ $labels.instance }}}}: one transaction in twenty waits {_WAITS} for a connection",
        "10m",
    ),
    Alert(
        "MusterDefaultPartition",
        "max by (service, table) (muster_db_default_partition_rows) > 0",
        "ticket",
        "database",
        f"{_SERVICE}: {_COUNT} rows of {{{{ $labels.table }}}} found no partition of their own",
    ),
    Alert(
        "MusterJobFails",
        'sum by (service, job) (increase(muster_job_seconds_count{result="failed"}[30m])) > 3'
        " unless on (service, job) sum by (service, job)"
        ' (increase(muster_job_seconds_count{result!="failed"}[30m])) > 0',
        "ticket",
        "processes",
        f"{_SERVICE}: the job “{{{{ $labels.job }}}}” only fails",
        "10m",
    ),
)

EMBEDDED = (
    Alert(
        "MusterServerDown",
        "min by (server) (muster_embedded_server_up) == 0",
        "page",
        "servers",
        "The embedded {{ $labels.server }} does not run",
        "1m",
    ),
    Alert(
        "MusterServerRestarts",
        "sum by (server) (increase(muster_embedded_server_restarts_total[1h])) > 2",
        "ticket",
        "servers",
        "The embedded {{ $labels.server }} died and was started again, more than twice in an hour",
    ),
    Alert(
        "MusterDiskLow",
        "max by (server) (muster_embedded_disk_low) > 0",
        "page",
        "servers",
        "The disk of the embedded {{ $labels.server }} is nearly full",
    ),
)

CAUSES = (*EVENTS, *DEVICES, *CERTIFICATES, *PROCESSES, *EMBEDDED)
