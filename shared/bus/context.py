"""What led to the work in hand: it goes on into every event that the work emits."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextvars import ContextVar
from typing import NamedTuple

from shared.bus.tracing import current_traceparent

correlation_id: ContextVar[str | None] = ContextVar("muster_correlation_id", default=None)
"""Set by the HTTP middleware and by the runner; None between pieces of work."""


@contextlib.contextmanager
def correlated(value: str | None) -> Iterator[None]:
    """Name the correlation for the length of a block."""
    token = correlation_id.set(value)
    try:
        yield
    finally:
        correlation_id.reset(token)


class Trail(NamedTuple):
    """What a request hands on to a batch that serves many: `event.along(*trail)`."""

    correlation_id: str | None
    traceparent: str | None


NOWHERE = Trail(None, None)
"""What begins here: the outbox gives it a correlation of its own."""


def trail() -> Trail:
    """The correlation and the trace in hand; take it before `Batcher.put`, beside the item."""
    return Trail(correlation_id.get(), current_traceparent())
