"""How long to gather before the next batch, while events keep coming (decisions 30 and 35)."""

from __future__ import annotations

SHORTEST = 0.05
LONGEST = 0.25
"""Seconds from the beginning of one batch to that of the next."""
_SHARE = 0.1
"""Of the time that batches may take: what follows is paid by the batch more than by the event."""


def pace(took: float) -> float:
    """From the beginning of a batch that took so many seconds to the beginning of the next.

    On a machine that is busy everything takes longer: batches become rarer and larger, and leave
    their CPU to those that somebody waits for.
    """
    return min(LONGEST, max(SHORTEST, took / _SHARE))
