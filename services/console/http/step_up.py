"""Proving oneself again for one request: what handlers call, and what the page in between asks."""

from __future__ import annotations

from typing import Annotated, Any

from aiohttp import web
from pydantic import BaseModel, ConfigDict, Field

from services.console import forgery
from services.console.http.browsers import FIELDS, sign_in_browser
from services.console.http.keys import STEP_UP
from services.console.http.pages import BESIDE, person
from services.console.step_up import CODE_FIELD, digest_of
from shared.runtime.http import parse_body, read_body, render
from shared.runtime.problems import Problem
from shared.runtime.routes import Handler, Route

NEEDED = "step_up_needed"
_Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class DigestBody(BaseModel):
    model_config = ConfigDict(extra="forbid")

    digest: _Digest


class CodeBody(DigestBody):
    code: Annotated[str, Field(max_length=20, repr=False)]


class KeyBody(DigestBody):
    credential: dict[str, Any]


async def confirmed(request: web.Request, act: str) -> None:
    """Pass once if the person proved themselves for this very request; else ask them to.

    `act` says to them what would be done. A code may come in the form itself. Call this after the
    form was parsed and found right, before anything is done.
    """
    who, step_up = person(request), request.config_dict[STEP_UP]
    digest, why = await _digest(request), None
    code = dict(request.get(FIELDS, ())).get(CODE_FIELD)
    if code:
        try:
            sign_in_browser(request, await step_up.by_code(who, digest, code))
        except Problem as problem:
            if problem.status not in {403, 429}:
                raise
            why = problem.detail
    if await step_up.is_proven(who, digest):
        return
    detail = "This needs your second factor once more."
    ways = await step_up.ways(who)
    raise Problem(403, NEEDED, detail, act=act, digest=digest, ways=ways, why=why)


async def _digest(request: web.Request) -> str:
    fields = request.get(FIELDS)
    if fields is None:
        return digest_of(request.method, request.path_qs, await read_body(request))
    content = [(name, value) for name, value in fields if name not in BESIDE]
    return digest_of(request.method, request.path_qs, content)


def carry(request: web.Request, name: str, value: str) -> None:
    """Have the form say what it stands for where the request names it by a list: the proof is of
    that, and the form that asks again repeats it.
    """
    others = [(each, said) for each, said in request.get(FIELDS, ()) if each != name]
    request[FIELDS] = [*others, (name, value)]


def fields_to_repeat(request: web.Request) -> list[tuple[str, str]]:
    """The form that asks again carries what the first one said."""
    return [(name, value) for name, value in request.get(FIELDS, ()) if name not in BESIDE]


async def by_code(request: web.Request) -> web.StreamResponse:
    """POST /step-up/code: prove a request by a code."""
    body = await parse_body(request, CodeBody)
    step_up = request.config_dict[STEP_UP]
    return _proven(request, await step_up.by_code(person(request), body.digest, body.code))


async def key_options(request: web.Request) -> web.StreamResponse:
    """POST /step-up/key/options: a challenge for a request."""
    body = await parse_body(request, DigestBody)
    return render(await request.config_dict[STEP_UP].key_options(person(request), body.digest))


async def by_key(request: web.Request) -> web.StreamResponse:
    """POST /step-up/key: prove a request by a key."""
    body = await parse_body(request, KeyBody)
    step_up = request.config_dict[STEP_UP]
    return _proven(request, await step_up.by_key(person(request), body.digest, body.credential))


def _proven(request: web.Request, secret: str) -> web.Response:
    """The session has another secret now, and so have its pages."""
    sign_in_browser(request, secret)
    return render({"csrf": forgery.token_for(secret)})


def _post(path: str, handler: Handler, summary: str) -> Route:
    return Route("POST", path, handler, page=True, personal=True, summary=summary, max_body=16384)


ROUTES = (
    _post("/step-up/code", by_code, "Prove a request by a code"),
    _post("/step-up/key/options", key_options, "Ask for a key for a request"),
    _post("/step-up/key", by_key, "Prove a request by a key"),
)
