"""Pages on the way to an identity provider and back."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

from aiohttp import web
from pydantic import BaseModel, ConfigDict, Field

from services.console import paths
from services.console.http.browsers import BROWSER, PERSON, sign_in_browser, visit
from services.console.http.keys import ENTERING, PROVIDERS
from services.console.http.pages import go_to, page, parse_form
from services.console.http.signing_in import second_factor
from services.console.identity.flows import Answer
from shared.runtime.http import path_id
from shared.runtime.problems import Problem
from shared.runtime.routes import Handler, Route

_LONG = 4096
_NAMES = ("code", "state", "iss", "error")


class WayForm(BaseModel):
    model_config = ConfigDict(extra="forbid")

    next: Annotated[str, Field(max_length=2000)] = paths.HOME


class AnswerForm(BaseModel):
    model_config = ConfigDict(extra="forbid")

    state: Annotated[str, Field(max_length=_LONG)] = ""
    code: Annotated[str, Field(max_length=_LONG, repr=False)] = ""
    iss: Annotated[str, Field(max_length=_LONG)] | None = None
    error: Annotated[str, Field(max_length=_LONG)] | None = None


async def go(request: web.Request) -> web.StreamResponse:
    """POST /sign-in/with/{provider_id}: to the provider, to say who one is."""
    form, provider_id = parse_form(request, WayForm), path_id(request, "provider_id")
    browser = request[BROWSER].secret
    url = await request.config_dict[ENTERING].begin(provider_id, browser, paths.local(form.next))
    return await going(request, provider_id, url)


async def go_and_join(request: web.Request) -> web.StreamResponse:
    """POST /join/{token}/with/{provider_id}: the same, by the link that somebody made."""
    provider_id, browser = path_id(request, "provider_id"), request[BROWSER].secret
    token = request.match_info["token"]
    url = await request.config_dict[ENTERING].begin_joining(provider_id, browser, token)
    return await going(request, provider_id, url)


async def going(request: web.Request, provider_id: UUID, url: str) -> web.Response:
    """A page that goes on by itself: a redirect after a form would be held by `form-action`."""
    provider = await request.config_dict[PROVIDERS].one(provider_id)
    return page(request, "identity/going.html", name=provider.name, url=url)


async def come_back(request: web.Request) -> web.StreamResponse:
    """GET /sign-in/callback/{provider_id}: nothing is done yet; the page sends its form itself."""
    given = {name: request.query.getall(name, []) for name in _NAMES}
    if any(len(values) > 1 or len("".join(values)) > _LONG for values in given.values()):
        raise Problem(400, "answer_invalid", "This is no answer of an identity provider.")
    fields = {name: values[0] for name, values in given.items() if values}
    return page(request, "identity/back.html", fields=fields)


async def enter(request: web.Request) -> web.StreamResponse:
    """POST /sign-in/callback/{provider_id}: what the provider said."""
    form, provider_id = parse_form(request, AnswerForm), path_id(request, "provider_id")
    answer = Answer(form.state, form.code, form.iss, form.error)
    entered = await request.config_dict[ENTERING].finish(
        provider_id, request[BROWSER].secret, answer, visit(request), request.get(PERSON)
    )
    if entered.secret is None:
        return go_to(entered.following)
    sign_in_browser(request, entered.secret)
    return go_to(second_factor(entered.following))


def _public(method: str, path: str, handler: Handler, summary: str) -> Route:
    return Route(method, path, handler, page=True, public=True, summary=summary, max_body=32768)


_BACK = "/sign-in/callback/{provider_id}"
ROUTES = (
    _public("POST", "/sign-in/with/{provider_id}", go, "Sign in by an identity provider"),
    _public("POST", "/join/{token}/with/{provider_id}", go_and_join, "Use a link by a provider"),
    _public("GET", _BACK, come_back, "Back from an identity provider"),
    _public("POST", _BACK, enter, "What an identity provider said"),
)
