"""Timers and senders of a service: what runs besides requests and events."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass


class Wake:
    """Ends a job's pause early; many calls are one."""

    def __init__(self) -> None:
        self._event = asyncio.Event()

    def set(self) -> None:
        self._event.set()

    async def wait(self, seconds: float) -> bool:
        """Return after `seconds`, or at once when somebody called; tell which."""
        try:
            async with asyncio.timeout(seconds):
                return await self._event.wait()
        except TimeoutError:
            return False
        finally:
            self._event.clear()


@dataclass(frozen=True)
class Job:
    """`run` is called every so many seconds; True means that more work waits: again at once.

    A `single` job runs in one process of the service at a time, held by an advisory lock. It must
    still survive a second runner: a lost connection loses the lock while the job ends.
    """

    name: str
    every: float
    run: Callable[[], Awaitable[bool | None]]
    single: bool = True
    wake: Wake | None = None
