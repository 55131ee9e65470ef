"""The events that tell the others what changed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, Final, cast
from uuid import UUID

from services.inventory.store import facts, items
from services.inventory.store.reports import Recorded
from shared.events.base import Event
from shared.events.commands import CommandFinished
from shared.events.inventory import (
    Application,
    ApplicationsChanged,
    CertificateFact,
    CertificatesChanged,
    FactChange,
    FactsChanged,
    ProfileFact,
    ProfilesChanged,
    Section,
    SectionReported,
)

CHUNK: Final = 400
"""Entries an event carries at most: five texts of 300 characters each stay below 900 KiB."""

Causes = Iterable[CommandFinished]
Reports = Mapping[UUID, Recorded]


def facts_changed(
    causes: Causes, recorded: Reports, changes: Sequence[facts.Change]
) -> list[Event]:
    return [
        FactsChanged(
            device_id=cause.device_id,
            observed_at=recorded[cause.device_id].observed_at,
            changes=[FactChange(name=c.name, value=c.value, before=c.before) for c in own],
        ).because(cause)
        for cause in causes
        if (own := [c for c in changes if c.device_id == cause.device_id])
    ]


def own_words(changes: Iterable[facts.Change]) -> list[tuple[UUID, str | None, str | None]]:
    """What the list of devices shows from the devices' own reports: (device, name, version)."""
    found: dict[UUID, dict[str, str]] = {}
    for change in changes:
        if change.name in {"device.name", "os.version"}:
            found.setdefault(change.device_id, {})[change.name] = change.value
    return [(key, own.get("device.name"), own.get("os.version")) for key, own in found.items()]


def items_changed(
    causes: Causes, section: Section, recorded: Reports, changes: Sequence[items.Change]
) -> list[Event]:
    make = _MAKERS[section]
    return [
        make(cause.device_id, recorded[cause.device_id].observed_at, chunk).because(cause)
        for cause in causes
        for chunk in _chunks([c for c in changes if c.device_id == cause.device_id])
    ]


def reported(causes: Causes, recorded: Reports) -> list[Event]:
    return [
        SectionReported(
            device_id=cause.device_id,
            observed_at=report.observed_at,
            section=cast("Section", report.section),
            enrollment_id=cause.enrollment_id,
            first=report.first,
            answered=report.answered,
        ).because(cause)
        for cause in causes
        if (report := recorded[cause.device_id]).announce
    ]


def _chunks(changes: Sequence[items.Change]) -> Iterator[Sequence[items.Change]]:
    for start in range(0, len(changes), CHUNK):
        yield changes[start : start + CHUNK]


def _applications(device_id: UUID, at: datetime, changes: Iterable[items.Change]) -> Event:
    found: dict[str, list[Application]] = {"installed": [], "updated": [], "removed": []}
    for change in changes:
        found[change.what].append(Application(identifier=change.key, **change.detail))
    return ApplicationsChanged(device_id=device_id, observed_at=at, **cast("Any", found))


def _profiles(device_id: UUID, at: datetime, changes: Iterable[items.Change]) -> Event:
    """A profile that was replaced by another version is installed anew."""
    found: dict[str, list[ProfileFact]] = {"installed": [], "removed": []}
    for change in changes:
        profile = ProfileFact(identifier=change.key, **change.detail)
        found["removed" if change.what == "removed" else "installed"].append(profile)
    return ProfilesChanged(device_id=device_id, observed_at=at, **cast("Any", found))


def _certificates(device_id: UUID, at: datetime, changes: Iterable[items.Change]) -> Event:
    found: dict[str, list[CertificateFact]] = {"installed": [], "removed": []}
    for change in changes:
        certificate = CertificateFact(sha256=change.key, **change.detail)
        found["removed" if change.what == "removed" else "installed"].append(certificate)
    return CertificatesChanged(device_id=device_id, observed_at=at, **cast("Any", found))


_MAKERS: Final[Mapping[str, Callable[[UUID, datetime, Iterable[items.Change]], Event]]] = {
    "applications": _applications,
    "profiles": _profiles,
    "certificates": _certificates,
}
