"""Refuses access tokens whose session or API token ended, within a minute, in every service.

A person's request looks into a set in memory; the set is read anew from the service's own table
when it is ten seconds old. Devices' requests never come here, and nobody asks the console.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from datetime import timedelta

from shared.bus import revoked
from shared.db.pool import Pool
from shared.runtime.clock import Clock
from shared.runtime.tokens import MAX_LIFETIME

FRESH_SECONDS = 10.0
_BACK = MAX_LIFETIME + timedelta(minutes=5)
"""Access tokens made before are over by themselves."""


class Revocations:
    """What ended lately, as this service knows."""

    def __init__(
        self, pool: Pool, clock: Clock, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._pool, self._clock, self._monotonic = pool, clock, monotonic
        self._ended: frozenset[str] = frozenset()
        self._read_at = float("-inf")
        self._reading = asyncio.Lock()

    async def has(self, via: str) -> bool:
        """Whether it ended; raises when the database does not answer: unknown is not good."""
        if self._monotonic() - self._read_at > FRESH_SECONDS:
            async with self._reading:
                if self._monotonic() - self._read_at > FRESH_SECONDS:
                    await self.read()
        return via in self._ended

    async def read(self) -> None:
        began = self._monotonic()
        self._ended = await revoked.since(self._pool, self._clock.now() - _BACK)
        self._read_at = began
