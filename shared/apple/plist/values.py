"""The values of a property list, from their text; what one document may cost."""

from __future__ import annotations

import binascii
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

SMALLEST: Final = -(1 << 63)
LARGEST: Final = (1 << 64) - 1

_INTEGER: Final = re.compile(r"[+-]?[0-9]{1,20}")
_REAL: Final = re.compile(
    r"[+-]?(?:[0-9]{1,40}(?:\.[0-9]{0,40})?|\.[0-9]{1,40})(?:[eE][+-]?[0-9]{1,4})?"
)
_DATE: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z")
_SPACE: Final = str.maketrans("", "", " \t\r\n")
_CERTAIN_DIGITS: Final = 18
"""So many digits fit 64 bits, whatever they are."""


class PlistError(ValueError):
    """The bytes are no property list that Muster accepts; `reason` is short and safe to log."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Limits:
    """What one document may cost: bytes, nesting, and nodes visited (keys count as nodes)."""

    max_bytes: int = 16 * 1024 * 1024
    max_depth: int = 32
    max_nodes: int = 400_000
    max_key: int = 1024


DEFAULT_LIMITS: Final = Limits()


def integer(text: str) -> int:
    if len(text) <= _CERTAIN_DIGITS and text.isdigit() and text.isascii():
        return int(text)
    stripped = text.strip()
    if _INTEGER.fullmatch(stripped) is None:
        raise PlistError("bad integer")
    number = int(stripped)
    if not SMALLEST <= number <= LARGEST:
        raise PlistError("integer above 64 bits")
    return number


def real(text: str) -> float:
    stripped = text.strip()
    if _REAL.fullmatch(stripped) is None:
        raise PlistError("bad real")
    number = float(stripped)
    if number - number != 0:  # infinite: 1e999 passes the pattern
        raise PlistError("real out of range")
    return number


def date(text: str) -> datetime:
    stripped = text.strip()
    if _DATE.fullmatch(stripped) is None:
        raise PlistError("bad date")
    try:
        return datetime.fromisoformat(stripped)
    except ValueError:
        raise PlistError("bad date") from None


def data(text: str) -> bytes:
    try:
        return binascii.a2b_base64(text.translate(_SPACE), strict_mode=True)
    except ValueError:
        raise PlistError("bad base64") from None


LEAVES: Final[Mapping[str, Callable[[str], Any]]] = {
    "string": str,
    "integer": integer,
    "real": real,
    "date": date,
    "data": data,
}
