"""API tokens: one's own, as pages, and the exchange, for programs."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

from aiohttp import web
from pydantic import BaseModel, ConfigDict, Field

from services.console.http.audit_api import Audience
from services.console.http.keys import DIRECTORY, TOKENS
from services.console.http.pages import go_to, page, parse_form, person
from services.console.http.step_up import confirmed
from services.console.permissions import FOR_PEOPLE_ONLY, PERMISSIONS
from services.console.tokens import LIFETIME, LONGEST_DAYS, WRITE
from shared.runtime.http import parse_body, path_id, render
from shared.runtime.routes import Route

_PAGE = "/me/tokens"


class MintForm(BaseModel):
    model_config = ConfigDict(extra="forbid")

    name: Annotated[str, Field(min_length=1, max_length=100)]
    permission: list[Annotated[str, Field(max_length=100)]] = []
    group: UUID | None = None
    days: Annotated[int, Field(ge=1, le=LONGEST_DAYS)] = 90


class TokenBody(BaseModel):
    model_config = ConfigDict(extra="forbid")

    token: Annotated[str, Field(max_length=200, repr=False)]
    audience: Audience
    """The service that the access token is for."""


class AccessToken(BaseModel):
    access_token: str
    audience: Audience
    expires_in: int
    """Seconds, at most."""


async def show(request: web.Request) -> web.StreamResponse:
    """GET /me/tokens: one's own, never the secrets."""
    return page(
        request,
        "own/tokens.html",
        tokens=await request.config_dict[TOKENS].own(person(request)),
        catalogue=PERMISSIONS,
        never=FOR_PEOPLE_ONLY,
        groups=await request.config_dict[DIRECTORY].group_names(),
    )


async def mint(request: web.Request) -> web.StreamResponse:
    """POST /me/tokens: make one; its secret is shown once."""
    form, who = parse_form(request, MintForm), person(request)
    what = ", ".join(sorted(form.permission)) or "nothing"
    await confirmed(request, f"Make the API token “{form.name}” for {form.days} days: {what}")
    tokens = request.config_dict[TOKENS]
    secret = await tokens.mint(who, form.name, form.permission, form.group, form.days)
    return page(request, "own/new_token.html", name=form.name, secret=secret)


async def revoke(request: web.Request) -> web.StreamResponse:
    """POST /me/tokens/{token_id}/revoke: taking power away asks for nothing more."""
    await request.config_dict[TOKENS].revoke(person(request), path_id(request, "token_id"))
    return go_to(_PAGE)


async def exchange(request: web.Request) -> web.StreamResponse:
    """POST /api/v1/console/token: an API token for an access token of one service."""
    body = await parse_body(request, TokenBody)
    tokens = request.config_dict[TOKENS]
    token = await tokens.exchange(body.token, body.audience, request.remote)
    seconds = int(LIFETIME.total_seconds())
    return render(AccessToken(access_token=token, audience=body.audience, expires_in=seconds))


ROUTES = (
    Route("GET", _PAGE, show, page=True, personal=True, summary="One's own API tokens"),
    Route(
        "POST",
        _PAGE,
        mint,
        page=True,
        permission=WRITE,
        scoped=True,
        summary="Make an API token",
        max_body=32768,
    ),
    Route(
        "POST",
        f"{_PAGE}/{{token_id}}/revoke",
        revoke,
        page=True,
        personal=True,
        summary="Revoke an API token",
        max_body=16384,
    ),
    Route(
        "POST",
        "/api/v1/console/token",
        exchange,
        public=True,
        summary="Exchange an API token for an access token of one service",
        body=TokenBody,
        answer=AccessToken,
        max_body=4096,
    ),
)
