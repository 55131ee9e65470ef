"""/internal/v1/commands: what others ask before they answer a device, or harm one."""

from __future__ import annotations

from typing import Annotated, Literal
from uuid import UUID

from aiohttp import web
from pydantic import BaseModel, Field

from services.command_queue.charging import Charging
from services.command_queue.fencing import Fencing
from shared.events.commands import CommandClass
from shared.runtime.http import parse_body, render
from shared.runtime.routes import Route

FENCING = web.AppKey("command_queue.fencing", Fencing)
CHARGING = web.AppKey("command_queue.charging", Charging)


class FenceBody(BaseModel):
    enrollment_id: UUID
    device_id: UUID
    generation: int = Field(ge=1, lt=1 << 31)
    state: Literal["reauthenticated", "ended", "quarantined", "revoked"]


class FenceAnswer(BaseModel):
    """From this answer on nothing that was fenced is handed out."""


async def fence(request: web.Request) -> web.StreamResponse:
    """POST /internal/v1/commands/fence: nothing older is handed out once this is answered."""
    body = await parse_body(request, FenceBody)
    await request.config_dict[FENCING].raise_up(
        body.enrollment_id, body.device_id, body.generation, body.state
    )
    return render(FenceAnswer())


class ChargeBody(BaseModel):
    """An act that harms devices and is no command."""

    charge_id: UUID
    what: Annotated[str, Field(min_length=1, max_length=200)]
    actor: Annotated[str, Field(min_length=1, max_length=300)]
    command_class: CommandClass
    device_ids: Annotated[list[UUID], Field(max_length=10_000)]
    """None: it is about no device by name, and counts as one."""


class ChargeAnswer(BaseModel):
    refused: str | None = None
    """Why it must not be done; None: it is charged, and may be."""


async def charge(request: web.Request) -> web.StreamResponse:
    """POST /internal/v1/commands/charge: whether the budgets have room for it, and charge it."""
    body = await parse_body(request, ChargeBody)
    refused = await request.config_dict[CHARGING].charge(
        body.charge_id, body.what, body.actor, body.command_class, body.device_ids
    )
    return render(ChargeAnswer(refused=refused))


ROUTES = [
    Route(
        "POST",
        "/internal/v1/commands/fence",
        fence,
        listener="internal",
        callers=("enrollment",),
        body=FenceBody,
        answer=FenceAnswer,
        summary="Hand out nothing of an enrollment's earlier generations",
    ),
    Route(
        "POST",
        "/internal/v1/commands/charge",
        charge,
        listener="internal",
        callers=("enrollment", "push_notifier"),
        body=ChargeBody,
        answer=ChargeAnswer,
        summary="Charge the guard's budgets for what is no command",
    ),
]
