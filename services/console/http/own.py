"""Pages about oneself: one's sessions, and the way out."""

from __future__ import annotations

from aiohttp import web

from services.console.http.browsers import sign_in_browser
from services.console.http.keys import SESSIONS
from services.console.http.pages import go_to, page, person
from shared.runtime.http import path_id
from shared.runtime.routes import Route


async def list_sessions(request: web.Request) -> web.StreamResponse:
    """GET /me/sessions: where one is signed in."""
    who = person(request)
    sessions = await request.config_dict[SESSIONS].own(who.account_id)
    return page(request, "own/sessions.html", sessions=sessions)


async def end_session(request: web.Request) -> web.StreamResponse:
    """POST /me/sessions/{session_id}/end: sign out one of one's browsers."""
    who, session_id = person(request), path_id(request, "session_id")
    await request.config_dict[SESSIONS].end(who.caller, who.account_id, session_id)
    if session_id == who.session_id:
        sign_in_browser(request, "")
        return go_to("/")
    return go_to("/me/sessions")


async def sign_out(request: web.Request) -> web.StreamResponse:
    """POST /sign-out: end this session."""
    who = person(request)
    await request.config_dict[SESSIONS].end(who.caller, who.account_id, who.session_id)
    sign_in_browser(request, "")
    return go_to("/")


ROUTES = (
    Route(
        "GET",
        "/me/sessions",
        list_sessions,
        page=True,
        personal=True,
        summary="Where one is signed in",
    ),
    Route(
        "POST",
        "/me/sessions/{session_id}/end",
        end_session,
        page=True,
        personal=True,
        summary="Sign out one of one's browsers",
        max_body=4096,
    ),
    Route(
        "POST",
        "/sign-out",
        sign_out,
        page=True,
        personal=True,
        summary="Sign out",
        max_body=4096,
    ),
)
