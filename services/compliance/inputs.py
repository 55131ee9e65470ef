"""What is known of a device when it is judged."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID


@dataclass(frozen=True)
class Input:
    """A value with the time it was observed and the event that told of it."""

    value: Any
    observed_at: datetime
    evidence: UUID | None = None


@dataclass(frozen=True)
class Device:
    """The inputs of one device.

    `since`: when its present management began. What was reported before may be another
    installation's truth (the device may have been erased) and does not count.
    """

    device_id: UUID
    platform: str
    ownership: str
    tags: frozenset[str] = frozenset()
    managed: bool = True
    since: datetime | None = None
    seen: Input | None = None
    facts: Mapping[str, Input] = field(default_factory=dict)
    applications: Mapping[str, Input] = field(default_factory=dict)
    """Identifier → version."""
    application_list: Input | None = None
    """The last report of the whole list: without it, an application's absence means nothing."""

    def fact(self, name: str) -> Input | None:
        return self._current(self.facts.get(name))

    def reported_applications(self) -> Input | None:
        return self._current(self.application_list)

    def _current(self, given: Input | None) -> Input | None:
        if given is None or (self.since is not None and given.observed_at < self.since):
            return None
        return given
