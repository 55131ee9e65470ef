"""What lists of devices are asked, and what they answer."""

from __future__ import annotations

from datetime import date, datetime
from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field

from services.console.views.filters import (
    Filters,
    Order,
    Seen,
    Sort,
    Status,
    place_of,
    sought,
    version_of,
)
from shared.events.compliance import VerdictState
from shared.events.devices import Ownership, Platform
from shared.runtime.paging import MAX_CURSOR, Page

_Word = Annotated[str, Field(min_length=1, max_length=100)]
_Many: Any = Field(default_factory=list, max_length=50)


class DeviceFilters(BaseModel):
    """Filters and order of a list of devices, as they stand in a URL."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    q: Annotated[str, Field(max_length=200)] = ""
    """Words: parts of name, serial, user, model or UDID, all of which must be found."""
    platform: Annotated[list[Platform], _Many]
    os: _Word | None = None
    """A version or its beginning: 17 is every 17.x."""
    os_below: _Word | None = None
    status: Annotated[list[Status], _Many]
    compliance: Annotated[list[VerdictState], _Many]
    ownership: Annotated[list[Ownership], _Many]
    tag: Annotated[list[_Word], _Many]
    group: Annotated[list[UUID], _Many]
    failing: UUID | None = None
    """A policy that they do not comply with."""
    seen: Seen | None = None
    supervised: bool | None = None
    expiring: bool = False
    """Their identity certificate ends within 30 days."""
    sort: Sort = Sort.NAME
    descending: bool = False

    def filters(self) -> Filters:
        """Raises Problem for words and versions that cannot be meant."""
        for version in (self.os, self.os_below):
            if version is not None:
                version_of(version)
        return Filters(
            words=sought(self.q),
            platform=tuple(self.platform),
            os=self.os,
            os_below=self.os_below,
            status=tuple(self.status),
            compliance=tuple(self.compliance),
            ownership=tuple(self.ownership),
            tag=tuple(self.tag),
            group=tuple(self.group),
            failing=self.failing,
            seen=self.seen,
            supervised=self.supervised,
            expiring=self.expiring,
        )

    def order(self) -> Order:
        return Order(self.sort, self.descending)


class DeviceQuery(DeviceFilters):
    limit: Annotated[int, Field(ge=1, le=500)] = 50
    cursor: Annotated[str, Field(max_length=MAX_CURSOR)] | None = None
    back: bool = False
    """The cursor is `previous`: the page before it."""

    def order(self) -> Order:
        return Order(self.sort, self.descending, place_of(self.cursor, self.sort), self.back)


class GroupName(BaseModel):
    group_id: UUID
    name: str


class Device(BaseModel):
    device_id: UUID
    name: str | None
    serial: str | None
    udid: str | None
    user: str | None
    model: str | None
    product: str | None
    platform: str
    os_version: str | None
    ownership: str
    supervised: bool | None
    status: Status
    """Of the current enrollment."""
    enrolled_at: datetime | None
    ended_at: datetime | None
    end_reason: str | None
    last_seen_at: datetime | None
    compliance: VerdictState | None
    """The worst of its verdicts; null: it is not managed."""
    certificate_until: datetime | None
    tags: list[str]
    groups: list[GroupName]


class DeviceTotal(BaseModel):
    model_config = ConfigDict(from_attributes=True)

    count: int
    exact: bool
    """False: there are more than this."""


class DeviceList(BaseModel):
    model_config = ConfigDict(from_attributes=True)

    items: list[Device]
    next: str | None
    previous: str | None
    total: DeviceTotal
    as_of: datetime


class DeviceDetail(Device):
    as_of: datetime


class DeviceVerdict(BaseModel):
    policy_id: UUID
    policy_name: str
    policy_version: int
    state: VerdictState
    findings: list[dict[str, Any]]
    evaluated_at: datetime
    changed_at: datetime


class DeviceVerdicts(BaseModel):
    items: list[DeviceVerdict]


class Happening(BaseModel):
    activity_id: UUID
    at: datetime
    kind: str
    text: str
    """A plain sentence."""
    device_id: UUID | None
    device_name: str | None
    actor: str | None
    detail: dict[str, Any]


class Activity(BaseModel):
    items: list[Happening]
    next: str | None


class ActivityQuery(Page):
    """A page of what happened, newest first."""


class PolicyCounts(BaseModel):
    policy_id: UUID
    name: str
    counts: dict[str, int]


class Expiring(BaseModel):
    device_id: UUID
    name: str | None
    certificate_until: datetime


class PushCertificate(BaseModel):
    topic: str
    not_after: datetime
    current: bool


class FleetOverview(BaseModel):
    model_config = ConfigDict(from_attributes=True)

    counts: dict[Literal["status", "platform", "ownership", "compliance", "os"], dict[str, int]]
    """By dimension and value. All but the status are of enrolled devices."""
    policies: list[PolicyCounts]
    trend: dict[str, dict[date, int]] | None
    """What happened on which day (UTC) of the last thirty; null: you see a part of the fleet."""
    expiring: list[Expiring]
    push_certificates: list[PushCertificate]
    activity: list[Happening]
    as_of: datetime
