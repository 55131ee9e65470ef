"""Ending tasks that may not want to end."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Collection
from typing import Any

log = logging.getLogger(__name__)

_PATIENCE_SECONDS = 20.0


async def ended(tasks: Collection[asyncio.Task[Any]], *, grace: float = 1.0) -> None:
    """Cancel tasks and wait until they are gone; who takes much too long is left behind.

    After `grace` seconds, the time an orderly end may take, they are cancelled again every second:
    aiokafka swallows a cancellation that comes while it starts or stops (aio-libs/aiokafka#647),
    and the task then goes on as if nothing had been said. By what error a task ends is nobody's
    concern any more.
    """
    left = set(tasks)
    deadline = time.monotonic() + grace + _PATIENCE_SECONDS
    pause = grace
    while left and time.monotonic() < deadline:
        for task in left:
            task.cancel()
        _, left = await asyncio.wait(left, timeout=pause)
        pause = 1.0
    for task in tasks:
        if task.done() and not task.cancelled():
            task.exception()
    if left:
        log.error("Tasks did not end", extra={"tasks": sorted(task.get_name() for task in left)})


def is_wanted(error: BaseException) -> bool:
    """Whether an error is the end that somebody wanted for the current task.

    A library's own CancelledError that gets out (aiokafka's do) is none: who lets it pass ends for
    good, and without a word.
    """
    task = asyncio.current_task()
    return isinstance(error, asyncio.CancelledError) and bool(task and task.cancelling())
