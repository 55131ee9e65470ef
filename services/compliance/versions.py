"""Versions of operating systems and applications, compared as numbers."""

from __future__ import annotations

import re
from typing import Final

_VERSION: Final = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,9}){0,7})(?=$|[ (])")
"""Digits and dots; what follows after a space or a bracket, as in `17.4.1 (a)`, is not compared."""


def parse(text: str) -> tuple[int, ...] | None:
    """Return the numbers of a version without trailing zeros (17.0 is 17), None if it is none."""
    found = _VERSION.match(text)
    if found is None:
        return None
    numbers = [int(part) for part in found[1].split(".")]
    while numbers and numbers[-1] == 0:
        numbers.pop()
    return tuple(numbers)


def at_least(observed: str, wanted: str) -> bool | None:
    """Whether a version is `wanted` or newer; None when either is no version."""
    have, want = parse(observed), parse(wanted)
    return None if have is None or want is None else have >= want
