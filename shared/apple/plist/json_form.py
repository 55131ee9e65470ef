"""Property lists as JSON: what events carry, and what people write."""

from __future__ import annotations

import base64
from datetime import UTC, datetime
from typing import Any, Final

from shared.apple.plist import values
from shared.apple.plist.values import PlistError

_DEPTH: Final = 64
_TAGS: Final = frozenset({"$data", "$date", "$dict"})


def to_json(value: Any) -> Any:
    """Turn a parsed value into JSON-safe values.

    Data becomes {"$data": BASE64}, a date its text, 2026-01-31T08:00:00Z. `from_json` turns all but
    dates back into what they were.
    """
    if isinstance(value, dict):
        items = {key: to_json(item) for key, item in value.items()}
        # A device may send our own tags as keys: they are wrapped, so nothing can be forged.
        return {"$dict": items} if len(items) == 1 and _TAGS & items.keys() else items
    if isinstance(value, list):
        return [to_json(item) for item in value]
    if isinstance(value, bytes):
        return {"$data": base64.b64encode(value).decode("ascii")}
    if isinstance(value, datetime):
        # Not strftime: it writes years before 1000 without leading zeros.
        moment = value.astimezone(UTC).replace(tzinfo=None).isoformat(timespec="seconds")
        return f"{moment}Z"
    return value


def from_json(value: Any) -> Any:
    """Turn JSON values into what `dump` writes; raises PlistError for what no plist can hold.

    Text stays text: a date must be written {"$date": "2026-01-31T08:00:00Z"}.
    """
    return _from_json(value, 0)


def _from_json(value: Any, depth: int) -> Any:
    if depth > _DEPTH:
        raise PlistError("too deep")
    if isinstance(value, dict):
        return _from_json_dict(value, depth)
    if isinstance(value, list):
        return [_from_json(item, depth + 1) for item in value]
    if isinstance(value, bool | str | float):
        return value
    if isinstance(value, int) and values.SMALLEST <= value <= values.LARGEST:
        return value
    raise PlistError("null and integers above 64 bits have no property list form")


def _from_json_dict(value: dict[str, Any], depth: int) -> Any:
    if len(value) == 1:
        match value:
            case {"$data": str(text)}:
                return values.data(text)
            case {"$date": str(text)}:
                return values.date(text)
            case {"$dict": dict(items)}:
                return {key: _from_json(item, depth + 1) for key, item in items.items()}
            case _:
                pass
    return {key: _from_json(item, depth + 1) for key, item in value.items()}
