"""`muster.command.v1`: what happens to commands. Written by command_queue."""

from __future__ import annotations

from collections.abc import Collection
from enum import StrEnum
from typing import Any, ClassVar, Literal
from uuid import UUID

from pydantic import AwareDatetime

from shared.events.base import Event, Part, Short, Text


class CommandClass(StrEnum):
    HARMLESS = "harmless"
    DISRUPTIVE = "disruptive"
    DESTRUCTIVE = "destructive"


class TargetState(StrEnum):
    """Who must act (architecture §3)."""

    HELD = "held"
    QUEUED = "queued"
    SENT = "sent"
    DEFERRED = "deferred"
    ACKNOWLEDGED = "acknowledged"
    VERIFIED = "verified"
    FAILED = "failed"
    EXPIRED = "expired"
    CANCELLED = "cancelled"
    CANCEL_REQUESTED = "cancel_requested"
    UNCONFIRMED = "unconfirmed"


class CommandEvent(Event):
    TOPIC: ClassVar[str] = "muster.command.v1"


class CommandCreated(CommandEvent):
    """A command was accepted; `state` says whether it runs or is held."""

    TYPE: ClassVar[str] = "muster.command.created.v1"
    command_id: UUID
    kind: Short
    request_type: Short | None = None
    command_class: CommandClass
    state: Short
    hold_reason: Short | None = None
    actor: Short
    reason: Short | None = None
    target_count: int
    expires_at: AwareDatetime
    reach: list[UUID] | None = None
    """The groups that it was asked for by, where its asker has rights on these only."""
    canary: int | None = None
    """So many devices have it first; the others wait for a person. None: all have it at once."""

    @property
    def subject(self) -> str:
        return str(self.command_id)


class CommandCancelled(CommandEvent):
    """A person, a freeze or an expiry took back what was not yet handed out."""

    TYPE: ClassVar[str] = "muster.command.cancelled.v1"
    command_id: UUID
    actor: Short
    reason: Short | None = None

    @property
    def subject(self) -> str:
        return str(self.command_id)


class CommandReleased(CommandEvent):
    """A held command was approved, and runs from now on."""

    TYPE: ClassVar[str] = "muster.command.released.v1"
    command_id: UUID
    approvers: list[Short]
    released_at: AwareDatetime

    @property
    def subject(self) -> str:
        return str(self.command_id)


class CommandContinued(CommandEvent):
    """A person saw what a wide change did to the first devices, and let the others have it."""

    TYPE: ClassVar[str] = "muster.command.continued.v1"
    command_id: UUID
    actor: Short
    answered: int
    """Of the first devices."""
    targets: int
    """That have it coming now."""

    @property
    def subject(self) -> str:
        return str(self.command_id)


class GuardAlarmed(CommandEvent):
    """Somebody must look: commands were held, frozen or all cancelled, a freeze was lifted, what
    protects is to go, somebody gets power over the guard (or was vetoed), a device was erased or
    left management and Muster had not asked for it, an act that is no command was refused, or the
    push certificate was replaced.
    """

    TYPE: ClassVar[str] = "muster.guard.alarmed.v1"
    alarm_id: UUID
    kind: Literal[
        "held",
        "frozen",
        "lifted",
        "cancelled",
        "weakened",
        "empowered",
        "vetoed",
        "unasked",
        "refused",
        "push_certificate",
    ]
    actor: Short
    reason: Text
    command_id: UUID | None = None
    command_class: CommandClass | None = None
    """None: every class."""
    target_count: int = 0
    account_id: UUID | None = None
    """Whose power is new or was vetoed."""
    counts_from: AwareDatetime | None = None
    """When it begins to count; until then it can be vetoed."""
    about: UUID | None = None
    """The device that is gone."""

    @property
    def subject(self) -> str:
        return str(self.command_id or self.alarm_id)


class DeviceCommandEvent(CommandEvent):
    device_id: UUID
    channel_id: UUID | None = None
    """None: the target has no channel (not enrolled)."""


class QueuedTarget(Part):
    device_id: UUID
    channel_id: UUID


class CommandQueued(CommandEvent):
    """Work waits for channels: push_notifier wakes them.

    On a topic of its own: nobody else listens. Its order with what is on `muster.command.v1` is
    that of `ce_sequence`, for each of the devices. The key is the first of them.
    """

    TYPE: ClassVar[str] = "muster.command.queued.v1"
    TOPIC: ClassVar[str] = "muster.command-work.v1"
    command_id: UUID
    kind: Short
    queued_at: AwareDatetime
    targets: list[QueuedTarget]
    """By device, a few hundred at most."""

    @property
    def subject(self) -> str:
        return str(self.targets[0].device_id)

    @property
    def devices(self) -> Collection[UUID]:
        return [target.device_id for target in self.targets]


class CommandDeferred(DeviceCommandEvent):
    """The device said NotNow."""

    TYPE: ClassVar[str] = "muster.command.deferred.v1"
    command_id: UUID
    push_wanted: bool
    """True once another command was answered on the same connection (apple.md §1.3 rule 3)."""


class ErrorDetail(Part):
    code: int | None = None
    domain: Short | None = None
    message: Text | None = None


class CommandFinished(DeviceCommandEvent):
    """A target of a command reached its one outcome."""

    TYPE: ClassVar[str] = "muster.command.finished.v1"
    command_id: UUID
    enrollment_id: UUID | None = None
    generation: int | None = None
    kind: Short
    request_type: Short | None = None
    section: Short | None = None
    """For `inventory.refresh`: what was asked for."""
    state: TargetState
    reason: Short | None = None
    errors: list[ErrorDetail] = []
    answer: dict[str, Any] | None = None
    """The parsed answer without secret fields; bytes as {"$data": base64}, dates as ISO text."""
    answer_parts: int = 0
    """Above 0 the answer came before this event as so many CommandAnswerPart events."""
    deliveries: int = 0
    """How often the device was handed this command; above 1 is a repeat."""
    actor: Short | None = None
    queued_at: AwareDatetime
    handed_out_at: AwareDatetime | None = None
    """When the device was last handed this command; None: never, or not told."""
    finished_at: AwareDatetime
    queue_empty: bool = True
    """False: the channel still has work to be woken for."""


class CommandAnswerPart(DeviceCommandEvent):
    """A piece of an answer too large for one event; ordered, all before CommandFinished."""

    TYPE: ClassVar[str] = "muster.command.answer_part.v1"
    command_id: UUID
    part: int
    """From 0."""
    parts: int
    data: str
    """A slice of the answer's JSON text."""


class AnswerUnexpected(DeviceCommandEvent):
    """A device answered what it was never asked, or what was already settled."""

    TYPE: ClassVar[str] = "muster.command.answer_unexpected.v1"
    command_uuid: Short
    status: Short
    why: Short


class DeviceSeen(DeviceCommandEvent):
    """The device spoke; at most once an hour a device."""

    TYPE: ClassVar[str] = "muster.device.seen.v1"
    seen_at: AwareDatetime


class CommandRequested(Event):
    """A service asks for a command; the idempotency key makes repeats one command."""

    TYPE: ClassVar[str] = "muster.command.requested.v1"
    TOPIC: ClassVar[str] = "muster.command-request.{service}.v1"
    device_id: UUID
    kind: Short
    params: dict[str, Any] = {}
    idempotency_key: Short
    actor: Short
    reason: Short | None = None
    expires_in_seconds: int = 7 * 86400
    priority: int = 0
