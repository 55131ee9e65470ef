"""What a device said that is installed on it: apps and profiles, now or at an instant."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Any, Final, Protocol
from urllib.parse import urlencode

from aiohttp import web

from services.console.http.pages import ask

Values = dict[str, Any]
_ROWS: Final = 50


class Asked(Protocol):
    """Which part of the list, and of when."""

    @property
    def cursor(self) -> str | None: ...

    @property
    def at(self) -> datetime | None: ...


def holdings(section: str) -> Callable[[web.Request, Any, Values], Awaitable[Values]]:
    """The tab that shows a list of inventory's; `more`: the URL's end of what follows."""

    async def of_device(request: web.Request, query: Asked, device: Values) -> Values:
        at = query.at.strftime("%Y-%m-%dT%H:%M:%SZ") if query.at else None
        wanted = {"limit": _ROWS, "cursor": query.cursor, "at": at}
        pairs = {name: value for name, value in wanted.items() if value is not None}
        path = f"/api/v1/inventory/devices/{device['device_id']}/{section}?{urlencode(pairs)}"
        found = await ask(request, "inventory", "GET", path)
        following = {"cursor": found["next"], **({"at": at} if at else {})}
        return {**found, "more": urlencode(following) if found["next"] else None}

    return of_device
