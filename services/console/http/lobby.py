"""The lobby: who waits to be let in, why, beside the device it may be; deciding about one."""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal
from uuid import UUID

from aiohttp import web
from pydantic import BaseModel, ConfigDict, Field

from services.console.http.device_links import Links
from services.console.http.keys import VIEWS
from services.console.http.pages import (
    ask,
    go_to,
    page,
    page_or_part,
    parse_form,
    parse_pairs,
    permitted_page,
    person,
    query_pairs,
)
from services.console.http.step_up import confirmed
from services.console.http.streams import event, stream
from services.console.http.words import LOBBY_REASONS, LOBBY_STATES, SHOWN
from shared.runtime.http import Page, path_id
from shared.runtime.internal import InternalCallFailed
from shared.runtime.problems import Problem
from shared.runtime.routes import Handler, Route

READ: Final = "enrollment.read"
DECIDE: Final = "lobby.decide"
HERE: Final = "/enrollment/lobby"
_API: Final = "/api/v1/enrollment/lobby"
_SILENT: Final = "The service that knows who waits does not answer now. Nothing was lost."
_PAUSE_SECONDS: Final = 1.0
Values = dict[str, Any]


class LobbyQuery(Page):
    """The URL of the list."""

    state: Literal["waiting", "released", "refused", "expired", "left", "any"] = "waiting"
    reason: Annotated[str, Field(max_length=50)] | None = None
    credential_id: UUID | None = None
    address: Annotated[str, Field(max_length=50)] | None = None

    @property
    def narrowed(self) -> bool:
        return bool(self.reason or self.credential_id or self.address or self.cursor)


class DecisionForm(BaseModel):
    """`serial` is typed where a release displaces a device."""

    model_config = ConfigDict(extra="forbid")

    reason: Annotated[str, Field(max_length=300)] = ""
    serial: Annotated[str, Field(max_length=300)] = ""


async def waiting_now(request: web.Request) -> int | None:
    """How many wait; None where that cannot be told."""
    try:
        found = await ask(request, "enrollment", "GET", f"{_API}/counts")
    except (Problem, InternalCallFailed):
        return None
    return found.get("waiting")


async def list_lobby(request: web.Request) -> web.StreamResponse:
    """GET /enrollment/lobby: the list; only its table, when htmx asks for that."""
    pairs = query_pairs(request)
    query = parse_pairs(request, pairs, LobbyQuery)
    asked = [(name, value) for name, value in pairs if name != "limit"]
    path = Links(_API, [("limit", str(query.limit)), *asked]).here
    found: Values = {"items": [], "next": None}
    trouble = None
    try:
        found = await ask(request, "enrollment", "GET", path)
    except Problem as problem:
        trouble = problem.detail
    except InternalCallFailed:
        trouble = _SILENT
    names = await request.config_dict[VIEWS].actors(
        [row["decided_by"] for row in found["items"] if row["decided_by"]]
    )
    for row in found["items"]:
        row["who"] = names.get(row["decided_by"])
    return page_or_part(
        request,
        "enrollment/lobby.html",
        "enrollment/lobby_list.html",
        "list",
        query=query,
        found=found,
        trouble=trouble,
        waiting=await waiting_now(request),
        links=Links(request.path, pairs),
        reasons=LOBBY_REASONS,
        states=LOBBY_STATES,
        shown=SHOWN,
        as_of=request.config_dict[VIEWS].now(),
    )


async def live_lobby(request: web.Request) -> web.StreamResponse:
    """GET /enrollment/lobby/live: a word whenever something may have changed."""

    async def tell(_changed: frozenset[UUID]) -> bytes:
        person(request).reach(READ)
        return event("changed", "")

    return await stream(request, None, tell, pause=_PAUSE_SECONDS)


async def show_guest(request: web.Request) -> web.StreamResponse:
    """GET /enrollment/lobby/{enrollment_id}: one that waits, and what deciding means."""
    return await _dialog(request, await _guest(request), DecisionForm())


async def release(request: web.Request) -> web.StreamResponse:
    """POST /enrollment/lobby/{enrollment_id}/release: let it in."""
    return await _decide(request, "release")


async def refuse(request: web.Request) -> web.StreamResponse:
    """POST /enrollment/lobby/{enrollment_id}/refuse: turn it away."""
    return await _decide(request, "refuse")


async def _decide(request: web.Request, word: Literal["release", "refuse"]) -> web.StreamResponse:
    guest, form = await _guest(request), parse_form(request, DecisionForm)
    if complaint := _complaint(guest, form, word):
        return await _dialog(request, guest, form, complaint=complaint, status=422)
    act = "Let in" if word == "release" else "Refuse"
    await confirmed(request, f"{act}: {name_of(guest)} ({guest['udid']})")
    path = f"{_API}/{guest['enrollment_id']}/{word}"
    try:
        await ask(request, "enrollment", "POST", path, {"reason": form.reason})
    except Problem as problem:
        return await _dialog(
            request, await _guest(request), form, complaint=problem.detail, status=problem.status
        )
    except InternalCallFailed:
        why = f"{_SILENT} Decide again: it is decided once, whatever arrived."
        return await _dialog(request, guest, form, complaint=why, status=503)
    return go_to(f"{HERE}/{guest['enrollment_id']}")


def name_of(guest: Values) -> str:
    """What it calls itself."""
    claimed = guest["claimed"]
    return str(claimed.get("name") or claimed.get("serial") or "a device without a name")


def typed_for(guest: Values) -> str | None:
    """What has to be typed to let it in; None where nobody is displaced."""
    device = guest["device"]
    if device is None or device["state"] not in {"pending", "enrolled"}:
        return None
    return str(device["serial"] or device["name"] or device["udid"])


def _complaint(guest: Values, form: DecisionForm, word: str) -> str | None:
    if not form.reason.strip():
        return "Say why: the reason is kept in the audit. Nothing was done."
    typed = typed_for(guest) if word == "release" else None
    if typed and form.serial.strip().casefold() != typed.strip().casefold():
        return f"What you typed is not {typed}. Nothing was done: its device would be displaced."
    return None


async def _guest(request: web.Request) -> Values:
    path = f"{_API}/{path_id(request, 'enrollment_id')}"
    try:
        return await ask(request, "enrollment", "GET", path)
    except InternalCallFailed:
        raise Problem(503, "enrollment_silent", f"{_SILENT} Try again soon.") from None


async def _dialog(
    request: web.Request,
    guest: Values,
    form: DecisionForm,
    *,
    complaint: str | None = None,
    status: int = 200,
) -> web.Response:
    names = await request.config_dict[VIEWS].actors(
        [guest["decided_by"]] if guest["decided_by"] else []
    )
    return page(
        request,
        "enrollment/guest.html",
        status=status,
        guest=guest,
        name=name_of(guest),
        typed=typed_for(guest),
        who=names.get(guest["decided_by"], "Nobody in time"),
        form=form,
        complaint=complaint,
        reasons=LOBBY_REASONS,
        states=LOBBY_STATES,
        may=person(request).holds(DECIDE),
        shown=SHOWN,
    )


def _route(method: str, path: str, handler: Handler, needs: str, summary: str) -> Route:
    return permitted_page(method, HERE + path, handler, needs, summary, scoped=True, max_body=16384)


_ONE: Final = "/{enrollment_id}"
ROUTES = (
    _route("GET", "", list_lobby, READ, "Who waits to be let in"),
    Route(
        "GET",
        f"{HERE}/live",
        live_lobby,
        page=True,
        permission=READ,
        scoped=True,
        summary="News of the lobby",
        stream=True,
    ),
    _route("GET", _ONE, show_guest, READ, "One that waits, beside the device it may be"),
    _route("POST", f"{_ONE}/release", release, DECIDE, "Let in what waits"),
    _route("POST", f"{_ONE}/refuse", refuse, DECIDE, "Refuse what waits"),
)
