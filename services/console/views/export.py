"""Lists as CSV (RFC 4180) that a spreadsheet opens without running anything in it."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any, Final

COLUMNS: Final = (
    "name",
    "serial",
    "udid",
    "user",
    "platform",
    "model",
    "product",
    "os_version",
    "ownership",
    "supervised",
    "status",
    "compliance",
    "enrolled_at",
    "last_seen_at",
    "certificate_until",
    "tags",
    "groups",
    "device_id",
)
# What Excel, LibreOffice and Google Sheets take for the beginning of a formula (OWASP, CSV
# injection), in full width as well; blanks and what nobody sees may stand before one.
_UNSEEN: Final = r"[\s\x00\ufeff\u200b-\u200f\u202a-\u202e\u2060-\u2069]*"
_FORMULA: Final = re.compile(rf"{_UNSEEN}[=+\-@\uff1d\uff0b\uff0d\uff20]|[\t\r]")


def header() -> str:
    return _text([list(COLUMNS)])


def lines(rows: Iterable[Mapping[str, Any]]) -> str:
    """Rows as lines; lists are joined by semicolons, instants are ISO 8601 in UTC."""
    return _text([_cell(row[name]) for name in COLUMNS] for row in rows)


def _text(rows: Iterable[list[str]]) -> str:
    out = io.StringIO()
    csv.writer(out).writerows(rows)
    return out.getvalue()


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, datetime):
        return value.isoformat(timespec="seconds")
    text = "; ".join(map(str, value)) if isinstance(value, list) else str(value)
    return f"'{text}" if _FORMULA.match(text) else text
