"""Pages about one's own password. It lies in no form that steps up: those are sent twice."""

from __future__ import annotations

from typing import Annotated

from aiohttp import web
from pydantic import BaseModel, ConfigDict, Field

from services.console.http.browsers import sign_in_browser
from services.console.http.keys import OWN_PASSWORD, TICKETS
from services.console.http.pages import go_to, page, parse_form, person
from services.console.http.step_up import confirmed
from shared.runtime.problems import Problem
from shared.runtime.routes import Handler, Route

_PAGE = "/me/password"
_PURPOSE = "password"
_ASKED_AGAIN = {"password_wrong", "password_weak", "slow_down"}
_Password = Annotated[str, Field(max_length=1000, repr=False)]


class ChangeForm(BaseModel):
    model_config = ConfigDict(extra="forbid")

    ticket: Annotated[str, Field(max_length=100, repr=False)]
    old: _Password = ""
    new: _Password = ""


async def show(request: web.Request) -> web.StreamResponse:
    """GET /me/password."""
    is_set = await request.config_dict[OWN_PASSWORD].is_set(person(request).account_id)
    return page(request, "own/password.html", is_set=is_set)


async def begin(request: web.Request) -> web.StreamResponse:
    """POST /me/password/begin: after a step-up, the form for the old and the new one."""
    who = person(request)
    await confirmed(request, "Change your password")
    ticket = await request.config_dict[TICKETS].give(who, _PURPOSE)
    return page(request, "own/new_password.html", ticket=ticket, why=None)


async def change(request: web.Request) -> web.StreamResponse:
    """POST /me/password: what is filled in wrongly spends no ticket."""
    form, who = parse_form(request, ChangeForm), person(request)
    own = request.config_dict[OWN_PASSWORD]
    try:
        kept = await own.check(who, form.old, form.new)
    except Problem as problem:
        if problem.code not in _ASKED_AGAIN:
            raise
        values = {"ticket": form.ticket, "why": problem.detail}
        answer = page(request, "own/new_password.html", status=problem.status, **values)
        answer.headers.update(problem.headers)
        return answer
    await request.config_dict[TICKETS].take(who, _PURPOSE, form.ticket)
    sign_in_browser(request, await own.change(who, kept, form.new))
    return go_to("/me/sessions")


def _post(path: str, handler: Handler, summary: str) -> Route:
    return Route("POST", path, handler, page=True, personal=True, summary=summary, max_body=16384)


ROUTES = (
    Route("GET", _PAGE, show, page=True, personal=True, summary="One's own password"),
    _post(f"{_PAGE}/begin", begin, "Begin to change one's password"),
    _post(_PAGE, change, "Change one's password"),
)
