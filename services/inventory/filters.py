"""What a list of devices can be narrowed by."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Filters:
    platform: str | None = None
    os: str | None = None
    """A version, or the beginning of one up to a dot: `17` finds 17.4."""
    model: str | None = None
    q: str | None = None
    managed: bool | None = None
    application: str | None = None
