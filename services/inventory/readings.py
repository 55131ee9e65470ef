"""What one answer of a device says, in vendor-neutral words."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

MAX_TEXT: Final = 300
"""Longest text kept; equal to what events carry."""
MAX_ITEMS: Final = 20_000
"""Most entries of a list; a longer list is refused whole, since half a list would claim removals"""

Detail = Mapping[str, Any]


class UnreadableError(Exception):
    """The answer does not hold what was asked for, or more than can be believed."""


@dataclass(frozen=True)
class Reading:
    """Facts and, for a section that is a list, its entries by key.

    A fact that the device did not answer is missing, never None. `ignored` counts what had a wrong
    type or size.
    """

    facts: Mapping[str, Any] = field(default_factory=dict)
    items: Mapping[str, Detail] | None = None
    ignored: int = 0
