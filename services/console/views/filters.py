"""Which devices a list shows, and in which order."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, Final
from uuid import UUID

from shared.runtime.paging import decode_cursor
from shared.runtime.problems import Problem

_DIGITS: Final = re.compile(r"\d{1,9}")
MAX_WORDS: Final = 8
MONTH: Final = timedelta(days=30)


class Status(StrEnum):
    PENDING = "pending"
    ENROLLED = "enrolled"
    QUARANTINED = "quarantined"
    ENDED = "ended"


class Seen(StrEnum):
    """When a device last spoke."""

    DAY = "day"
    WEEK = "week"
    MONTH = "month"
    NOT_DAY = "not_day"
    NOT_WEEK = "not_week"
    NOT_MONTH = "not_month"
    NEVER = "never"


SPANS: Final = {
    "day": timedelta(days=1),
    "week": timedelta(days=7),
    "month": MONTH,
}


class Sort(StrEnum):
    """What a list is sorted by; a device without a value comes last in both directions."""

    NAME = "name"
    SERIAL = "serial"
    USER = "user"
    MODEL = "model"
    PLATFORM = "platform"
    OS = "os"
    OWNERSHIP = "ownership"
    STATUS = "status"
    COMPLIANCE = "compliance"
    ENROLLED = "enrolled"
    SEEN = "seen"
    CERTIFICATE = "certificate"


@dataclass(frozen=True)
class Filters:
    """All that is named must hold; of a list one is enough."""

    words: tuple[str, ...] = ()
    platform: tuple[str, ...] = ()
    os: str | None = None
    """A version, or the beginning of one: 17 means every 17.x."""
    os_below: str | None = None
    status: tuple[str, ...] = ()
    compliance: tuple[str, ...] = ()
    ownership: tuple[str, ...] = ()
    tag: tuple[str, ...] = ()
    group: tuple[UUID, ...] = ()
    failing: UUID | None = None
    """A policy: devices that do not comply with it."""
    seen: Seen | None = None
    supervised: bool | None = None
    expiring: bool = False
    """Its identity certificate ends within 30 days, or has."""


def words_of(text: str) -> list[str]:
    """The words of a text, as search compares them: neither case nor way of writing matters."""
    return unicodedata.normalize("NFKC", text).casefold().split()


def sought(text: str) -> tuple[str, ...]:
    """What a search box holds, as words that must all be found."""
    words = tuple(words_of(text.replace("\0", " ")))
    if len(words) > MAX_WORDS:
        raise Problem(400, "search_too_long", f"Search for at most {MAX_WORDS} words.")
    return words


def as_id(text: str) -> UUID | None:
    """The id that a text is, if it is one."""
    try:
        return UUID(text)
    except ValueError:
        return None


def version_of(text: str) -> list[int]:
    """The numbers of a version; refuses what has none."""
    numbers = [int(part) for part in _DIGITS.findall(text)]
    if not numbers:
        raise Problem(400, "version_invalid", "Write a version with numbers, such as 17.4.")
    return numbers


@dataclass(frozen=True)
class Place:
    """Where a page begins: behind this device, or before it when one pages back."""

    key: Any
    """The sort key; None: the device has none."""
    device_id: UUID


@dataclass(frozen=True)
class Order:
    """A direction, and where to go on."""

    sort: Sort = Sort.NAME
    descending: bool = False
    after: Place | None = None
    back: bool = False
    """The page that ends just before `after`."""

    def values(self) -> dict[str, Any]:
        return {"sort": self.sort, "descending": self.descending}


_TIMES: Final = frozenset({Sort.ENROLLED, Sort.SEEN, Sort.CERTIFICATE})


def place_of(cursor: str | None, sort: Sort) -> Place | None:
    """The place that a cursor of ours names; refuses others, and those of another order."""
    if cursor is None:
        return None
    ordered, key, device_id = decode_cursor(cursor, 3)
    try:
        place = Place(_key_of(key, sort), UUID(device_id))
    except (ValueError, AttributeError, TypeError):
        place = None
    if place is None or ordered != sort:
        detail = "Start again without the cursor; this one is not of this list."
        raise Problem(400, "bad_cursor", detail)
    return place


def _key_of(key: Any, sort: Sort) -> Any:
    if key is None:
        return None
    if sort in _TIMES:
        at = datetime.fromisoformat(key)
        if at.tzinfo is None:
            raise ValueError(key)
        return at
    wanted = {Sort.OS: list, Sort.COMPLIANCE: int}.get(sort, str)
    if not isinstance(key, wanted):
        raise TypeError(key)
    if isinstance(key, list) and not all(isinstance(one, int) for one in key):
        raise TypeError(key)
    return key
