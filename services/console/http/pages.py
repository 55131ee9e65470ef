"""What handlers of pages use: who asks, the form, the answer, and other services' answers."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar, get_origin
from urllib.parse import urlencode

import jinja2
from aiohttp import web
from pydantic import BaseModel, ValidationError

from services.console import forgery
from services.console.http.browsers import BROWSER, FIELDS, PERSON
from services.console.http.keys import ASKING, BUNDLE, VIEWS
from services.console.http.menu import MENU
from services.console.people import Person
from services.console.step_up import CODE_FIELD
from shared.runtime import bidirectional
from shared.runtime.http import Page, invalid, parse_query
from shared.runtime.internal import InternalCallFailed
from shared.runtime.problems import Problem
from shared.runtime.routes import Handler, Route

__all__ = [
    "ask",
    "ask_surely",
    "asks_for",
    "go_to",
    "page",
    "page_or_part",
    "paged",
    "parse_form",
    "parse_pairs",
    "permitted_page",
    "person",
    "query_pairs",
    "text_of",
]

M = TypeVar("M", bound=BaseModel)
BESIDE = {forgery.FIELD, CODE_FIELD}
"""Fields that stand beside what a form says."""
TEMPLATES = Path(__file__).parent.parent / "templates"
_TURNING = dict.fromkeys(bidirectional.TURNING, "\ufffd")


def person(request: web.Request) -> Person:
    """Who asks; on a public page there may be nobody, and this is refused."""
    if PERSON not in request:
        raise Problem(401, "signed_out", "Sign in to go on.")
    return request[PERSON]


async def ask(
    request: web.Request,
    service: str,
    method: str,
    path: str,
    body: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """What another service's API answers to this person; raises its Problem."""
    asking = request.config_dict[ASKING]
    return await asking.ask(person(request), service, method, path, body)


async def ask_surely(
    request: web.Request,
    service: str,
    method: str,
    path: str,
    body: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """As `ask`, for pages that are nothing without the answer: silence is a Problem too."""
    try:
        return await ask(request, service, method, path, body)
    except InternalCallFailed:
        why = f"{service} does not answer now. Look whether it was done before trying again."
        raise Problem(503, "service_silent", why) from None


def page(request: web.Request, template: str, *, status: int = 200, **values: Any) -> web.Response:
    """Render a template of ours; values are escaped, and a missing one is an error."""
    text = text_of(request, template, **values)
    return web.Response(text=text, status=status, content_type="text/html", charset="utf-8")


def text_of(request: web.Request, template: str, **values: Any) -> str:
    """What a template of ours becomes: a page, or a part of one for an event."""
    browser = request[BROWSER]
    # Who was signed out by this very request sees no menu any more.
    return (
        _environment()
        .get_template(template)
        .render(
            asset=request.config_dict[BUNDLE].url,
            csrf=forgery.token_for(browser.new_session or browser.secret),
            menu=MENU,
            now=request.config_dict[VIEWS].now(),
            path=request.path,
            ways=browser.ways,
            person=None if browser.new_session == "" else request.get(PERSON),
            **values,
        )
    )


def page_or_part(
    request: web.Request, whole: str, part: str, target: str, **values: Any
) -> web.Response:
    """As `page`: the part alone where htmx asks for that (`asks_for`), else the whole."""
    response = page(request, part if asks_for(request, target) else whole, **values)
    response.headers["Vary"] = "HX-Request, HX-Target"
    return response


def asks_for(request: web.Request, target: str) -> bool:
    """Whether htmx wants what this element of the page holds."""
    return request.headers.get("HX-Target") == target


def go_to(path: str) -> web.Response:
    """Answer a form with another page to be fetched (303)."""
    return web.Response(status=303, headers={"Location": path})


def paged(path: str, query: Page) -> str:
    """An address of another service's list, for the part of it that this page shows."""
    return f"{path}?{urlencode(query.model_dump(exclude_none=True))}"


def query_pairs(request: web.Request) -> list[tuple[str, str]]:
    """What the URL asks for; forms send empty fields as well, which say nothing."""
    return [(name, value) for name, value in request.query.items() if value != ""]


def parse_pairs(request: web.Request, pairs: Sequence[tuple[str, str]], model: type[M]) -> M:
    """The query as `model`, as if it had these pairs."""
    return parse_query(request.clone(rel_url=request.rel_url.with_query(list(pairs))), model)


def permitted_page(
    method: str,
    path: str,
    handler: Handler,
    permission: str,
    summary: str,
    *,
    scoped: bool = False,
    max_body: int = 32768,
) -> Route:
    """A page for people who hold a permission; `scoped`: on some groups is enough."""
    return Route(
        method,
        path,
        handler,
        page=True,
        permission=permission,
        scoped=scoped,
        summary=summary,
        max_body=max_body,
    )


def parse_form(request: web.Request, model: type[M]) -> M:
    """The fields of the form as `model`; an empty one counts as left out, as HTML has it."""
    values: dict[str, Any] = {}
    for name, value in request.get(FIELDS, ()):
        field = model.model_fields.get(name)
        if field is not None and get_origin(field.annotation) in {list, tuple, set}:
            values.setdefault(name, []).append(value)
        elif value != "" and name not in BESIDE:
            values[name] = value
    try:
        return model.model_validate(values)
    except ValidationError as error:
        raise invalid(error, 422, "form_invalid", "The form is not filled in correctly.") from None


def _turning_nothing(value: Any) -> Any:
    """Names come from devices: none may turn the direction of what stands beside it."""
    return value.translate(_TURNING) if type(value) is str and not value.isascii() else value


@functools.cache
def _environment() -> jinja2.Environment:
    return jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        finalize=_turning_nothing,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
    )
