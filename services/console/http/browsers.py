"""The browser that asks: its cookies, and what of them a handler may use."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from aiohttp import web

from services.console.identity.providers import Way
from services.console.people import Person
from services.console.sessions import Known, Visit

PERSON = web.RequestKey("console.person", Person)
FIELDS = web.RequestKey("console.fields", list[tuple[str, str]])


@dataclass
class Browser:
    """`secret`: what its pages' CSRF tokens are made from; of the session if there is one."""

    secret: str
    session: Known | None = None
    """Also one whose second factor is missing; PERSON is there only with it."""
    new_visitor: str | None = None
    """To be kept by the browser: the secret of somebody without a session."""
    new_session: str | None = None
    """To be kept by the browser: the session's new secret; empty: none any more."""
    ways: Sequence[Way] = ()
    """Providers that a stranger may sign in by."""


BROWSER = web.RequestKey("console.browser", Browser)


@dataclass(frozen=True)
class Cookies:
    """`__Host-` binds a cookie to this host and to https; over http (loopback only) browsers take
    no cookie of that name, so it has another there.
    """

    secure: bool

    @property
    def session(self) -> str:
        return "__Host-muster" if self.secure else "muster"

    @property
    def visitor(self) -> str:
        return "__Host-muster-visitor" if self.secure else "muster-visitor"

    def put(self, response: web.StreamResponse, browser: Browser) -> None:
        """What is new; without an age: gone when the browser is closed."""
        if browser.new_session is not None:
            self._set(response, self.session, browser.new_session)
        if browser.new_visitor is not None:
            self._set(response, self.visitor, browser.new_visitor)

    def _set(self, response: web.StreamResponse, name: str, value: str) -> None:
        response.set_cookie(
            name,
            value,
            path="/",
            secure=self.secure,
            httponly=True,
            samesite="Lax",
            max_age=None if value else 0,
        )


def sign_in_browser(request: web.Request, secret: str) -> None:
    """Let the browser keep this session's secret from now on; empty: sign it out."""
    request[BROWSER].new_session = secret


def visit(request: web.Request) -> Visit:
    return Visit(request.remote, request.headers.get("User-Agent"))
