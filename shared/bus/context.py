"""What led to the work in hand: it goes on into every event that the work emits."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextvars import ContextVar

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
