"""`muster.inventory.v1`: what changed on devices. Written by inventory."""

from __future__ import annotations

from typing import Any, ClassVar, Literal
from uuid import UUID

from pydantic import AwareDatetime

from shared.events.base import Event, Part, Short

Section = Literal["device_information", "security", "applications", "profiles", "certificates"]


class InventoryEvent(Event):
    TOPIC: ClassVar[str] = "muster.inventory.v1"
    device_id: UUID
    observed_at: AwareDatetime


class FactChange(Part):
    name: Short
    """`os.version`, `passcode.present`, `encryption.enabled`, …: see services/inventory/facts."""
    value: Any
    before: Any = None


class FactsChanged(InventoryEvent):
    TYPE: ClassVar[str] = "muster.inventory.facts_changed.v1"
    changes: list[FactChange]


class Application(Part):
    identifier: Short
    name: Short | None = None
    version: Short | None = None
    short_version: Short | None = None
    managed: bool | None = None


class ApplicationsChanged(InventoryEvent):
    """Long lists come as several events, each whole by itself."""

    TYPE: ClassVar[str] = "muster.inventory.applications_changed.v1"
    installed: list[Application] = []
    updated: list[Application] = []
    removed: list[Application] = []


class ProfileFact(Part):
    identifier: Short
    uuid: Short
    name: Short | None = None
    managed: bool | None = None


class ProfilesChanged(InventoryEvent):
    TYPE: ClassVar[str] = "muster.inventory.profiles_changed.v1"
    installed: list[ProfileFact] = []
    removed: list[ProfileFact] = []


class CertificateFact(Part):
    sha256: Short
    common_name: Short | None = None
    not_after: AwareDatetime | None = None
    identity: bool | None = None


class CertificatesChanged(InventoryEvent):
    TYPE: ClassVar[str] = "muster.inventory.certificates_changed.v1"
    installed: list[CertificateFact] = []
    removed: list[CertificateFact] = []


class SectionReported(InventoryEvent):
    """A section was answered: the first time in an enrollment (from now on its absence means
    something), when what it answers changed, and else every few hours, as a sign that unchanged
    facts are still true.
    """

    TYPE: ClassVar[str] = "muster.inventory.section_reported.v1"
    section: Section
    enrollment_id: UUID | None = None
    first: bool = True
    answered: list[Short] = []
    """The facts that the report held; what is missing here was not confirmed."""
