"""What enrollment asks inside a check-in: /internal/v1/configuration/…"""

from __future__ import annotations

from typing import Any
from uuid import UUID

from aiohttp import web
from pydantic import BaseModel, Field

from services.configuration.declarations import Declarations
from shared.runtime.http import parse_body, render
from shared.runtime.routes import Route

DECLARATIONS = web.AppKey("configuration.declarations", Declarations)
_LARGEST_STATUS = 2 * 1024 * 1024


class DeclarationsAsked(BaseModel):
    device_id: UUID
    channel_id: UUID | None = None
    endpoint: str = Field(max_length=300)
    data: str | None = None
    """Base64 of the device's JSON; with `status` only."""


class DeclarationsAnswer(BaseModel):
    status: int
    """200, or 404: the device gets the same."""
    body: dict[str, Any] | None
    """JSON for the device; null: an empty body."""


async def declarations(request: web.Request) -> web.StreamResponse:
    """POST /internal/v1/configuration/declarations: one endpoint, from one snapshot."""
    asked = await parse_body(request, DeclarationsAsked)
    answer = await request.config_dict[DECLARATIONS].answer(asked.endpoint)
    return render(DeclarationsAnswer(status=answer.status, body=answer.body))


ROUTES = (
    Route(
        "POST",
        "/internal/v1/configuration/declarations",
        declarations,
        listener="internal",
        callers=("enrollment",),
        summary="Answer a device that asks for its declarations",
        body=DeclarationsAsked,
        answer=DeclarationsAnswer,
        max_body=_LARGEST_STATUS,
    ),
)
