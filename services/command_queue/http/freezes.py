"""/api/v1/commands/freeze and cancel-all: stopping at once, and letting go again by two keys."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from aiohttp import web
from pydantic import AwareDatetime, BaseModel, ConfigDict

from services.command_queue.control import By
from services.command_queue.errors import CommandRefused
from services.command_queue.http.api import CANCEL, CONTROL, SWEEP
from services.command_queue.http.approvals import Approve, GivenView, person, problem
from services.command_queue.http.views import Text
from services.command_queue.lifting import NEEDS, Lifting
from shared.events.commands import CommandClass
from shared.runtime.http import caller, parse_body, path_id, render
from shared.runtime.routes import Route

LIFTING = web.AppKey("command_queue.lifting", Lifting)
FREEZE, UNFREEZE = "guard.freeze", "guard.unfreeze"
_PATH = "/api/v1/commands/freeze"


class NewFreeze(BaseModel):
    model_config = ConfigDict(extra="forbid")

    command_class: CommandClass | None = None
    """None: every class."""
    before: AwareDatetime | None = None
    """Only what was asked for before this instant; None: also what will be asked for."""
    reason: Text


class FreezeView(BaseModel):
    freeze_id: UUID
    command_class: CommandClass | None
    before: datetime | None
    actor: str
    reason: str
    created_at: datetime


class FreezeList(BaseModel):
    items: list[FreezeView]
    next: None = None


class LiftView(BaseModel):
    """What would be lifted. `digest` (hex) is what the key signs, as the challenge in `options`."""

    freeze: FreezeView
    digest: str
    approval_expires_at: datetime
    needs: int
    given: list[GivenView]
    why_not: str | None
    options: dict[str, Any] | None


class Lifted(BaseModel):
    lifted: bool
    given: int
    needs: int


class CancelAll(BaseModel):
    model_config = ConfigDict(extra="forbid")

    command_class: CommandClass | None = None
    """None: every class."""
    reason: Text


class CalledOff(BaseModel):
    cancel_id: UUID


async def freeze(request: web.Request) -> web.StreamResponse:
    """POST /api/v1/commands/freeze: hand out nothing of a class, from this answer on."""
    body = await parse_body(request, NewFreeze)
    by = _by(request, FREEZE, body.reason)
    begun = await request.config_dict[CONTROL].freeze(body.command_class, body.before, by)
    return render(FreezeView(**begun), 201)


async def freezes(request: web.Request) -> web.StreamResponse:
    """GET /api/v1/commands/freeze: the freezes in force."""
    rows = await request.config_dict[CONTROL].standing()
    return render(FreezeList(items=[FreezeView(**row) for row in rows]))


async def offer(request: web.Request) -> web.StreamResponse:
    """GET /api/v1/commands/freeze/{freeze_id}/lift: what would be lifted, and what a key signs."""
    try:
        found = await request.config_dict[LIFTING].offer(
            path_id(request, "freeze_id"), caller(request).actor
        )
    except CommandRefused as refusal:
        raise problem(refusal) from None
    return render(
        LiftView(
            freeze=FreezeView(**found.freeze),
            digest=found.digest.hex(),
            approval_expires_at=found.expires_at,
            needs=NEEDS,
            given=[GivenView.model_validate(one, from_attributes=True) for one in found.given],
            why_not=found.why_not,
            options=found.options,
        )
    )


async def lift(request: web.Request) -> web.StreamResponse:
    """POST /api/v1/commands/freeze/{freeze_id}/lift: a key's word for it; the second ends it."""
    body, by = await parse_body(request, Approve), person(request, UNFREEZE, None)
    try:
        lifted, given = await request.config_dict[LIFTING].approve(
            path_id(request, "freeze_id"), by, body.approval_expires_at, body.credential
        )
    except CommandRefused as refusal:
        raise problem(refusal) from None
    return render(Lifted(lifted=lifted, given=given, needs=NEEDS))


async def cancel_all(request: web.Request) -> web.StreamResponse:
    """POST /api/v1/commands/cancel-all: what was asked for until now is handed out no more."""
    body = await parse_body(request, CancelAll)
    by = _by(request, CANCEL, body.reason)
    cancel_id = await request.config_dict[CONTROL].cancel_all(body.command_class, by)
    request.config_dict[SWEEP].set()
    return render(CalledOff(cancel_id=cancel_id), 202)


def _by(request: web.Request, permission: str, reason: str) -> By:
    who = caller(request)
    return By(who.actor, permission, reason, who.source, who.via)


ROUTES = [
    Route(
        "GET",
        _PATH,
        freezes,
        permission="command.read",
        answer=FreezeList,
        summary="List the freezes in force",
    ),
    Route(
        "POST",
        _PATH,
        freeze,
        permission=FREEZE,
        body=NewFreeze,
        answer=FreezeView,
        status=201,
        summary="Hand out no command of a class",
    ),
    Route(
        "GET",
        f"{_PATH}/{{freeze_id}}/lift",
        offer,
        permission=UNFREEZE,
        answer=LiftView,
        summary="Show what lifting a freeze takes, and the challenge for a key",
    ),
    Route(
        "POST",
        f"{_PATH}/{{freeze_id}}/lift",
        lift,
        permission=UNFREEZE,
        body=Approve,
        answer=Lifted,
        summary="Lift a freeze, as one of two people with a key",
    ),
    Route(
        "POST",
        "/api/v1/commands/cancel-all",
        cancel_all,
        permission=CANCEL,
        body=CancelAll,
        answer=CalledOff,
        status=202,
        summary="Cancel every command that was asked for until now",
    ),
]
