"""/api/v1/commands/powers: who gets power over the guard, and vetoing it. Never for API tokens."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from aiohttp import web
from pydantic import BaseModel, ConfigDict

from services.command_queue.errors import CommandRefused
from services.command_queue.http.approvals import person, problem
from services.command_queue.http.views import Text
from services.command_queue.powers import Powers
from shared.runtime.http import parse_body, path_id, render
from shared.runtime.routes import Route

POWERS = web.AppKey("command_queue.powers", Powers)
FREEZE = "guard.freeze"
_PATH = "/api/v1/commands/powers"


class PowerView(BaseModel):
    model_config = ConfigDict(from_attributes=True)

    account_id: UUID
    name: str
    what: list[str]
    """In words, the oldest first."""
    counts_from: datetime
    """When the youngest of it counts."""


class PowerList(BaseModel):
    items: list[PowerView]
    next: None = None


class Veto(BaseModel):
    model_config = ConfigDict(extra="forbid")

    reason: Text


async def young(request: web.Request) -> web.StreamResponse:
    """GET /api/v1/commands/powers: power that does not count yet."""
    found = await request.config_dict[POWERS].young()
    return render(PowerList(items=[PowerView.model_validate(one) for one in found]))


async def veto(request: web.Request) -> web.StreamResponse:
    """POST /api/v1/commands/powers/{account_id}/veto: what an account got lately is nothing."""
    body = await parse_body(request, Veto)
    by = person(request, FREEZE, body.reason)
    try:
        power = await request.config_dict[POWERS].veto(path_id(request, "account_id"), by)
    except CommandRefused as refusal:
        raise problem(refusal) from None
    return render(PowerView.model_validate(power))


ROUTES = [
    Route(
        "GET",
        _PATH,
        young,
        permission="command.read",
        answer=PowerList,
        summary="List who gets power over the guard that does not count yet",
    ),
    Route(
        "POST",
        f"{_PATH}/{{account_id}}/veto",
        veto,
        permission=FREEZE,
        body=Veto,
        answer=PowerView,
        summary="Veto what an account got lately",
    ),
]
