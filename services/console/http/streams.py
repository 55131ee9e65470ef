"""Server-sent events: what changes elsewhere reaches the page (console.md, convention 9)."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Collection
from typing import Final
from uuid import UUID

from aiohttp import web

from services.console.http.keys import HUB
from shared.runtime.http import parting

LIFETIME_SECONDS: Final = 60.0
"""Then the browser connects again, and who was signed out meanwhile does not get in."""
QUIET_SECONDS: Final = 0.5
"""How soon it is noticed that the browser went away, or that this process is to end."""
PAUSE_SECONDS: Final = 0.25
RETRY: Final = b"retry: 1000\n\n"

Tell = Callable[[frozenset[UUID]], Awaitable[bytes]]
"""What changed → events; an empty set stands for anything."""


def event(name: str, data: str) -> bytes:
    """One event; its data may have any number of lines."""
    lines = "".join(f"data: {line}\n" for line in data.splitlines() or [""])
    return f"event: {name}\n{lines}\n".encode()


async def stream(
    request: web.Request,
    device_ids: Collection[UUID] | None,
    tell: Tell,
    *,
    pause: float = PAUSE_SECONDS,
) -> web.StreamResponse:
    """Answer with events for a minute. Everything is told anew at its beginning: what happened
    before it was heard of, or while the browser was away, is not lost.
    """
    response = web.StreamResponse(
        headers={"Content-Type": "text/event-stream", "X-Accel-Buffering": "no"}
    )
    response.headers["Cache-Control"] = "no-store"
    with request.config_dict[HUB].subscribed(device_ids) as news, contextlib.suppress(OSError):
        await response.prepare(request)
        await response.write(RETRY + await tell(frozenset()))
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LIFETIME_SECONDS):
                while not parting(request):
                    changed = await news.changes(QUIET_SECONDS)
                    if changed is not None:
                        await response.write(await tell(changed))
                        await asyncio.sleep(pause)
        await response.write_eof()
    return response
