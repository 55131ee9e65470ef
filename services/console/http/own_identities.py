"""Pages about one's own identities at providers."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

from aiohttp import web
from pydantic import BaseModel, ConfigDict, Field

from services.console.http.browsers import BROWSER
from services.console.http.identity import going
from services.console.http.keys import ENTERING, LINKING, PROVIDERS
from services.console.http.pages import go_to, page, parse_form, person
from services.console.http.step_up import confirmed
from shared.runtime.http import path_id
from shared.runtime.routes import Route

_PAGE = "/me/identities"


class UnlinkForm(BaseModel):
    model_config = ConfigDict(extra="forbid")

    provider: UUID
    subject: Annotated[str, Field(min_length=1, max_length=255)]


async def show(request: web.Request) -> web.StreamResponse:
    """GET /me/identities."""
    identities = await request.config_dict[LINKING].of(person(request).account_id)
    providers = await request.config_dict[PROVIDERS].in_use()
    return page(request, "own/identities.html", identities=identities, providers=providers)


async def link(request: web.Request) -> web.StreamResponse:
    """POST /me/identities/{provider_id}/link: after a step-up, to the provider."""
    who, provider_id = person(request), path_id(request, "provider_id")
    provider = await request.config_dict[PROVIDERS].one(provider_id)
    await confirmed(request, f"Let an identity of {provider.name} sign in to your account")
    browser = request[BROWSER]
    secret = browser.new_session or browser.secret
    url = await request.config_dict[ENTERING].begin_linking(who, provider_id, secret)
    return await going(request, provider_id, url)


async def unlink(request: web.Request) -> web.StreamResponse:
    """POST /me/identities/unlink."""
    form, who = parse_form(request, UnlinkForm), person(request)
    await confirmed(request, f"Let the identity {form.subject} sign in to your account no more")
    await request.config_dict[LINKING].unlink_own(who, form.provider, form.subject)
    return go_to(_PAGE)


ROUTES = (
    Route("GET", _PAGE, show, page=True, personal=True, summary="One's own identities"),
    Route(
        "POST",
        f"{_PAGE}/{{provider_id}}/link",
        link,
        page=True,
        personal=True,
        summary="Link an identity with one's account",
        max_body=8192,
    ),
    Route(
        "POST",
        f"{_PAGE}/unlink",
        unlink,
        page=True,
        personal=True,
        summary="Unlink an identity from one's account",
        max_body=8192,
    ),
)
