"""The screen Approvals: what is held and why, deciding with a key of one's own; freeze, cancel all.

The console carries questions and answers: command_queue makes what a key signs, and verifies it.
"""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

import orjson
from aiohttp import web
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from services.console.http.budgets import budgets_of
from services.console.http.commands import READ, SILENT, name_actors
from services.console.http.guard import guard_for
from services.console.http.keys import VIEWS
from services.console.http.pages import ask, go_to, page, paged, parse_form, permitted_page, person
from services.console.http.words import SHOWN
from shared.runtime.http import Page, parse_body, parse_query, path_id, render
from shared.runtime.internal import InternalCallFailed
from shared.runtime.problems import Problem
from shared.runtime.routes import Handler, Route

APPROVE, FREEZE, UNFREEZE, CANCEL = (
    "command.approve",
    "guard.freeze",
    "guard.unfreeze",
    "command.cancel",
)
_COMMANDS: Final = "/api/v1/commands"
_Reason = Annotated[str, Field(min_length=1, max_length=300)]
_Class = Literal["", "harmless", "disruptive", "destructive"]
Values = dict[str, Any]


class ReasonForm(BaseModel):
    model_config = ConfigDict(extra="forbid")

    reason: _Reason


class StopForm(ReasonForm):
    command_class: _Class = ""


class Word(BaseModel):
    """What a browser says for its key."""

    model_config = ConfigDict(extra="forbid")

    approval_expires_at: AwareDatetime
    credential: Values


async def show(request: web.Request) -> web.StreamResponse:
    """GET /approvals: what waits for people, and the freezes in force."""
    query, who = parse_query(request, Page), person(request)
    held: Values = {"items": [], "next": None}
    trouble = None
    try:
        held = await ask(request, "command_queue", "GET", paged(f"{_COMMANDS}/approvals", query))
    except InternalCallFailed:
        trouble = SILENT
    await name_actors(request, held["items"])
    return page(
        request,
        "approvals/index.html",
        held=held,
        guard=await guard_for(request),
        trouble=trouble,
        may={one: _on_all(request, one) for one in (FREEZE, UNFREEZE, CANCEL)},
        may_approve=who.holds(APPROVE),
        query=query,
        shown=SHOWN,
        as_of=request.config_dict[VIEWS].now(),
    )


def _on_all(request: web.Request, permission: str) -> bool:
    who = person(request)
    return who.holds(permission) and who.reach(permission) is None


async def _name(request: web.Request, rows: list[Values]) -> None:
    names = await request.config_dict[VIEWS].actors([row["actor"] for row in rows])
    for row in rows:
        row["who"] = names.get(row["actor"], row["actor"])


async def _offered(request: web.Request, path: str) -> Values:
    try:
        return await ask(request, "command_queue", "GET", path)
    except InternalCallFailed:
        raise Problem(503, "commands_silent", f"{SILENT} Try again soon.") from None


async def show_command(request: web.Request) -> web.StreamResponse:
    """GET /approvals/{command_id}: what would run, for whoever may let it."""
    command_id = path_id(request, "command_id")
    offer = await _offered(request, f"{_COMMANDS}/{command_id}/approval")
    await name_actors(request, [offer["command"]])
    return page(
        request,
        "approvals/one.html",
        offer=offer,
        command=offer["command"],
        sent=orjson.dumps(offer["command"]["summary"], option=orjson.OPT_INDENT_2).decode(),
        word={"approval_expires_at": offer["approval_expires_at"]},
        budgets=await budgets_of(request, offer["command"]["command_class"], ["installation"]),
        shown=SHOWN,
    )


async def show_freeze(request: web.Request) -> web.StreamResponse:
    """GET /approvals/freezes/{freeze_id}: what lifting it takes."""
    freeze_id = path_id(request, "freeze_id")
    offer = await _offered(request, f"{_COMMANDS}/freeze/{freeze_id}/lift")
    await _name(request, [offer["freeze"]])
    word = {"approval_expires_at": offer["approval_expires_at"]}
    return page(request, "approvals/freeze.html", offer=offer, freeze=offer["freeze"], word=word)


async def approve(request: web.Request) -> web.StreamResponse:
    """POST /approvals/{command_id}/key: pass a key's word on."""
    return await _pass_on(request, f"{_COMMANDS}/{path_id(request, 'command_id')}/approval")


async def lift(request: web.Request) -> web.StreamResponse:
    """POST /approvals/freezes/{freeze_id}/key: pass a key's word on."""
    return await _pass_on(request, f"{_COMMANDS}/freeze/{path_id(request, 'freeze_id')}/lift")


async def _pass_on(request: web.Request, path: str) -> web.StreamResponse:
    word = await parse_body(request, Word)
    return render(await ask(request, "command_queue", "POST", path, word.model_dump(mode="json")))


async def reject(request: web.Request) -> web.StreamResponse:
    """POST /approvals/{command_id}/reject: it does not run."""
    form, command_id = parse_form(request, ReasonForm), path_id(request, "command_id")
    path = f"{_COMMANDS}/{command_id}/reject"
    await ask(request, "command_queue", "POST", path, {"reason": form.reason})
    return go_to("/approvals")


async def veto(request: web.Request) -> web.StreamResponse:
    """POST /approvals/powers/{account_id}/veto: what the account got lately never counts."""
    form, account_id = parse_form(request, ReasonForm), path_id(request, "account_id")
    path = f"{_COMMANDS}/powers/{account_id}/veto"
    await ask(request, "command_queue", "POST", path, {"reason": form.reason})
    return go_to("/approvals")


async def freeze(request: web.Request) -> web.StreamResponse:
    """POST /approvals/freeze: hand out nothing of a class, from the answer on."""
    return await _stop(request, "freeze")


async def cancel_all(request: web.Request) -> web.StreamResponse:
    """POST /approvals/cancel-all: all that was asked for until now."""
    return await _stop(request, "cancel-all")


async def _stop(request: web.Request, how: str) -> web.StreamResponse:
    form = parse_form(request, StopForm)
    body = {"command_class": form.command_class or None, "reason": form.reason}
    await ask(request, "command_queue", "POST", f"{_COMMANDS}/{how}", body)
    return go_to("/approvals")


def _get(path: str, handler: Handler, needs: str, summary: str, *, scoped: bool = False) -> Route:
    return Route("GET", path, handler, page=True, permission=needs, summary=summary, scoped=scoped)


def _post(path: str, handler: Handler, needs: str, summary: str, *, scoped: bool = False) -> Route:
    return permitted_page("POST", path, handler, needs, summary, scoped=scoped, max_body=16384)


_ONE, _FREEZE = "/approvals/{command_id}", "/approvals/freezes/{freeze_id}"
ROUTES = (
    _get("/approvals", show, READ, "What waits for people", scoped=True),
    _post("/approvals/freeze", freeze, FREEZE, "Freeze commands"),
    _post("/approvals/cancel-all", cancel_all, CANCEL, "Cancel all commands"),
    _post("/approvals/powers/{account_id}/veto", veto, FREEZE, "Veto new power over the guard"),
    _get(_FREEZE, show_freeze, UNFREEZE, "What lifting a freeze takes"),
    _post(f"{_FREEZE}/key", lift, UNFREEZE, "Lift a freeze with a key"),
    _get(_ONE, show_command, APPROVE, "What would run", scoped=True),
    _post(f"{_ONE}/key", approve, APPROVE, "Approve with a key", scoped=True),
    _post(f"{_ONE}/reject", reject, APPROVE, "Refuse a command", scoped=True),
)
