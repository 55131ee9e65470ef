"""What a device must be to be on a list, as parts of a statement.

Statements are put together from the parts that a request needs, so that PostgreSQL plans for just
these: a condition that may or may not hold hides the index that would answer it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from services.console.views.filters import MONTH, SPANS, Filters, Seen, version_of

GRAM: Final = 3
"""Letters in a row that search has an index of."""
_SEEN: Final = "device.device_id IN (SELECT seen.device_id FROM device_seen AS seen WHERE {})"
_IN_GROUPS: Final = "groups <> '{{}}' AND groups && {0}::uuid[]"
"""The index leaves out devices without groups, so the condition must."""


@dataclass
class Conditions:
    """Parts of WHERE, and their parameters in order."""

    parts: list[str] = field(default_factory=lambda: ["sequence > 0"])
    values: list[Any] = field(default_factory=list)
    source: str = "device"
    texts: Sequence[str] = ()
    """What many devices have in their words, and all of these must."""
    sets: Conditions | None = None
    """Those of groups and tags alone: few devices may be in them, and an index knows which."""

    def add(self, part: str, *values: Any) -> None:
        """`part` names its values {0}, {1}, …"""
        first = len(self.values) + 1
        self.parts.append(part.format(*(f"${first + n}" for n in range(len(values)))))
        self.values += values

    def copy(self) -> Conditions:
        return replace(self, parts=list(self.parts), values=list(self.values))

    def having(self, texts: Sequence[str], *, by_index: bool) -> None:
        """Of rows of `search`: all texts are in them."""
        for text in texts:
            if by_index and (grams := _grams(text)):
                self.add("grams(words) @> {0}::text[]", grams)
            self.add("strpos(words, {0}::text) <> 0", text)

    @property
    def where(self) -> str:
        return " AND ".join(self.parts)


def conditions(filters: Filters, reach: Sequence[UUID] | None, now: datetime) -> Conditions:
    """What a device must be to be on the list; what it is called is `search`'s."""
    found = _sets(filters, reach)
    if found.values:
        found.sets = found.copy()
    for name in ("platform", "status", "compliance", "ownership"):
        if wanted := getattr(filters, name):
            found.add(f"{name} = ANY({{0}}::text[])", list(wanted))
    if filters.supervised is not None:
        found.add("supervised = {0}", filters.supervised)
    if filters.expiring:
        found.add("certificate_until < {0}", now + MONTH)
    if filters.failing is not None:
        found.add(
            "device.device_id IN (SELECT device_id FROM verdict WHERE policy_id = {0}"
            " AND verdict.state = 'noncompliant')",
            filters.failing,
        )
    _versions(found, filters)
    _when_seen(found, filters.seen, now)
    return found


def _sets(filters: Filters, reach: Sequence[UUID] | None) -> Conditions:
    found = Conditions()
    if reach is not None:
        found.add(_IN_GROUPS, list(reach))
    if filters.tag:
        found.add("tags <> '{{}}' AND tags && {0}::text[]", list(filters.tag))
    if filters.group:
        found.add(_IN_GROUPS, list(filters.group))
    return found


def _versions(found: Conditions, filters: Filters) -> None:
    if filters.os is not None:
        first = version_of(filters.os)
        found.add(
            "os_key >= {0}::int[] AND os_key < {1}::int[]", first, [*first[:-1], first[-1] + 1]
        )
    if filters.os_below is not None:
        found.add("os_key < {0}::int[]", version_of(filters.os_below))


def _when_seen(found: Conditions, seen: Seen | None, now: datetime) -> None:
    if seen is Seen.NEVER:
        found.add(_SEEN.format("seen.last_seen_at IS NULL"))
    elif seen is not None and seen.startswith("not_"):
        since = now - SPANS[seen.removeprefix("not_")]
        found.add(_SEEN.format("seen.last_seen_at < {0} OR seen.last_seen_at IS NULL"), since)
    elif seen is not None:
        found.add(_SEEN.format("seen.last_seen_at >= {0}"), now - SPANS[seen])


def named(device_ids: Sequence[UUID]) -> Conditions:
    """Just these devices. OFFSET keeps PostgreSQL from walking an order to find them."""
    source = "(SELECT * FROM device WHERE device_id = ANY($1::uuid[]) OFFSET 0) AS device"
    return Conditions(values=[list(device_ids)], source=source)


def _grams(text: str) -> list[str]:
    """Enough of its grams to cover a text: more would only be looked up for the same rows."""
    last = len(text) - GRAM
    if last < 0:
        return []
    return [text[place : place + GRAM] for place in sorted({*range(0, last, GRAM), last})]
