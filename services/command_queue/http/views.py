"""What the API of commands takes and shows."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal, Self
from uuid import UUID

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, StringConstraints

from services.command_queue.budgets import Budget
from services.command_queue.reading import Filters
from services.command_queue.requests import Accepted
from shared.db import partitions
from shared.events.commands import CommandClass
from shared.runtime.http import Page

Text = Annotated[str, StringConstraints(min_length=1, max_length=300)]
MOST_BODIES = 10_000


class NewCommand(BaseModel):
    """A command for named devices; groups become device ids before."""

    model_config = ConfigDict(extra="forbid")

    kind: Text
    params: dict[str, Any] = {}
    device_ids: list[UUID] = []
    channel_ids: list[UUID] = []
    """Channels of users; a device in `device_ids` is reached on its device channel."""
    all: bool = False
    """Every device within the asker's reach that is enrolled now, instead of `device_ids`."""
    idempotency_key: Annotated[str, StringConstraints(min_length=1, max_length=200)]
    reason: Text | None = None
    expires_in_seconds: int = Field(default=7 * 86_400, ge=60, le=90 * 86_400)
    priority: int = Field(default=0, ge=-100, le=100)
    bodies: Annotated[dict[UUID, dict[str, Any]], Field(max_length=MOST_BODIES)] = {}
    """Parameters of single devices, instead of `params`."""


class Question(BaseModel):
    """A command that nobody asks for yet."""

    model_config = ConfigDict(extra="forbid")

    kind: Text
    params: dict[str, Any] = {}


class JudgedView(BaseModel):
    """What a command's content tells about it. A device may make it more dangerous: removing what
    Muster did not install there is destructive.
    """

    request_type: str
    command_class: CommandClass
    summary: dict[str, Any]
    """As the command would show it: no PIN, no password, no content of a profile."""
    change: bool
    """On many devices a few have it first."""


class AcceptedView(BaseModel):
    command_id: UUID
    state: str
    command_class: CommandClass
    hold_reason: str | None
    target_count: int
    created_at: datetime
    expires_at: datetime
    created: bool
    """False: this was a repeat of an earlier request with the same key."""

    @classmethod
    def of(cls, accepted: Accepted) -> AcceptedView:
        return cls(**{name: getattr(accepted, name) for name in cls.model_fields})


class CommandView(BaseModel):
    command_id: UUID
    kind: str
    request_type: str
    section: str | None
    command_class: CommandClass
    summary: dict[str, Any]
    actor: str
    reason: str | None
    state: str
    hold_reason: str | None
    priority: int
    target_count: int
    created_at: datetime
    expires_at: datetime
    ended_at: datetime | None
    ended_by: str | None
    end_reason: str | None


class CanaryView(BaseModel):
    """A wide change: `devices` have it first, `rest` waits for a person."""

    devices: int
    answered: int
    rest: int
    begun_at: datetime
    continued_at: datetime | None
    continued_by: str | None
    why_not: str | None
    """Why nobody can let it go on now; None: somebody can."""


class CommandProgress(CommandView):
    progress: dict[str, int]
    """Targets by state; `waiting` (device unknown yet), `unexpanded` and `parked` (behind a canary)
    are not queued yet.
    """
    canary: CanaryView | None = None


class Continued(BaseModel):
    targets: int
    """That have it coming now."""


class CommandList(BaseModel):
    items: list[CommandView]
    next: str | None


class TargetView(BaseModel):
    target_id: UUID
    """The channel; the device where there was none."""
    device_id: UUID
    state: str
    reason: str | None
    errors: list[dict[str, Any]] | None
    answer: Any
    deliveries: int
    deferrals: int
    queued_at: datetime | None
    sent_at: datetime | None
    finished_at: datetime | None


class TargetList(BaseModel):
    items: list[TargetView]
    next: str | None


class QueuedView(BaseModel):
    command_id: UUID
    channel_id: UUID
    kind: str
    command_class: CommandClass
    actor: str
    state: str
    deliveries: int
    deferrals: int
    queued_at: datetime
    sent_at: datetime | None
    expires_at: datetime


class DoneView(BaseModel):
    command_id: UUID
    channel_id: UUID
    kind: str | None
    command_class: CommandClass | None
    actor: str | None
    state: str
    reason: str | None
    errors: list[dict[str, Any]] | None
    deliveries: int
    deferrals: int
    queued_at: datetime
    finished_at: datetime


class DeviceCommands(BaseModel):
    """What waits for a device, in the order it will be given, and a page of what is done."""

    last_seen_at: datetime | None
    queue: list[QueuedView]
    items: list[DoneView]
    next: str | None


class PossibleView(BaseModel):
    kind: str
    command_class: CommandClass
    obstacle: str | None
    """Why the device could not take it now, as far as is known; None: nothing speaks against it."""


class PossibleList(BaseModel):
    """The kinds of commands that need no parameters."""

    items: list[PossibleView]


class Cancel(BaseModel):
    model_config = ConfigDict(extra="forbid")

    reason: Text | None = None


class Cancelled(BaseModel):
    cancelled: bool
    """False: the command had ended before."""


class CommandsQuery(Page):
    kind: Text | None = None
    state: Text | None = None
    actor: Text | None = None
    device: UUID | None = None
    """One that it was for."""
    since: AwareDatetime | None = None
    """Asked for from this instant on, and before `until`."""
    until: AwareDatetime | None = None

    def filters(self) -> Filters:
        before = self.after_id()
        until = None if self.until is None else partitions.bound(self.until)
        return Filters(
            kind=self.kind,
            state=self.state,
            actor=self.actor,
            device_id=self.device,
            since=None if self.since is None else partitions.bound(self.since),
            before=min((one for one in (before, until) if one is not None), default=None),
        )


class BudgetView(BaseModel):
    """`whose` is `actor` or `installation`; targets that may still be reached are limit - spent."""

    whose: Literal["actor", "installation"]
    command_class: CommandClass
    window_minutes: int
    limit: int
    spent: int

    @classmethod
    def of(cls, budget: Budget) -> Self:
        return cls(
            whose="installation" if budget.actor is None else "actor",
            command_class=budget.command_class,
            window_minutes=budget.window.minutes,
            limit=budget.limit,
            spent=budget.spent,
        )


class BudgetList(BaseModel):
    items: list[BudgetView]
