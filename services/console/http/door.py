"""Admits browsers to pages: the session's cookie, the origin of writes, the CSRF token."""

from __future__ import annotations

import re
from http import HTTPStatus
from urllib.parse import parse_qsl, quote, urlsplit

from aiohttp import web

from services.console import forgery, paths
from services.console.http import step_up
from services.console.http.browsers import BROWSER, FIELDS, PERSON, Browser, Cookies
from services.console.http.pages import page
from services.console.identity.providers import Providers
from services.console.people import Person, person_of
from services.console.sessions import Sessions, new_secret
from shared.runtime.http import CALLER, read_body
from shared.runtime.passkeys import origin_of
from shared.runtime.problems import Problem, problem_response
from shared.runtime.routes import Route

_READING = {"GET", "HEAD"}
_FORM = "application/x-www-form-urlencoded"
_MAX_FIELDS = 1000
_BY_ITSELF = "X-By-Itself"
"""On what a page asks for because of news, and no person did."""
_ASSETS = "/assets/"
_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
        "font-src 'self'; connect-src 'self'; form-action 'self'; frame-ancestors 'none'; "
        "base-uri 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    "Cache-Control": "no-store",
}


class ConsoleDoor:
    """See `shared.runtime.pages.Door`."""

    def __init__(self, sessions: Sessions, providers: Providers, url: str) -> None:
        self._sessions, self._providers = sessions, providers
        self._origin = origin_of(url)
        self._secure = urlsplit(url).scheme == "https"
        self._cookies = Cookies(secure=self._secure)

    async def admit(self, request: web.Request, route: Route) -> None:
        if route.path.startswith(_ASSETS):
            return
        browser = request[BROWSER] = await self._browser(request)
        person = _person(browser, request.remote)
        if person is not None:
            request[PERSON], request[CALLER] = person, person.caller
        else:
            browser.ways = await self._providers.in_use()
        writing = request.method not in _READING
        if writing:
            forgery.check_origin(request.headers.get("Origin"), self._origin)
        # Before the body: only who is signed in may send a long one.
        if person is None and not route.public:
            raise Problem(401, "signed_out", "Sign in to go on.")
        if writing:
            forgery.check_token(await _csrf_token(request), browser.secret)
        if route.public or person is None:
            return
        if route.permission is not None and route.scoped:
            person.reach(route.permission)
        elif route.permission is not None:
            person.require(route.permission)

    async def _browser(self, request: web.Request) -> Browser:
        """A forgotten tab keeps no session alive: neither its stream nor what news have it ask."""
        secret = request.cookies.get(self._cookies.session, "")
        stream = "text/event-stream" in request.headers.get("Accept", "")
        active = not stream and _BY_ITSELF not in request.headers
        known = await self._sessions.judge(secret, active=active) if secret else None
        if known is not None:
            return Browser(secret, known)
        visitor = request.cookies.get(self._cookies.visitor, "")
        if re.fullmatch(r"[A-Za-z0-9_-]{43}", visitor):
            return Browser(visitor)
        fresh = new_secret()
        return Browser(fresh, new_visitor=fresh)

    def refuse(self, request: web.Request, problem: Problem, correlation: str) -> web.Response:
        if BROWSER not in request or request.content_type == "application/json":
            return problem_response(problem, correlation)
        if problem.status == HTTPStatus.UNAUTHORIZED:
            return self._signed_out(request, problem)
        if problem.code == step_up.NEEDED:
            fields = step_up.fields_to_repeat(request)
            values = {"problem": problem, "fields": fields, "action": request.path_qs}
            return page(request, "step_up.html", status=problem.status, **values)
        status = problem.status
        template = "refused.html" if status == HTTPStatus.FORBIDDEN else "problem.html"
        response = page(request, template, status=status, problem=problem, correlation=correlation)
        response.headers.update(problem.headers)
        return response

    def _signed_out(self, request: web.Request, problem: Problem) -> web.Response:
        """The sign-in page in the place of what was asked for; htmx is sent to it as a whole."""
        reading = request.method in _READING and "HX-Request" not in request.headers
        following = paths.local(request.path_qs if reading else _shown_before(request))
        response = page(
            request,
            "sign_in.html",
            status=problem.status,
            next=following,
            email="",
            why=None if reading else problem.detail,
        )
        if "HX-Request" in request.headers:
            response.headers["HX-Redirect"] = f"/sign-in?next={quote(following)}"
        return response

    def dress(self, request: web.Request, response: web.StreamResponse) -> None:
        for name, value in _HEADERS.items():
            response.headers.setdefault(name, value)
        if self._secure:
            response.headers.setdefault("Strict-Transport-Security", "max-age=31536000")
        if BROWSER in request:
            self._cookies.put(response, request[BROWSER])


def _person(browser: Browser, source: str | None) -> Person | None:
    """Nobody, until the second factor was brought."""
    known = browser.session
    return person_of(known, source) if known and known.proven_at else None


async def _csrf_token(request: web.Request) -> str | None:
    """From the header (htmx), else from the form, whose fields are kept for the handler."""
    if request.content_type == _FORM:
        request[FIELDS] = await _fields(request)
    if given := request.headers.get(forgery.HEADER):
        return given
    return dict(request.get(FIELDS, ())).get(forgery.FIELD)


async def _fields(request: web.Request) -> list[tuple[str, str]]:
    try:
        text = (await read_body(request)).decode()
        return parse_qsl(text, keep_blank_values=True, max_num_fields=_MAX_FIELDS, errors="strict")
    except ValueError:
        raise Problem(400, "form_unreadable", "The form is not readable.") from None


def _shown_before(request: web.Request) -> str:
    """Path and query of the page that was open when a write or a part of a page was asked for."""
    name = "HX-Current-URL" if "HX-Request" in request.headers else "Referer"
    try:
        parts = urlsplit(request.headers.get(name, ""))
    except ValueError:
        return paths.HOME
    return f"{parts.path}?{parts.query}" if parts.query else parts.path
