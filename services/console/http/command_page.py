"""The page of a command: what was asked, of whom, how far it is; and taking the rest back."""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Annotated, Any, Final
from urllib.parse import urlencode
from uuid import UUID

import orjson
from aiohttp import web
from pydantic import BaseModel, ConfigDict, Field

from services.console.actions import BULK, REQUEST
from services.console.http.commands import READ, SILENT, name_actors
from services.console.http.keys import VIEWS
from services.console.http.pages import ask, go_to, page_or_part, paged, parse_form, person
from services.console.http.step_up import confirmed
from services.console.http.words import SHOWN, TARGET
from shared.runtime.http import Page, parse_query, path_id
from shared.runtime.internal import InternalCallFailed
from shared.runtime.problems import Problem
from shared.runtime.routes import Route

CANCEL: Final = "command.cancel"
INVENTORY: Final = "inventory.read"
_DID: Final = ("acknowledged", "verified")
_DID_NOT: Final = ("failed", "unconfirmed", "expired", "cancelled")
_AGAIN: Final = ("failed", "unconfirmed", "expired")
_MOST_AGAIN: Final = 100
_OPEN: Final = ("active", "held")
Values = dict[str, Any]


class CancelForm(BaseModel):
    model_config = ConfigDict(extra="forbid")

    reason: Annotated[str, Field(min_length=1, max_length=300)]


async def show_command(request: web.Request) -> web.StreamResponse:
    """GET /commands/{command_id}: the command; only its progress and targets for htmx."""
    query, path = parse_query(request, Page), _path(request)
    try:
        command = await ask(request, "command_queue", "GET", path)
        targets = await ask(request, "command_queue", "GET", paged(f"{path}/targets", query))
    except InternalCallFailed:
        raise Problem(503, "commands_silent", f"{SILENT} Try again soon.") from None
    now = request.config_dict[VIEWS].now()
    await name_actors(request, [command])
    canary = command.get("canary")
    if canary and canary["continued_by"]:
        by = canary["continued_by"]
        names = await request.config_dict[VIEWS].actors([by])
        canary["who"] = names.get(by, by)
    await _name_devices(request, targets["items"])
    return page_or_part(
        request,
        "commands/one.html",
        "commands/progress.html",
        "progress",
        command=command,
        targets=targets,
        query=query,
        progress=progress_of(command, now),
        sent=orjson.dumps(command["summary"], option=orjson.OPT_INDENT_2).decode(),
        shown=SHOWN,
        again=_again(command, targets["items"]),
        held=[one for action in BULK for one in action.needs if person(request).holds(one)],
        may_cancel=person(request).holds(CANCEL),
        canary=canary,
        lacks=_lacking(request, command["kind"]),
        as_of=now,
    )


def _lacking(request: web.Request, kind: str) -> str | None:
    """What is missing to let a wide change go on; command_queue judges for which devices."""
    needed = (REQUEST, f"command.{kind}")
    return next((one for one in needed if not person(request).holds(one)), None)


def _again(command: Values, rows: list[Values]) -> Values | None:
    """Asking those of a page again that did not do it, by the dialog for many devices."""
    action = next((one for one in BULK if one.kind == command["kind"]), None)
    failed = [row["device_id"] for row in rows if row["state"] in _AGAIN][:_MOST_AGAIN]
    if action is None or not failed:
        return None
    ids = urlencode({"id": failed}, doseq=True)
    return {"count": len(failed), "path": f"/bulk/{action.name}?{ids}", "needs": action.needs}


def progress_of(command: Mapping[str, Any], now: datetime) -> Values:
    """Targets in few numbers, and when it may be over if devices answer as they have so far."""
    counts: Mapping[str, int] = command["progress"]
    did = sum(counts.get(one, 0) for one in _DID)
    did_not = sum(counts.get(one, 0) for one in _DID_NOT)
    total = max(command["target_count"], sum(counts.values()))
    left = total - did - did_not
    begun = datetime.fromisoformat(command["created_at"])
    answered = did + counts.get("failed", 0)
    eta = None
    if command["state"] == "active" and left and answered:
        eta = _in_words((now - begun) / answered * left)
    known = [(one, counts[one]) for one in TARGET if counts.get(one)]
    return {
        "total": total,
        "ended": did + did_not,
        "left": left,
        "states": known,
        "eta": eta,
        "open": command["state"] in _OPEN and left > 0,
    }


def _in_words(span: timedelta) -> str:
    seconds = max(span.total_seconds(), 0)
    for word, size in (("day", 86400), ("hour", 3600), ("minute", 60)):
        if seconds > size:
            count = math.ceil(seconds / size)
            return f"about {count} {word}{'s' if count > 1 else ''}"
    return "less than a minute"


async def _name_devices(request: web.Request, rows: list[Values]) -> None:
    """Targets by name, for those who may see devices."""
    who = person(request)
    found: dict[str, Values] = {}
    if rows and who.holds(INVENTORY):
        ids = [UUID(row["device_id"]) for row in rows]
        devices = await request.config_dict[VIEWS].some(ids, who.reach(INVENTORY))
        found = {str(one["device_id"]): one for one in devices}
    for row in rows:
        device = found.get(row["device_id"])
        row["name"] = device and (device["name"] or device["serial"] or "Without a name")
        answer = row["answer"]
        row["said"] = answer and orjson.dumps(answer, option=orjson.OPT_INDENT_2).decode()


async def go_on(request: web.Request) -> web.StreamResponse:
    """POST /commands/{command_id}/continue: let those behind the first devices have it."""
    path = _path(request)
    await confirmed(request, "Let all other devices have this change")
    await ask(request, "command_queue", "POST", f"{path}/continue", {})
    return go_to(f"/commands/{path_id(request, 'command_id')}")


async def cancel(request: web.Request) -> web.StreamResponse:
    """POST /commands/{command_id}/cancel: hand it out no more."""
    form, path = parse_form(request, CancelForm), _path(request)
    await ask(request, "command_queue", "POST", f"{path}/cancel", {"reason": form.reason})
    return go_to(f"/commands/{path_id(request, 'command_id')}")


def _path(request: web.Request) -> str:
    return f"/api/v1/commands/{path_id(request, 'command_id')}"


ROUTES = (
    Route(
        "GET",
        "/commands/{command_id}",
        show_command,
        page=True,
        permission=READ,
        scoped=True,
        summary="A command and how far it is",
    ),
    Route(
        "POST",
        "/commands/{command_id}/continue",
        go_on,
        page=True,
        permission=REQUEST,
        scoped=True,
        summary="Let a wide change go on",
        max_body=16384,
    ),
    Route(
        "POST",
        "/commands/{command_id}/cancel",
        cancel,
        page=True,
        permission=CANCEL,
        scoped=True,
        summary="Take back what has not been handed out",
        max_body=16384,
    ),
)
