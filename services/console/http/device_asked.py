"""What became of a command that somebody has just asked for: intent first, amended live."""

from __future__ import annotations

from typing import Any, Final
from uuid import UUID

from aiohttp import web

from services.console.http.keys import VIEWS
from services.console.http.pages import ask, page, person
from services.console.http.words import SHOWN
from services.console.views.sentences import command_text
from shared.runtime.http import path_id
from shared.runtime.internal import InternalCallFailed
from shared.runtime.problems import Problem
from shared.runtime.routes import Route

COMMANDS: Final = "command.read"
Values = dict[str, Any]
_OVER: Final = {"acknowledged", "verified", "failed", "expired", "cancelled", "unconfirmed"}
_SOON: Final = "unexpanded"


async def became_of(request: web.Request, device_id: UUID, command_id: UUID | None) -> Values:
    """What the part device/asked.html shows; nothing, if nothing was asked for."""
    if command_id is None:
        return {}
    values: Values = {"command_id": command_id, "over": False, "soon": False, "trouble": None}
    if not person(request).holds(COMMANDS):
        return values | {"trouble": f"What becomes of it needs the permission {COMMANDS}."}
    try:
        return values | await _state(request, device_id, command_id)
    except (Problem, InternalCallFailed) as error:
        detail = error.detail if isinstance(error, Problem) else "Nobody says now how far it is."
        return values | {"trouble": detail}


async def _state(request: web.Request, device_id: UUID, command_id: UUID) -> Values:
    path = f"/api/v1/commands/{command_id}"
    command = await ask(request, "command_queue", "GET", path)
    found = await ask(request, "command_queue", "GET", f"{path}/targets")
    own = (one for one in found["items"] if one["device_id"] == str(device_id))
    target = next(own, None) or {"state": _SOON, "reason": None, "errors": None}
    state = "held" if command["state"] == "held" else target["state"]
    return {
        "what": command_text(command["kind"]),
        "has_pin": "pin" in command.get("summary", {}),
        "reason": command["reason"],
        "hold_reason": command["hold_reason"],
        "state": state,
        "why": [
            *([str(target["reason"]).replace("_", " ")] if target["reason"] else []),
            *(str(one.get("message") or one.get("code")) for one in target["errors"] or []),
        ],
        "over": state in _OVER,
        "soon": state == _SOON,
    }


async def show_asked(request: web.Request) -> web.StreamResponse:
    """GET /devices/{device_id}/asked/{command_id}: that part of the device's page."""
    device_id, command_id = path_id(request, "device_id"), path_id(request, "command_id")
    views = request.config_dict[VIEWS]
    device = await views.device(device_id, person(request).reach("inventory.read"))
    asked = await became_of(request, device_id, command_id)
    return page(request, "device/asked.html", device=device, asked=asked, shown=SHOWN)


ROUTES = (
    Route(
        "GET",
        "/devices/{device_id}/asked/{command_id}",
        show_asked,
        page=True,
        permission=COMMANDS,
        scoped=True,
        summary="What became of a command that was just asked for",
    ),
)
