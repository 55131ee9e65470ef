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
    page: bool = False
    """For people in a browser, outside of /api/: the service's door admits by the session's cookie,
    and answers refusals as pages (`shared.runtime.pages`)."""
    stream: bool = False
    """The answer goes on as long as somebody reads: its time says nothing of how fast we are."""
    personal: bool = False
    """A page that shows anybody who is signed in what is theirs; it needs no permission."""

    def __post_init__(self) -> None:
        for broken, why in self._faults():
            if broken:
                raise ValueError(f"{self.method} {self.path}: {why}")

    def _faults(self) -> list[tuple[bool, str]]:
        guarded = self.permission is not None
        api = self.listener == "api"
        ways_in = [guarded, self.public, self.personal].count(True)
        return [
            (not self._has_its_prefix(), "the path has another prefix"),
            (api and ways_in != 1, "an api route needs a permission (or public=True)"),
            (self.page and not api, "pages are on the api listener"),
            (self.personal and not self.page, "only pages are personal"),
            (not api and ways_in > 0, "permissions belong to api routes"),
            (self.scoped and not guarded, "a scope is of a permission"),
            ((self.listener == "internal") != bool(self.callers), "internal routes name callers"),
            (not set(self.callers) <= set(SERVICES), "a caller is no service"),
            (
                guarded and not _PERMISSION.fullmatch(self.permission or ""),
                "a permission reads area.verb",
            ),
        ]

    def _has_its_prefix(self) -> bool:
        if self.page:
            return not self.path.startswith(("/api/", "/internal/"))
        return self.path.startswith(_PREFIXES[self.listener])
