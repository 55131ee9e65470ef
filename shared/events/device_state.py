"""`muster.device-state.v1`, compacted: each event replaces all that was known of its subject.

Every service builds its device projection from it, and can be rebuilt from it.
"""

from __future__ import annotations

from typing import ClassVar, Literal
from uuid import UUID

from pydantic import AwareDatetime

from shared.events.base import Event, Part, Short, Text
from shared.events.devices import Ownership, Platform

Sealed = str
"""Base64 of a `shared.sealed` blob; only the service it is sealed to can open it."""


class ChannelState(Part):
    channel_id: UUID
    kind: Literal["device", "user"]
    user_key: Short = ""
    """UserID, EnrollmentUserID or (Shared iPad) UserShortName; empty on the device channel."""
    user_name: Short | None = None
    open: bool
    """A TokenUpdate arrived for this generation: commands may be served, pushes sent."""
    push_topic: Short | None = None
    push: Sealed | None = None
    """Sealed to push_notifier, purpose `push`: JSON {"token": hex, "magic": text}."""
    push_updated_at: AwareDatetime | None = None
    unlock_token: Sealed | None = None
    """Sealed to command_queue, purpose `unlock-token`: the raw bytes."""


class EnrollmentState(Part):
    enrollment_id: UUID
    generation: int
    state: Literal["pending", "enrolled", "quarantined", "ended"]
    mode: Literal["device", "user", "shared_ipad"] = "device"
    supervised: bool | None = None
    access_rights: int | None = None
    """The rights bits of the profile this enrollment was made with; None: not known."""
    udid: Short | None = None
    """UDID, or EnrollmentID of a user enrollment: what a body's id is compared with."""
    pins: list[Short]
    """SHA-256 (hex) of the certificates that may speak for it."""
    channels: list[ChannelState]
    authenticated_at: AwareDatetime
    enrolled_at: AwareDatetime | None = None
    ended_at: AwareDatetime | None = None
    end_reason: Short | None = None


class DeviceState(Event):
    """A device as enrollment knows it now."""

    TYPE: ClassVar[str] = "muster.device.state.v1"
    TOPIC: ClassVar[str] = "muster.device-state.v1"
    device_id: UUID
    platform: Platform
    ownership: Ownership
    name: Short | None = None
    serial: Short | None = None
    model: Short | None = None
    product: Short | None = None
    os_version: Short | None = None
    build: Short | None = None
    user: Short | None = None
    tags: list[Short] = []
    enrollments: list[EnrollmentState]
    current_enrollment: UUID | None = None
    deleted: bool = False
    """True: forget the device; its rows may go."""


class AuthorityPublished(Event):
    """The certificates that device identities are issued under."""

    TYPE: ClassVar[str] = "muster.authority.published.v1"
    TOPIC: ClassVar[str] = "muster.device-state.v1"
    authority: Short
    """`device-identity`; more kinds may follow."""
    certificates: list[Text]
    """PEM, newest first; two are valid during a rollover."""

    @property
    def subject(self) -> str:
        return f"authority:{self.authority}"
