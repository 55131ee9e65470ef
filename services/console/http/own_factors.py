"""Pages about one's own second factors."""

from __future__ import annotations

import json
from typing import Annotated, Any

from aiohttp import web
from pydantic import BaseModel, ConfigDict, Field

from services.console.codes import picture
from services.console.http.keys import OWN_FACTORS, SIGNING_IN
from services.console.http.pages import go_to, page, parse_form, person
from services.console.http.step_up import confirmed
from shared.runtime.http import parse_body, path_id, render
from shared.runtime.problems import Problem
from shared.runtime.routes import Handler, Route

_PAGE = "/me/factors"
_KeyName = Annotated[str, Field(min_length=1, max_length=100)]


class NameForm(BaseModel):
    model_config = ConfigDict(extra="forbid")

    name: _KeyName


class CodeForm(BaseModel):
    model_config = ConfigDict(extra="forbid")

    code: Annotated[str, Field(max_length=20, repr=False)] = ""


class NewKey(BaseModel):
    model_config = ConfigDict(extra="forbid")

    name: _KeyName
    credential: dict[str, Any]


async def show(request: web.Request) -> web.StreamResponse:
    """GET /me/factors: what one proves oneself with."""
    factors = await request.config_dict[SIGNING_IN].factors(person(request).account_id)
    return page(request, "own/factors.html", factors=factors)


async def add_key(request: web.Request) -> web.StreamResponse:
    """POST /me/factors/keys/add: after a step-up, the page with the challenge for a new key."""
    form, who = parse_form(request, NameForm), person(request)
    await confirmed(request, f"Add the key “{form.name}” to your account")
    options = json.dumps(await request.config_dict[OWN_FACTORS].key_options(who))
    body = json.dumps({"name": form.name})
    return page(request, "own/new_key.html", name=form.name, options=options, body=body)


async def register_key(request: web.Request) -> web.StreamResponse:
    """POST /me/factors/keys: the new key's answer."""
    body, who = await parse_body(request, NewKey), person(request)
    await request.config_dict[OWN_FACTORS].register(who, body.name, body.credential)
    return render({})


async def remove_key(request: web.Request) -> web.StreamResponse:
    """POST /me/factors/keys/{key_id}/remove."""
    who, key_id = person(request), path_id(request, "key_id")
    await confirmed(request, "Remove a key from your account")
    await request.config_dict[OWN_FACTORS].remove_key(who, key_id)
    return go_to(_PAGE)


async def offer_code(request: web.Request) -> web.StreamResponse:
    """POST /me/factors/code/offer: after a step-up, the secret for a new authenticator app."""
    who = person(request)
    await confirmed(request, "Set up another authenticator app for your account")
    secret = await request.config_dict[OWN_FACTORS].offer_code(who)
    return _new_code(request, secret, None)


async def confirm_code(request: web.Request) -> web.StreamResponse:
    """POST /me/factors/code: the first code of the new app."""
    form, who = parse_form(request, CodeForm), person(request)
    own = request.config_dict[OWN_FACTORS]
    try:
        await own.accept_code(who, form.code)
    except Problem as problem:
        secret = await own.offered_code(who)
        if secret is None:
            raise
        return _new_code(request, secret, problem)
    return go_to(_PAGE)


async def remove_code(request: web.Request) -> web.StreamResponse:
    """POST /me/factors/code/remove."""
    who = person(request)
    await confirmed(request, "Remove the authenticator app from your account")
    await request.config_dict[OWN_FACTORS].remove_code(who)
    return go_to(_PAGE)


def _new_code(request: web.Request, secret: str, problem: Problem | None) -> web.Response:
    return page(
        request,
        "own/new_code.html",
        status=problem.status if problem else 200,
        picture=picture(secret, person(request).email),
        secret=secret,
        why=problem.detail if problem else None,
    )


def _own(method: str, path: str, handler: Handler, summary: str) -> Route:
    return Route(method, path, handler, page=True, personal=True, summary=summary, max_body=16384)


ROUTES = (
    _own("GET", _PAGE, show, "What one proves oneself with"),
    _own("POST", f"{_PAGE}/keys/add", add_key, "Begin to add a key"),
    _own("POST", f"{_PAGE}/keys", register_key, "Add a key"),
    _own("POST", f"{_PAGE}/keys/{{key_id}}/remove", remove_key, "Remove a key"),
    _own("POST", f"{_PAGE}/code/offer", offer_code, "Begin to set up an authenticator app"),
    _own("POST", f"{_PAGE}/code", confirm_code, "Set up an authenticator app"),
    _own("POST", f"{_PAGE}/code/remove", remove_code, "Remove the authenticator app"),
)
