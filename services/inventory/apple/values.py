"""Typed reading of values that a device wrote: the right type within limits, or nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any, Final

from services.inventory.readings import MAX_ITEMS, MAX_TEXT, UnreadableError

_MAX_COUNT: Final = 2**53
"""Beyond it JSON readers lose whole numbers."""

Take = Callable[[Any], Any]
"""Returns the value to keep, or None to ignore it."""


def text(value: Any) -> str | None:
    """Keep text, cut to what events carry; PostgreSQL takes neither NUL nor lone surrogates."""
    if not isinstance(value, str) or not value or "\0" in value:
        return None
    try:
        value.encode()
    except UnicodeEncodeError:
        return None
    return value[:MAX_TEXT]


def key(value: Any) -> str | None:
    """Keep text that names something: cut short it would name something else."""
    kept = text(value)
    return kept if kept is not None and len(kept) == len(value) else None


def flag(value: Any) -> bool | None:
    return value if isinstance(value, bool) else None


def count(value: Any) -> int | None:
    """Keep a whole number; a boolean is none, though Python says so."""
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= _MAX_COUNT:
        return None
    return value


def _number(value: Any, digits: int, most: float) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    if not 0 <= value <= most:  # neither infinite nor NaN
        return None
    return round(float(value), digits)


def gigabytes(value: Any) -> float | None:
    """Keep a capacity to a tenth: finer changes tell nobody anything."""
    return _number(value, 1, 1e9)


def share(value: Any) -> float | None:
    """Keep a share from 0 to 1; -1 means that the device does not know (DeviceInformation)."""
    return _number(value, 2, 1.0)


def time(value: Any) -> str | None:
    """Keep a date as ISO text in UTC."""
    kept = text(value)
    if kept is None:
        return None
    try:
        at = datetime.fromisoformat(kept)
        return (at if at.tzinfo else at.replace(tzinfo=UTC)).astimezone(UTC).isoformat()
    except (ValueError, OverflowError):
        return None


def take(source: Any, wanted: Mapping[str, tuple[str, Take]]) -> tuple[dict[str, Any], int]:
    """Read facts from a dictionary: Apple's key → (fact, how to take it).

    Returns the facts that were answered, and how many answers had to be ignored. An empty text is
    an answer that says nothing.
    """
    facts: dict[str, Any] = {}
    ignored = 0
    if not isinstance(source, Mapping):
        return facts, int(source is not None)
    for theirs, (fact, keep) in wanted.items():
        if theirs not in source or source[theirs] == "":
            continue
        kept = keep(source[theirs])
        if kept is None:
            ignored += 1
        else:
            facts[fact] = kept
    return facts, ignored


def dictionary(answer: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    value = answer.get(name)
    if not isinstance(value, Mapping):
        raise UnreadableError(f"{name} is missing or no dictionary")
    return value


def entries(answer: Mapping[str, Any], name: str, most: int = MAX_ITEMS) -> Iterator[Any]:
    """Walk a list of at most `most` entries."""
    value = answer.get(name)
    if not isinstance(value, list):
        raise UnreadableError(f"{name} is missing or no array")
    if len(value) > most:
        raise UnreadableError(f"{name} holds more than {most} entries")
    return iter(value)
