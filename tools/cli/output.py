"""Plain text for people: aligned tables, short times."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from shared.runtime import bidirectional

_MOMENT = timedelta(seconds=20)
_MINUTE, _HOUR, _DAY = 60, 3600, 86_400
# A terminal obeys control characters, ends a line at separators, and leaves no text as it was
# written around what turns its direction.
_SEPARATORS = (0x2028, 0x2029)
_CONTROL = dict.fromkeys(
    [*range(32), *range(127, 160), *_SEPARATORS, *bidirectional.MARKS, *bidirectional.TURNING], "�"
)


def table(head: Sequence[str], rows: Iterable[Sequence[Any]], *, empty: str) -> None:
    """Print columns as wide as their longest cell; `empty` when there is no row."""
    cells = [[text(cell) for cell in row] for row in rows]
    if not cells:
        print(empty)
        return
    widths = [max(len(row[column]) for row in [head, *cells]) for column in range(len(head))]
    for row in [[name.upper() for name in head], *cells]:
        line = "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        print(line.rstrip())


def fields(values: Mapping[str, Any]) -> None:
    """Print one thing as aligned `name  value` lines; what is None is left out."""
    shown = {name: text(value) for name, value in values.items() if value is not None}
    width = max((len(name) for name in shown), default=0)
    for name, value in shown.items():
        print(f"{name.ljust(width)}  {value}".rstrip())


def text(value: Any) -> str:
    """One cell, on one line; a device's own words cannot move the cursor."""
    if value is None or value in ([], {}):
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, (dict, list)):
        value = json.dumps(value, ensure_ascii=False)
    return str(value).translate(_CONTROL)


def ago(instant: str | None, now: datetime | None = None) -> str:
    """`3 min ago`, `in 2 h`, for an RFC 3339 text; `-` for none."""
    if instant is None:
        return "-"
    passed = (now or datetime.now(UTC)) - datetime.fromisoformat(instant)
    if passed < timedelta():
        # What was set to two days a moment ago is still two days away.
        return f"in {_amount(_MOMENT - passed)}"
    amount = _amount(passed)
    return amount if amount == "now" else f"{amount} ago"


def _amount(length: timedelta) -> str:
    seconds = int(length.total_seconds())
    for unit, name in ((_DAY, "d"), (_HOUR, "h"), (_MINUTE, "min")):
        if seconds >= unit:
            return f"{seconds // unit} {name}"
    return f"{seconds} s" if seconds else "now"


def note(message: str) -> None:
    """Something beside the answer: it must not land in a pipe."""
    print(message, file=sys.stderr)
