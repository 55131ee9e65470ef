"""Which event types exist, on which topic they travel and which service writes them.

JSON Schemas, AsyncAPI, topic and ACL manifests and docs/events.md are made from this list.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from shared.events import (
    access,
    audit,
    commands,
    compliance,
    dead_letters,
    device_state,
    devices,
    groups,
    inventory,
    people,
    pushes,
)
from shared.events.base import Event

SERVICES = (
    "enrollment",
    "command_queue",
    "push_notifier",
    "inventory",
    "compliance",
    "configuration",
    "console",
)
_DAY = 86_400_000


@dataclass(frozen=True)
class Topic:
    """A Kafka topic; `retention_ms` is None for a compacted one."""

    name: str
    owner: str
    retention_ms: int | None

    @property
    def compacted(self) -> bool:
        return self.retention_ms is None


def _each(pattern: str, services: tuple[str, ...], days: int) -> list[Topic]:
    return [Topic(pattern.format(service=name), name, days * _DAY) for name in services]


REQUESTERS = ("inventory", "enrollment", "compliance", "configuration")

TOPICS: dict[str, Topic] = {
    topic.name: topic
    for topic in [
        Topic("muster.device.v1", "enrollment", 14 * _DAY),
        Topic("muster.device-state.v1", "enrollment", None),
        Topic("muster.command.v1", "command_queue", 14 * _DAY),
        Topic("muster.command-work.v1", "command_queue", 14 * _DAY),
        *_each("muster.command-request.{service}.v1", REQUESTERS, 7),
        Topic("muster.push.v1", "push_notifier", _DAY),
        Topic("muster.push-certificate.v1", "push_notifier", None),
        Topic("muster.inventory.v1", "inventory", 14 * _DAY),
        Topic("muster.groups.v1", "inventory", None),
        Topic("muster.compliance.v1", "compliance", 14 * _DAY),
        Topic("muster.access.v1", "console", None),
        Topic("muster.people.v1", "console", 14 * _DAY),
        Topic("muster.audit-root.v1", "console", 400 * _DAY),
        *_each("muster.audit.{service}.v1", SERVICES, 30),
        *_each("muster.dead-letter.{service}.v1", SERVICES, 30),
    ]
}

EVENTS: dict[str, type[Event]] = {
    model.TYPE: model
    for model in (
        devices.DeviceEnrolled,
        devices.DeviceImported,
        devices.UserChannelOpened,
        devices.DeviceUnenrolled,
        devices.DeviceQuarantined,
        devices.DeviceReleased,
        devices.DeviceRefused,
        devices.SerialsListed,
        devices.DeviceChanged,
        devices.OwnershipAnnounced,
        devices.BootstrapTokenChanged,
        devices.CertificateIssued,
        devices.CertificateRevoked,
        devices.EnrollmentRefused,
        device_state.DeviceState,
        device_state.AuthorityPublished,
        commands.CommandCreated,
        commands.CommandCancelled,
        commands.CommandReleased,
        commands.CommandContinued,
        commands.GuardAlarmed,
        commands.CommandQueued,
        commands.CommandDeferred,
        commands.CommandFinished,
        commands.CommandAnswerPart,
        commands.AnswerUnexpected,
        commands.DeviceSeen,
        commands.CommandRequested,
        pushes.PushSent,
        pushes.PushFailed,
        pushes.PushCertificateChanged,
        inventory.FactsChanged,
        inventory.ApplicationsChanged,
        inventory.ProfilesChanged,
        inventory.CertificatesChanged,
        inventory.SectionReported,
        groups.DeviceGroups,
        groups.GroupState,
        compliance.VerdictChanged,
        compliance.PolicyChanged,
        access.AccountState,
        access.ViaRevoked,
        people.ProviderChanged,
        people.SealedAccountUsed,
        audit.AuditRecorded,
        audit.AuditRootSigned,
        dead_letters.DeadLettered,
    )
}


def topic_of(model: type[Event], service: str) -> str:
    """The topic on which `service` writes this event type; refuses a foreign writer."""
    topic = TOPICS[model.TOPIC.format(service=service)]
    if topic.owner != service:
        raise ValueError(f"{topic.name} is written by {topic.owner}, not by {service}")
    return topic.name


def topics_read(models: Iterator[type[Event]] | set[type[Event]]) -> list[str]:
    """The topics that a consumer of these event types subscribes to."""
    names: set[str] = set()
    for model in models:
        if "{service}" in model.TOPIC:
            prefix, suffix = model.TOPIC.split("{service}")
            names.update(n for n in TOPICS if n.startswith(prefix) and n.endswith(suffix))
        else:
            names.add(model.TOPIC)
    return sorted(names)
