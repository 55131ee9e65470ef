"""What inventory's API takes and answers."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, StringConstraints

from shared.events.devices import Platform
from shared.events.inventory import Section
from shared.runtime.http import Page

Name = Annotated[str, StringConstraints(min_length=1, max_length=300, pattern=r"^[^\x00]+$")]
ListSection = Literal["applications", "profiles", "certificates"]


class DeviceQuery(Page):
    platform: Platform | None = None
    os: Annotated[str, Field(max_length=40, pattern=r"^[0-9.]+$")] | None = None
    """A version, or the beginning of one: `17` finds 17.4."""
    model: Name | None = None
    """The model number or the hardware type, such as iPhone14,5."""
    q: Name | None = None
    """Part of the name, the serial number or the assigned user."""
    managed: bool | None = None
    application: Name | None = None
    """Only devices that have the application with this identifier."""


class DeviceRow(BaseModel):
    device_id: UUID
    platform: str
    ownership: str
    name: str | None
    serial: str | None
    model: str | None
    product: str | None
    os_version: str | None
    user: str | None
    tags: list[str]
    managed: bool
    last_seen_at: datetime | None
    facts: dict[str, Any]


class DeviceView(DeviceRow):
    reported: dict[str, datetime]
    """Section → when it was last reported."""


class DeviceList(BaseModel):
    items: list[DeviceRow]
    next: str | None


class AtQuery(BaseModel):
    model_config = ConfigDict(extra="forbid")

    at: AwareDatetime | None = None
    """An instant with a zone; without it: now."""


class KnownFact(BaseModel):
    name: str
    section: Section
    kind: Literal["text", "flag", "number", "count", "time"]
    about: str


class KnownFacts(BaseModel):
    items: list[KnownFact]
    next: str | None = None


class FactRow(BaseModel):
    name: str
    value: Any
    changed_at: datetime
    """Since when it has this value."""
    observed_at: datetime | None
    """When a report last held it; null for the past."""


class FactList(BaseModel):
    device_id: UUID
    at: datetime | None
    items: list[FactRow]
    next: str | None = None


class ItemQuery(Page):
    at: AwareDatetime | None = None


class ApplicationRow(BaseModel):
    identifier: str
    name: str | None = None
    version: str | None = None
    short_version: str | None = None
    managed: bool | None = None
    since: datetime


class ProfileRow(BaseModel):
    identifier: str
    uuid: str
    name: str | None = None
    organization: str | None = None
    managed: bool | None = None
    removal_disallowed: bool | None = None
    encrypted: bool | None = None
    since: datetime


class CertificateRow(BaseModel):
    sha256: str
    common_name: str | None = None
    issuer: str | None = None
    serial_number: str | None = None
    identity: bool | None = None
    not_after: datetime | None = None
    since: datetime


class ApplicationList(BaseModel):
    items: list[ApplicationRow]
    next: str | None
    reported_at: datetime | None
    """When the list last came from the device; null: it was never reported."""


class ProfileList(BaseModel):
    items: list[ProfileRow]
    next: str | None
    reported_at: datetime | None


class CertificateList(BaseModel):
    items: list[CertificateRow]
    next: str | None
    reported_at: datetime | None


class HistoryQuery(Page):
    name: Name | None = None
    """A fact; with `section`: an entry's key. Without it: all of them."""
    section: ListSection | None = None
    """The changes of a list instead of facts."""


class Period(BaseModel):
    name: str
    value: Any
    valid_from: datetime
    valid_until: datetime | None
    """Null: still true."""


class History(BaseModel):
    items: list[Period]
    next: str | None


class RefreshRequest(BaseModel):
    model_config = ConfigDict(extra="forbid")

    sections: list[Section] = Field(default=[], max_length=5)
    """Empty: all."""
    reason: Name | None = None


class RefreshAnswer(BaseModel):
    requested: list[Section]
