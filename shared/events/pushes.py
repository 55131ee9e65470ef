"""`muster.push.v1` and `muster.push-certificate.v1`. Written by push_notifier."""

from __future__ import annotations

from typing import ClassVar
from uuid import UUID

from pydantic import AwareDatetime

from shared.events.base import Event, Short


class PushEvent(Event):
    TOPIC: ClassVar[str] = "muster.push.v1"
    device_id: UUID
    channel_id: UUID


class PushSent(PushEvent):
    TYPE: ClassVar[str] = "muster.push.sent.v1"
    push_id: Short
    sent_at: AwareDatetime


class PushFailed(PushEvent):
    TYPE: ClassVar[str] = "muster.push.failed.v1"
    status: int
    reason: Short
    token_dead: bool
    """True: no more pushes until the next TokenUpdate; the enrollment stays."""


class PushCertificateChanged(Event):
    """The vendor certificate that wakes devices; enrollment needs its topic for profiles."""

    TYPE: ClassVar[str] = "muster.push_certificate.changed.v1"
    TOPIC: ClassVar[str] = "muster.push-certificate.v1"
    topic: Short
    """`com.apple.mgmt.…`: the certificate's UID."""
    fingerprint: Short
    not_after: AwareDatetime
    development: bool = False
    current: bool = True
    """The one that new enrollment profiles name."""
    former_topic: Short | None = None
    """What they named before; None: this is the first certificate."""
    by: Short | None = None

    @property
    def subject(self) -> str:
        return self.topic
