"""Every metric of enrollment."""

from __future__ import annotations

from prometheus_client import Counter, Gauge, Histogram

CHECKINS = Counter(
    "muster_enrollment_checkins_total",
    "Check-ins by message type and what became of them.",
    ["message", "outcome"],
)
CHECKIN_SECONDS = Histogram(
    "muster_enrollment_checkin_seconds",
    "From a whole check-in to its answer.",
    ["message"],
    buckets=(0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5),
)
PROFILES = Counter(
    "muster_enrollment_profiles_total", "Enrollment profiles asked for, by outcome.", ["outcome"]
)
SCEP_REQUESTS = Counter(
    "muster_enrollment_scep_requests_total",
    "SCEP requests by operation and outcome.",
    ["operation", "outcome"],
)
CERTIFICATES_ISSUED = Counter(
    "muster_enrollment_certificates_issued_total", "Device identities issued.", ["kind"]
)
IMPORTED = Counter(
    "muster_enrollment_imported_total", "Rows of imports, by what became of them.", ["outcome"]
)
QUARANTINED = Counter(
    "muster_enrollment_quarantined_total", "Enrollments that wait for a person's decision."
)
LOBBY_DECIDED = Counter(
    "muster_enrollment_lobby_decided_total",
    "Enrollments that waited in the lobby, by what became of them.",
    ["decision"],
)
LOBBY_WAITING = Gauge(
    "muster_enrollment_lobby_waiting", "Enrollments that wait in the lobby for a decision."
)
FENCE_CALLS = Counter(
    "muster_enrollment_fence_calls_total",
    "Calls that fence command_queue, by outcome.",
    ["outcome"],
)
FENCES_WAITING = Gauge(
    "muster_enrollment_fences_waiting", "Ended enrollments command_queue has not been told of yet."
)
STATES_RETOLD = Counter(
    "muster_enrollment_states_retold_total",
    "States of devices told anew in the slow round that keeps the compacted topic right.",
)
STALLED = Counter(
    "muster_enrollment_stalled_total",
    "New devices that authenticated and sent no TokenUpdate for a while.",
)
AUTHORITY_EXPIRES_SECONDS = Gauge(
    "muster_enrollment_authority_expires_seconds",
    "Until the certificate that signs in this role expires.",
    ["role"],
)
CRL_NEXT_UPDATE_SECONDS = Gauge(
    "muster_enrollment_crl_next_update_seconds",
    "Until the published CRL is no longer valid.",
    ["authority"],
)
OCSP_ANSWERS = Counter(
    "muster_enrollment_ocsp_answers_total", "OCSP answers by what they say.", ["status"]
)
DECLARATION_CALLS = Counter(
    "muster_enrollment_declaration_calls_total",
    "Calls to configuration for a device's declarations, by outcome.",
    ["outcome"],
)
