"""A JSON object with one very long list in it, read piece by piece.

What reads JSON holds the interpreter until it is through, in a thread as well: only pieces let
others go on in between.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import orjson

PIECE: Final = 20 * 1024
"""Bytes: some five hundred ids."""


@dataclass(frozen=True)
class Split:
    """`rest`: the object with an empty list; the list is `data[start:end]`, without brackets."""

    data: bytes
    rest: dict[str, Any]
    start: int
    end: int

    def pieces(self) -> Iterator[bytes]:
        """JSON lists that are the list together.

        Cut at commas: where one stands inside of an entry, the pieces beside it are no JSON.
        """
        at = self.start
        while at < self.end:
            comma = self.data.find(b",", at + PIECE, self.end)
            cut = self.end if comma < 0 else comma
            yield b"[" + self.data[at:cut] + b"]"
            at = cut + 1


def split(data: bytes, name: str) -> Split | None:
    """Take the list `name` out of the object in `data`; None: read it whole, it is of another form.

    The list must be flat; its entries must have no bracket in them.
    """
    found = re.search(rb'"%s"\s*:\s*\[' % re.escape(name.encode()), data)
    end = data.find(b"]", found.end()) if found else -1
    if found is None or end < 0 or data[end - 1 : end] == b",":
        return None
    mark = secrets.token_hex(16)  # only if this very list was the object's own, it comes back
    try:
        rest = orjson.loads(data[: found.end() - 1] + f'"{mark}"'.encode() + data[end + 1 :])
    except orjson.JSONDecodeError:
        return None
    if not isinstance(rest, dict) or rest.get(name) != mark:
        return None
    return Split(data, rest | {name: []}, found.end(), end)
