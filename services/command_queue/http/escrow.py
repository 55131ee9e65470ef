"""/api/v1/commands/devices/{device_id}/secrets: what is kept of a device, and showing it."""

from __future__ import annotations

from datetime import datetime
from typing import Literal
from uuid import UUID

from aiohttp import web
from pydantic import BaseModel, ConfigDict, Field

from services.command_queue.control import By
from services.command_queue.errors import NotFound, RevealRefused
from services.command_queue.escrow import Escrow
from services.command_queue.http.views import Text
from shared.runtime.http import caller, parse_body, path_id, render
from shared.runtime.problems import Problem
from shared.runtime.routes import Route
from shared.sealed import SealError

ESCROW = web.AppKey("command_queue.escrow", Escrow)
READ, REVEAL = "command.read", "secret.reveal"
Kind = Literal["lock_pin", "erase_pin"]


class SecretView(BaseModel):
    """That something is kept, and how far the command came that set it; never what."""

    secret_id: UUID
    kind: Kind
    command_id: UUID
    actor: str
    reason: str | None
    state: str | None
    """Of the device's target; None: forgotten."""
    created_at: datetime
    revealed_at: datetime | None
    """When somebody was shown it last."""


class SecretList(BaseModel):
    items: list[SecretView]


class Reveal(BaseModel):
    model_config = ConfigDict(extra="forbid")

    reason: Text


class SecretValue(BaseModel):
    kind: Kind
    value: str = Field(repr=False)


async def of_device(request: web.Request) -> web.StreamResponse:
    """GET …/secrets: kinds, times and commands."""
    device_id = path_id(request, "device_id")
    try:
        rows = await request.config_dict[ESCROW].of_device(device_id, caller(request).reach(READ))
    except NotFound as refusal:
        raise Problem(404, refusal.code, refusal.detail) from None
    return render(SecretList(items=[SecretView(**row) for row in rows]))


async def reveal(request: web.Request) -> web.StreamResponse:
    """POST …/secrets/{secret_id}/reveal: the secret, once it is on record who was shown it."""
    body, who = await parse_body(request, Reveal), caller(request)
    device_id, secret_id = path_id(request, "device_id"), path_id(request, "secret_id")
    by = By(who.actor, REVEAL, body.reason, who.source, who.via)
    try:
        shown = await request.config_dict[ESCROW].reveal(
            device_id, secret_id, who.reach(REVEAL), by
        )
    except NotFound as refusal:
        raise Problem(404, refusal.code, refusal.detail) from None
    except RevealRefused as refusal:
        raise Problem(429, refusal.code, refusal.detail) from None
    except SealError:
        why = "The key that it was encrypted with is not here."
        raise Problem(500, "secret_unreadable", why) from None
    return render(SecretValue(kind=shown.kind, value=shown.value))


ROUTES = [
    Route(
        "GET",
        "/api/v1/commands/devices/{device_id}/secrets",
        of_device,
        permission=READ,
        scoped=True,
        answer=SecretList,
        summary="List what is kept of a device, without the secrets",
    ),
    Route(
        "POST",
        "/api/v1/commands/devices/{device_id}/secrets/{secret_id}/reveal",
        reveal,
        permission=REVEAL,
        scoped=True,
        body=Reveal,
        answer=SecretValue,
        summary="Show a secret that is kept of a device",
    ),
]
