"""From events to deliveries: in the transaction of the event's effect, for each who wants it."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import orjson

from services.console.store import deliveries as store
from services.console.store import webhooks
from services.console.store.webhooks import Wanted
from shared.bus import Handlers
from shared.bus.envelope import schema_of
from shared.bus.handlers import Handler
from shared.db.pool import Connection
from shared.events import Event
from shared.events.audit import AuditRecorded, AuditRootSigned
from shared.events.base import uuid7
from shared.events.commands import (
    CommandCancelled,
    CommandContinued,
    CommandCreated,
    CommandFinished,
    CommandReleased,
    GuardAlarmed,
)
from shared.events.compliance import PolicyChanged, VerdictChanged
from shared.events.devices import (
    CertificateIssued,
    CertificateRevoked,
    DeviceChanged,
    DeviceEnrolled,
    DeviceImported,
    DeviceQuarantined,
    DeviceRefused,
    DeviceReleased,
    DeviceUnenrolled,
    OwnershipAnnounced,
)
from shared.events.inventory import FactsChanged
from shared.events.people import ProviderChanged, SealedAccountUsed
from shared.runtime.clock import Clock


@dataclass(frozen=True)
class Offer:
    """A type of event, and what somebody must hold to have it sent somewhere."""

    model: type[Event]
    permission: str


_OF: Final[dict[str, tuple[type[Event], ...]]] = {
    "enrollment.read": (
        DeviceEnrolled,
        DeviceImported,
        DeviceUnenrolled,
        DeviceQuarantined,
        DeviceRefused,
        DeviceReleased,
        DeviceChanged,
        OwnershipAnnounced,
        CertificateIssued,
        CertificateRevoked,
    ),
    "command.read": (
        CommandCreated,
        CommandCancelled,
        CommandReleased,
        CommandContinued,
        CommandFinished,
        GuardAlarmed,
    ),
    "inventory.read": (FactsChanged,),
    "compliance.read": (VerdictChanged, PolicyChanged),
    "audit.read": (AuditRecorded, AuditRootSigned),
    "people.read": (ProviderChanged, SealedAccountUsed),
}
OFFERED: Final = {
    model.TYPE: Offer(model, permission) for permission, models in _OF.items() for model in models
}
"""What may be told, by type: nothing here holds a secret, not even a sealed one."""
_REMEMBERED = 5.0
"""Seconds until another process hears that a webhook was made or changed."""


class Keeping:
    """Remembers who wants what, so that an event that nobody wants costs no statement."""

    def __init__(self, clock: Clock, ticks: Callable[[], float] = time.monotonic) -> None:
        self._clock, self._ticks = clock, ticks
        self._wanted: list[Wanted] = []
        self._asked_at: float | None = None

    def forget(self) -> None:
        """Look again with the next event."""
        self._asked_at = None

    def beside(self, handlers: Handlers) -> Handlers:
        """The same handlers, and deliveries of what they handled."""
        return {
            model: self._then(handler) if model.TYPE in OFFERED else handler
            for model, handler in handlers.items()
        }

    def _then(self, handler: Handler) -> Handler:
        async def handle(tx: Connection, events: Sequence[Any]) -> None:
            await handler(tx, events)
            await self.keep(tx, events)

        return handle

    async def keep(self, tx: Connection, events: Sequence[Event]) -> None:
        """Make a row for each event and each webhook that wants it."""
        rows: list[tuple[Any, ...]] = []
        for wanted in await self._who(tx):
            chosen = [event for event in events if event.TYPE in wanted.event_types]
            now = self._clock.now()
            rows += [_row(wanted, event, now) for event in await _of_group(tx, wanted, chosen)]
        if rows:
            await store.add(tx, rows)

    async def _who(self, tx: Connection) -> list[Wanted]:
        now = self._ticks()
        if self._asked_at is None or now - self._asked_at > _REMEMBERED:
            self._wanted = await webhooks.wanted(tx, self._clock.now())
            self._asked_at = now
        return self._wanted


async def _of_group(tx: Connection, wanted: Wanted, events: Sequence[Event]) -> Sequence[Event]:
    """Where a group is named: what is about its devices, and nothing else."""
    if wanted.group_id is None or not events:
        return events
    devices = sorted({event.device for event in events if event.device})
    inside = await store.in_group(tx, devices, wanted.group_id)
    return [event for event in events if event.device in inside]


def _row(wanted: Wanted, event: Event, now: datetime) -> tuple[Any, ...]:
    meta = event.meta
    body = orjson.dumps(cloud_event(event)).decode()
    return (uuid7(), wanted.webhook_id, meta.event_id, event.TYPE, event.subject, body, now)


def cloud_event(event: Event) -> dict[str, Any]:
    """CloudEvents 1.0, structured mode, with the attributes that it has in Kafka."""
    meta = event.meta
    return {
        "specversion": "1.0",
        "id": str(meta.event_id),
        "type": event.TYPE,
        "source": meta.source,
        "time": meta.time.isoformat(),
        "subject": event.subject,
        "sequence": str(meta.sequence),
        "correlationid": meta.correlation_id,
        "dataschema": schema_of(event.TYPE),
        "datacontenttype": "application/json",
        "data": event.model_dump(mode="json"),
    }
