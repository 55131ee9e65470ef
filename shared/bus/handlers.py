"""What a service does with events."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, TypeAlias

from shared.db.pool import Connection
from shared.events import Event

Handler: TypeAlias = "Callable[[Connection, Sequence[Any]], Awaitable[None]]"
"""Takes events of one type, each key at most once, with their devices' rows locked and their ids in
the inbox, inside the transaction that makes all of it true together. It may be called again with
the same events after a rollback. `Poison` and `TryLater` say what should become of an event; any
other error is tried five times."""

Handlers: TypeAlias = "Mapping[type[Event], Handler]"


class Poison(Exception):  # noqa: N818 - what it is called everywhere
    """Raised for an event that can never be handled: it becomes a dead letter at once.

    `reason` is a short word for metrics and lists.
    """

    def __init__(self, message: str, *, reason: str = "poison") -> None:
        super().__init__(message)
        self.reason = reason


class TryLater(Exception):  # noqa: N818 - an instruction, not an error
    """Raised when something else is away for now: the partition waits, and skips nothing."""
