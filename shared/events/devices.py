"""`muster.device.v1`: who is managed. Written by enrollment."""

from __future__ import annotations

from enum import StrEnum
from typing import Any, ClassVar, Literal
from uuid import UUID

from pydantic import AwareDatetime, Field

from shared.events.base import Event, Short


class Platform(StrEnum):
    IOS = "ios"
    IPADOS = "ipados"
    MACOS = "macos"
    TVOS = "tvos"
    VISIONOS = "visionos"
    WATCHOS = "watchos"
    WINDOWS = "windows"
    ANDROID = "android"
    UNKNOWN = "unknown"


class Ownership(StrEnum):
    CORPORATE = "corporate"
    PERSONAL = "personal"
    UNKNOWN = "unknown"


class DeviceEvent(Event):
    TOPIC: ClassVar[str] = "muster.device.v1"
    device_id: UUID


class DeviceEnrolled(DeviceEvent):
    """The first TokenUpdate of an enrollment's generation: the device takes commands now."""

    TYPE: ClassVar[str] = "muster.device.enrolled.v1"
    enrollment_id: UUID
    generation: int
    channel_id: UUID
    platform: Platform
    ownership: Ownership
    again: bool = False
    """A repeated enrollment of the same enrollment_id (generation > 1)."""
    awaiting_configuration: bool = False
    serial: Short | None = None
    model: Short | None = None
    product: Short | None = None
    os_version: Short | None = None
    build: Short | None = None
    name: Short | None = None
    enrolled_at: AwareDatetime


class DeviceImported(DeviceEvent):
    """An enrollment was taken over from another server as it stood there: the device takes commands
    now, without having enrolled here.
    """

    TYPE: ClassVar[str] = "muster.device.imported.v1"
    enrollment_id: UUID
    generation: int
    channel_id: UUID
    platform: Platform
    ownership: Ownership
    serial: Short | None = None
    model: Short | None = None
    product: Short | None = None
    os_version: Short | None = None
    build: Short | None = None
    name: Short | None = None
    refresh: bool = False
    """Its first inventory is wanted soon; else its turn comes within the daily round."""
    actor: Short
    imported_at: AwareDatetime


class UserChannelOpened(DeviceEvent):
    """A user of the device has a channel of their own."""

    TYPE: ClassVar[str] = "muster.device.user_channel_opened.v1"
    enrollment_id: UUID
    generation: int
    channel_id: UUID
    user_name: Short | None = None


class DeviceUnenrolled(DeviceEvent):
    """Management ended; the certificate is revoked."""

    TYPE: ClassVar[str] = "muster.device.unenrolled.v1"
    enrollment_id: UUID
    generation: int
    reason: Literal["check_out", "erased", "unenrolled", "admin", "revoked", "superseded"]
    actor: Short | None = None


class DeviceQuarantined(DeviceEvent):
    """Something speaks against an enrollment: it waits in the lobby, and a person decides."""

    TYPE: ClassVar[str] = "muster.device.quarantined.v1"
    enrollment_id: UUID
    reasons: list[Short]
    """Codes, as `serial_unlisted`; docs/lobby.md says what each means."""
    score: int = 0
    """What the reasons weigh together, at most 100."""
    credential_id: UUID | None = None
    conflicts_with: UUID | None = None
    """The device that already holds this hardware's identity."""


class DeviceReleased(DeviceEvent):
    TYPE: ClassVar[str] = "muster.device.released.v1"
    enrollment_id: UUID
    actor: Short
    reason: Short


class DeviceRefused(DeviceEvent):
    """An enrollment that waited ends without ever having been trusted; its certificate is revoked.

    What the device's own enrollment does is not touched by it.
    """

    TYPE: ClassVar[str] = "muster.device.refused.v1"
    enrollment_id: UUID
    how: Literal["refused", "expired", "left"]
    """A person refused it, nobody decided in time, or the device took itself out."""
    actor: Short | None = None
    reason: Short | None = None


class SerialsListed(Event):
    """Hardware was put on the list of those that may enroll, or taken off; in parts if many."""

    TYPE: ClassVar[str] = "muster.enrollment.serials_listed.v1"
    TOPIC: ClassVar[str] = "muster.device.v1"
    change_id: UUID
    listed: bool
    """False: taken off."""
    serials: list[Short]
    actor: Short

    @property
    def subject(self) -> str:
        return str(self.change_id)


class DeviceChanged(DeviceEvent):
    """A person or an API client changed name, tags, ownership or user."""

    TYPE: ClassVar[str] = "muster.device.changed.v1"
    actor: Short
    before: dict[str, Any]
    after: dict[str, Any]


class OwnershipAnnounced(DeviceEvent):
    """A personal device is to be corporate: an alarm, which can be vetoed until `due_at`."""

    TYPE: ClassVar[str] = "muster.device.ownership_announced.v1"
    how: Literal["asked", "vetoed", "done"]
    actor: Short
    """Who asked, or vetoed."""
    ownership: Ownership | None = None
    due_at: AwareDatetime | None = None


class BootstrapTokenChanged(DeviceEvent):
    TYPE: ClassVar[str] = "muster.device.bootstrap_token_changed.v1"
    enrollment_id: UUID
    escrowed: bool


class CertificateIssued(DeviceEvent):
    """A device identity certificate counts from now on: it left the CA, or was imported."""

    TYPE: ClassVar[str] = "muster.certificate.issued.v1"
    sha256: Short
    serial_number: Short
    not_after: AwareDatetime
    renewal: bool = False
    imported: bool = False
    """Another CA issued it: it stands on no list of ours, only its pin can be refused."""


class CertificateRevoked(DeviceEvent):
    TYPE: ClassVar[str] = "muster.certificate.revoked.v1"
    sha256: Short
    serial_number: Short
    reason: Short
    actor: Short | None = None


class EnrollmentRefused(Event):
    """Somebody was turned away: a spent credential, a wrong certificate, a forbidden device."""

    TYPE: ClassVar[str] = "muster.enrollment.refused.v1"
    TOPIC: ClassVar[str] = "muster.device.v1"
    attempt_id: UUID
    stage: Literal["profile", "scep", "authenticate", "token_update"]
    reason: Short
    credential_id: UUID | None = None
    claimed_serial: Short | None = None
    claimed_udid: Short | None = None
    certificate_sha256: Short | None = Field(default=None)
    address: Short | None = None
    """Where it came from; absent where the peer is a proxy of ours."""

    @property
    def subject(self) -> str:
        return str(self.attempt_id)
