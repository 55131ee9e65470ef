"""What a service answers, as data: routing, authorisation, limits and OpenAPI all read it."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from dataclasses import KW_ONLY, dataclass

from aiohttp import web
from pydantic import BaseModel

from shared.events.registry import SERVICES
from shared.runtime.settings import ListenerName

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

DEFAULT_BODY = 256 * 1024
_PERMISSION = re.compile(r"[a-z_]+(\.[a-z_]+)+")
_PREFIXES = {"api": "/api/v1/", "internal": "/internal/v1/", "devices": "/"}


@dataclass(frozen=True)
class Route:
    """One method on one path.

    Deny by default: an api route without a permission and an internal route without callers do not
    load.
    """

    method: str
    path: str
    handler: Handler
    _: KW_ONLY
    summary: str
    listener: ListenerName = "api"
    permission: str | None = None
    scoped: bool = False
    """The handler knows scopes: holding the permission on any static group lets one in, and
    `caller.reach(permission)` goes into the statements that load what is asked for. Else the
    permission must be held on all devices."""
    query: type[BaseModel] | None = None
    body: type[BaseModel] | None = None
    answer: type[BaseModel] | None = None
    status: int = 200
    max_body: int = DEFAULT_BODY
    """Bytes; a larger body is refused before it is read."""
    callers: tuple[str, ...] = ()
    """Services that may call an internal route."""
    public: bool = False
    """An api route for people who have no token yet (the set-up link, sign-in)."""

    def __post_init__(self) -> None:
        for broken, why in self._faults():
            if broken:
                raise ValueError(f"{self.method} {self.path}: {why}")

    def _faults(self) -> list[tuple[bool, str]]:
        guarded = self.permission is not None
        api = self.listener == "api"
        return [
            (not self.path.startswith(_PREFIXES[self.listener]), "the path has another prefix"),
            (api and guarded == self.public, "an api route needs a permission (or public=True)"),
            (not api and (guarded or self.public), "permissions belong to api routes"),
            (self.scoped and not guarded, "a scope is of a permission"),
            ((self.listener == "internal") != bool(self.callers), "internal routes name callers"),
            (not set(self.callers) <= set(SERVICES), "a caller is no service"),
            (
                guarded and not _PERMISSION.fullmatch(self.permission or ""),
                "a permission reads area.verb",
            ),
        ]
