"""Guessing is slowed down, by what is guessed and by who guesses; nobody is ever locked out.

A wait is of one account *and* one address: who guesses from elsewhere cannot keep its owner out.
One address that guesses at many accounts waits on all of them.
"""

from __future__ import annotations

import hashlib
import math
from datetime import timedelta

from services.console import metrics
from services.console.store import throttles as store
from shared.db.pool import Pool
from shared.runtime.clock import Clock
from shared.runtime.problems import Problem

QUIET = timedelta(minutes=15)
LONGEST = timedelta(minutes=1)
_FREE_PAIR = 5
_FREE_ADDRESS = 30


class Throttle:
    def __init__(self, pool: Pool, clock: Clock) -> None:
        self._pool, self._clock = pool, clock

    async def charge(self, what: str, source: str | None) -> None:
        """Count an attempt before it is looked at; raise Problem (429) while a wait lasts.

        Of many at once no more are looked at than one after the other.
        """
        now = self._clock.now()
        for key, free in ((_pair(what, source), _FREE_PAIR), (_address(source), _FREE_ADDRESS)):
            limits = {"quiet": QUIET, "longest": LONGEST}
            if not await store.charge(self._pool, key, now, free=free, **limits):
                until = await store.until(self._pool, key) or now
                seconds = max(1, math.ceil((until - now).total_seconds()))
                metrics.SIGN_INS.labels("slowed_down").inc()
                detail = f"Too many attempts failed. Try again in {seconds} s; nothing is locked."
                raise Problem(429, "slow_down", detail).retry_after(seconds)

    async def succeeded(self, what: str, source: str | None) -> None:
        """Forget this pair's failures. The address gets back this one attempt only: it may own one
        account and guess at many.
        """
        await store.forget(self._pool, _pair(what, source))
        await store.refund(self._pool, _address(source))

    async def sweep(self) -> None:
        await store.sweep(self._pool, self._clock.now() - QUIET)


def _pair(what: str, source: str | None) -> str:
    """What is guessed may be any text of a stranger's: of bounded length, and not kept readable."""
    digest = hashlib.sha256(what.casefold().encode()).hexdigest()
    return f"{digest}@{source or ''}"


def _address(source: str | None) -> str:
    return f"address:{source or ''}"
