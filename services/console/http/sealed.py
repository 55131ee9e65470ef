"""Pages of sealed accounts: one to make them, one to open them."""

from __future__ import annotations

from typing import Annotated, Any

from aiohttp import web
from pydantic import BaseModel, ConfigDict, Field

from services.console.directory import WRITE
from services.console.http.browsers import BROWSER, sign_in_browser, visit
from services.console.http.keys import SEALED
from services.console.http.pages import page, parse_form, person
from services.console.http.people import show_link
from services.console.http.signing_in import Email
from services.console.http.step_up import confirmed
from shared.runtime.http import parse_body, render
from shared.runtime.routes import Route


class SealedForm(BaseModel):
    model_config = ConfigDict(extra="forbid")

    name: Annotated[str, Field(min_length=1, max_length=200)]
    email: Email


class KeyAnswer(BaseModel):
    model_config = ConfigDict(extra="forbid")

    credential: dict[str, Any]


async def make(request: web.Request) -> web.StreamResponse:
    """POST /settings/people/sealed: an owner's account that only a key will open."""
    form, who = parse_form(request, SealedForm), person(request)
    await confirmed(request, f"Make the sealed account {form.name}, an owner on all devices")
    account_id, token = await request.config_dict[SEALED].make(who, form.name, form.email)
    return show_link(request, account_id, form.name, token)


async def show(request: web.Request) -> web.StreamResponse:
    """GET /sealed."""
    return page(request, "sealed.html")


async def options(request: web.Request) -> web.StreamResponse:
    """POST /sealed/options: a challenge for whoever has such a key."""
    return render(await request.config_dict[SEALED].options(request[BROWSER].secret))


async def enter(request: web.Request) -> web.StreamResponse:
    """POST /sealed: its answer."""
    body = await parse_body(request, KeyAnswer)
    sealed, browser = request.config_dict[SEALED], request[BROWSER].secret
    sign_in_browser(request, await sealed.enter(browser, body.credential, visit(request)))
    return render({})


ROUTES = (
    Route(
        "POST",
        "/settings/people/sealed",
        make,
        page=True,
        permission=WRITE,
        summary="Make a sealed account",
        max_body=16384,
    ),
    Route("GET", "/sealed", show, page=True, public=True, summary="Open a sealed account"),
    Route(
        "POST",
        "/sealed/options",
        options,
        page=True,
        public=True,
        summary="Ask for a sealed account's key",
        max_body=4096,
    ),
    Route(
        "POST",
        "/sealed",
        enter,
        page=True,
        public=True,
        summary="Bring a sealed account's key",
        max_body=16384,
    ),
)
