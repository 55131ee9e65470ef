"""When so many events fail that the fault is not theirs."""

from __future__ import annotations

from collections import deque

WINDOW = 1000
MOST_IN_WINDOW = 50
MOST_IN_A_ROW = 100


class TooManyFailuresError(Exception):
    """The consumer stops before it gives up everything it reads: a person has to look."""


class FailureLimit:
    """Counts what became of events: more than 5 % of the last 1,000, or 100 in a row, is too many.

    The share is judged once 1,000 events were seen: one failure among the first ten is no 10 %.
    """

    def __init__(self) -> None:
        self._window: deque[bool] = deque(maxlen=WINDOW)
        self._failed = 0
        self._in_a_row = 0

    def passed(self, events: int) -> None:
        """Note events that took effect."""
        for _ in range(events):
            self._note(failed=False)

    def failed(self) -> None:
        """Note an event that was given up; raises TooManyFailuresError when it was one too many."""
        self._note(failed=True)
        if self._in_a_row >= MOST_IN_A_ROW:
            raise TooManyFailuresError(f"{self._in_a_row} events in a row were given up")
        if len(self._window) == WINDOW and self._failed > MOST_IN_WINDOW:
            raise TooManyFailuresError(f"{self._failed} of the last {WINDOW} events were given up")

    def _note(self, *, failed: bool) -> None:
        if len(self._window) == WINDOW:
            self._failed -= self._window[0]
        self._window.append(failed)
        self._failed += failed
        self._in_a_row = self._in_a_row + 1 if failed else 0
