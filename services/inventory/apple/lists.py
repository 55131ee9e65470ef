"""InstalledApplicationList and ProfileList (schema: application.installed.list.yaml,
profile.list.yaml).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from services.inventory.apple.values import entries, flag, key, text
from services.inventory.readings import MAX_TEXT, Detail, Reading

_DIGITS: Final = re.compile(r"[0-9]{1,9}")
_DECLARED: Final = "Declarative Device Management"


def applications(answer: Mapping[str, Any]) -> Reading:
    """Read a whole, unfiltered application list, by identifier.

    macOS may leave the identifier out: then the name stands in for it, as `name:NAME`. Copies with
    one identifier count as one, the newest. Sizes and download states change all the time and say
    nothing of what is installed: they are left out.
    """
    items: dict[str, Detail] = {}
    ignored = 0
    for entry in entries(answer, "InstalledApplicationList"):
        identifier = _identifier(entry)
        if identifier is None:
            ignored += 1
            continue
        detail = _application(entry)
        if identifier not in items or _newest(items[identifier]) < _newest(detail):
            items[identifier] = detail
    return Reading(items=items, ignored=ignored)


def _identifier(entry: Any) -> str | None:
    if not isinstance(entry, Mapping):
        return None
    identifier = key(entry.get("Identifier"))
    if identifier is not None:
        return identifier
    name = text(entry.get("Name"))
    return None if name is None else f"name:{name}"[:MAX_TEXT]


def _application(entry: Mapping[str, Any]) -> Detail:
    return _answered(
        name=text(entry.get("Name")),
        version=text(entry.get("Version")),
        short_version=text(entry.get("ShortVersion")),
        managed=True if entry.get("Source") == _DECLARED else None,
    )


def _newest(detail: Detail) -> tuple[list[int], str]:
    """Order copies of one application; text breaks ties, so that the order of a list does not
    matter.
    """
    version = str(detail.get("short_version") or detail.get("version") or "")
    return [int(part) for part in _DIGITS.findall(version)], repr(sorted(detail.items()))


def profiles(answer: Mapping[str, Any]) -> Reading:
    """Read the installed profiles by identifier: a device holds one profile of an identifier."""
    items: dict[str, Detail] = {}
    ignored = 0
    for entry in entries(answer, "ProfileList"):
        source = entry if isinstance(entry, Mapping) else {}
        identifier, uuid = key(source.get("PayloadIdentifier")), key(source.get("PayloadUUID"))
        if identifier is None or uuid is None:
            ignored += 1
            continue
        items[identifier] = _answered(
            uuid=uuid,
            name=text(source.get("PayloadDisplayName")),
            organization=text(source.get("PayloadOrganization")),
            managed=flag(source.get("IsManaged")),
            removal_disallowed=flag(source.get("PayloadRemovalDisallowed")),
            encrypted=flag(source.get("IsEncrypted")),
        )
    return Reading(items=items, ignored=ignored)


def _answered(**values: Any) -> Detail:
    return {name: value for name, value in values.items() if value is not None}
