"""POST /internal/v1/commands/fence: what enrollment asks before it answers a device."""

from __future__ import annotations

from typing import Literal
from uuid import UUID

from aiohttp import web
from pydantic import BaseModel, Field

from services.command_queue.fencing import Fencing
from shared.runtime.http import parse_body, render
from shared.runtime.routes import Route

FENCING = web.AppKey("command_queue.fencing", Fencing)


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
    )
]
