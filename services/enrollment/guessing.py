"""Guessing at enrollment addresses is slowed down, by the network it comes from.

A token cannot be guessed; this keeps the attempt from costing a look into the database each time.
It is kept in memory, each process by itself: nothing is decided by it, and nobody is locked out.
"""

from __future__ import annotations

import math
from datetime import datetime, timedelta
from typing import Final

from shared.runtime.clock import Clock
from shared.runtime.latest import Latest
from shared.runtime.problems import Problem

_FREE: Final = 30
"""Wrong ones before the first wait; a mistyped address costs nobody anything."""
_QUIET: Final = timedelta(minutes=15)
_LONGEST: Final = 60
_REMEMBERED: Final = 10_000


class Guesses:
    """Counts wrong tokens by address; who goes on waits for a second, two, four, up to a minute."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._wrong: Latest[str, tuple[int, datetime]] = Latest(_REMEMBERED)

    def check(self, address: str | None) -> None:
        """Raises Problem (429) while a wait lasts; without an address there is nobody to wait."""
        count, last = self._wrong.get(address or "", (0, None))
        if last is None or count < _FREE:
            return
        wait = min(_LONGEST, 2 ** min(count - _FREE, 10))
        left = (last + timedelta(seconds=wait) - self._clock.now()).total_seconds()
        if left > 0:
            detail = "Too many addresses from here were wrong. Try again later; nothing is locked."
            raise Problem(429, "slow_down", detail).retry_after(max(1, math.ceil(left)))

    def wrong(self, address: str | None) -> None:
        """It was no token of ours."""
        if address is None:
            return
        now = self._clock.now()
        count, last = self._wrong.get(address, (0, now))
        self._wrong[address] = (1 if now - last > _QUIET else count + 1, now)
