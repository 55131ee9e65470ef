"""Pages before somebody is signed in: password, second factor, set-up link."""

from __future__ import annotations

from typing import Annotated, Any
from urllib.parse import urlencode

from aiohttp import web
from pydantic import BaseModel, ConfigDict, Field

from services.console import paths
from services.console.codes import picture
from services.console.http.browsers import BROWSER, PERSON, sign_in_browser, visit
from services.console.http.keys import SETUP, SIGNING_IN
from services.console.http.pages import go_to, page, parse_form
from services.console.sessions import Known
from services.console.signing_in import SIGN_IN
from shared.runtime.http import parse_body, render
from shared.runtime.problems import Problem
from shared.runtime.routes import Handler, Route

_SMALL = 16 * 1024
_Line = Annotated[str, Field(min_length=1, max_length=200)]
Email = Annotated[str, Field(min_length=3, max_length=254, pattern=r"^[^\s@]+@[^\s@]+$")]


class _Form(BaseModel):
    model_config = ConfigDict(extra="forbid")

    next: Annotated[str, Field(max_length=2000)] = paths.HOME


class PasswordForm(_Form):
    email: Annotated[str, Field(max_length=254)] = ""
    password: Annotated[str, Field(max_length=1000, repr=False)] = ""


class CodeForm(_Form):
    code: Annotated[str, Field(max_length=20, repr=False)] = ""


class OwnerForm(BaseModel):
    model_config = ConfigDict(extra="forbid")

    name: _Line
    email: Email
    password: Annotated[str, Field(max_length=1000, repr=False)]


class KeyAnswer(BaseModel):
    """What the browser's script got from the authenticator."""

    model_config = ConfigDict(extra="forbid")

    credential: dict[str, Any]
    name: Annotated[str, Field(min_length=1, max_length=100)] = "Key"


async def show_sign_in(request: web.Request) -> web.StreamResponse:
    """GET /sign-in: for who goes there by a link; strangers get it in the place of any page."""
    following = paths.local(request.query.get("next", paths.HOME))
    if PERSON in request:
        return go_to(following)
    return page(request, "sign_in.html", next=following, email="", why=None)


async def sign_in(request: web.Request) -> web.StreamResponse:
    """POST /sign-in: the password; what comes next is the second factor."""
    form = parse_form(request, PasswordForm)
    following = paths.local(form.next)
    try:
        secret = await request.config_dict[SIGNING_IN].password(
            form.email, form.password, visit(request)
        )
    except Problem as problem:
        values = {"next": following, "email": form.email, "why": problem.detail}
        return _again(page(request, "sign_in.html", status=problem.status, **values), problem)
    sign_in_browser(request, secret)
    return go_to(second_factor(following))


async def show_second_factor(request: web.Request) -> web.StreamResponse:
    """GET /second-factor: bring one, or register the first."""
    following = paths.local(request.query.get("next", paths.HOME))
    if PERSON in request:
        return go_to(following)
    return await _second_factor_page(request, following)


async def bring_code(request: web.Request) -> web.StreamResponse:
    """POST /second-factor/code: the code of an app that is registered."""
    form, session = parse_form(request, CodeForm), _waiting(request)
    signing_in = request.config_dict[SIGNING_IN]
    try:
        secret = await signing_in.code(session, form.code, request.remote)
    except Problem as problem:
        return await _second_factor_page(request, paths.local(form.next), problem)
    sign_in_browser(request, secret)
    return go_to(paths.local(form.next))


async def offer_code(request: web.Request) -> web.StreamResponse:
    """POST /second-factor/offer: a new secret for an authenticator app, shown once."""
    form, session = parse_form(request, CodeForm), _waiting(request)
    signing_in = request.config_dict[SIGNING_IN]
    if session.sealed or await signing_in.factors(session.account_id):
        return await _second_factor_page(request, paths.local(form.next))
    await signing_in.codes.offer(session.account_id)
    return await _second_factor_page(request, paths.local(form.next), offered=True)


async def confirm_code(request: web.Request) -> web.StreamResponse:
    """POST /second-factor/confirm: the first code of the app just registered."""
    form, session = parse_form(request, CodeForm), _waiting(request)
    signing_in = request.config_dict[SIGNING_IN]
    try:
        secret = await signing_in.first_code(session, form.code, request.remote)
    except Problem as problem:
        following = paths.local(form.next)
        return await _second_factor_page(request, following, problem, offered=True)
    sign_in_browser(request, secret)
    return go_to(paths.local(form.next))


async def key_options(request: web.Request) -> web.StreamResponse:
    """POST /second-factor/key/options: a challenge for the keys that are registered."""
    session = _waiting(request)
    keys = request.config_dict[SIGNING_IN].keys
    return render(await keys.assertion(session.session_id, session.account_id, SIGN_IN))


async def bring_key(request: web.Request) -> web.StreamResponse:
    """POST /second-factor/key: its answer."""
    body, session = await parse_body(request, KeyAnswer), _waiting(request)
    signing_in = request.config_dict[SIGNING_IN]
    sign_in_browser(request, await signing_in.key(session, body.credential, request.remote))
    return render({})


async def new_key_options(request: web.Request) -> web.StreamResponse:
    """POST /second-factor/new-key/options: a challenge for a first key."""
    session = _waiting(request)
    keys = request.config_dict[SIGNING_IN].keys
    return render(
        await keys.registration(
            session.session_id,
            session.account_id,
            session.name,
            session.email,
            resident=session.sealed,
        )
    )


async def bring_new_key(request: web.Request) -> web.StreamResponse:
    """POST /second-factor/new-key: the first key."""
    body, session = await parse_body(request, KeyAnswer), _waiting(request)
    signing_in = request.config_dict[SIGNING_IN]
    secret = await signing_in.first_key(session, body.name, body.credential, request.remote)
    sign_in_browser(request, secret)
    return render({})


async def show_set_up(request: web.Request) -> web.StreamResponse:
    """GET /set-up/{token}: the form for the owner; looking spends nothing."""
    await request.config_dict[SETUP].check(request.match_info["token"])
    return page(request, "set_up.html", name="", email="", why=None)


async def set_up(request: web.Request) -> web.StreamResponse:
    """POST /set-up/{token}: make the owner's account, once."""
    token, given = request.match_info["token"], visit(request)
    form = None
    try:
        form = parse_form(request, OwnerForm)
        claim = request.config_dict[SETUP].claim
        secret = await claim(token, form.name, form.email, form.password, given)
    except Problem as problem:
        if problem.code == "setup_refused":
            raise
        name, email = (form.name, form.email) if form else ("", "")
        values = {"name": name, "email": email, "why": _why(problem)}
        return page(request, "set_up.html", status=problem.status, **values)
    sign_in_browser(request, secret)
    return go_to(second_factor(paths.HOME))


async def _second_factor_page(
    request: web.Request, following: str, problem: Problem | None = None, *, offered: bool = False
) -> web.Response:
    session, signing_in = _waiting(request), request.config_dict[SIGNING_IN]
    secret = await signing_in.codes.offered(session.account_id) if offered else None
    answer = page(
        request,
        "second_factor.html",
        status=problem.status if problem else 200,
        email=session.email,
        sealed=session.sealed,
        factors=await signing_in.factors(session.account_id),
        next=following,
        picture=picture(secret, session.email) if secret else None,
        secret=secret,
        why=problem.detail if problem else None,
    )
    return _again(answer, problem) if problem else answer


def _waiting(request: web.Request) -> Known:
    """The session that brought its password, and not yet its second factor."""
    session = request[BROWSER].session
    if session is None or session.proven_at is not None:
        raise Problem(401, "signed_out", "Begin with your password.")
    return session


def second_factor(following: str) -> str:
    query = urlencode({"next": following}) if following != paths.HOME else ""
    return "/second-factor" + (f"?{query}" if query else "")


def _again(answer: web.Response, problem: Problem) -> web.Response:
    answer.headers.update(problem.headers)
    return answer


def _why(problem: Problem) -> str:
    faults = problem.extra.get("errors", [])
    return "; ".join([problem.detail, *(f"{each['at']}: {each['why']}" for each in faults)])


def _public(method: str, path: str, handler: Handler, summary: str) -> Route:
    return Route(method, path, handler, page=True, public=True, summary=summary, max_body=_SMALL)


ROUTES = (
    _public("GET", "/sign-in", show_sign_in, "The sign-in page"),
    _public("POST", "/sign-in", sign_in, "Sign in with a password"),
    _public("GET", "/second-factor", show_second_factor, "Bring or register a second factor"),
    _public("POST", "/second-factor/code", bring_code, "Bring a code"),
    _public("POST", "/second-factor/offer", offer_code, "Set up an authenticator app"),
    _public("POST", "/second-factor/confirm", confirm_code, "Register an authenticator app"),
    _public("POST", "/second-factor/key/options", key_options, "Ask for a key"),
    _public("POST", "/second-factor/key", bring_key, "Bring a key"),
    _public("POST", "/second-factor/new-key/options", new_key_options, "Ask for a first key"),
    _public("POST", "/second-factor/new-key", bring_new_key, "Register a first key"),
    _public("GET", "/set-up/{token}", show_set_up, "The page behind the set-up link"),
    _public("POST", "/set-up/{token}", set_up, "Make the owner's account"),
)
