"""/api/v1/commands/…/approval: what is held, and deciding about it. Never for API tokens."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from aiohttp import web
from pydantic import AwareDatetime, BaseModel, ConfigDict

from services.command_queue.approvals import Approvals
from services.command_queue.approvers import APPROVE
from services.command_queue.control import By
from services.command_queue.errors import ApprovalRefused, CommandRefused, NotYet
from services.command_queue.http.api import CANARIES, READING, REQUEST
from services.command_queue.http.views import Continued, Text
from shared.events.commands import CommandClass
from shared.runtime.http import Page, caller, parse_body, parse_query, path_id, render
from shared.runtime.jobs import Wake
from shared.runtime.paging import page_of
from shared.runtime.problems import Problem
from shared.runtime.routes import Route

APPROVALS = web.AppKey("command_queue.approvals", Approvals)
RELEASE = web.AppKey("command_queue.release", Wake)
EXPAND = web.AppKey("command_queue.expand", Wake)
_PATH = "/api/v1/commands/{command_id}"


class HeldView(BaseModel):
    command_id: UUID
    kind: str
    command_class: CommandClass
    summary: dict[str, Any]
    actor: str
    reason: str | None
    hold_reason: str | None
    target_count: int
    created_at: datetime
    expires_at: datetime
    needs: int | None
    """Distinct approvers; null: nobody can let it run."""
    not_before: datetime


class WaitingView(HeldView):
    given: int
    """Approvals that have not run out; whether each still counts is decided when it begins."""


class WaitingList(BaseModel):
    items: list[WaitingView]
    next: str | None


class GivenView(BaseModel):
    account_id: UUID
    name: str | None
    approved_at: datetime
    expires_at: datetime


class OfferView(BaseModel):
    """What would be approved. `digest` (hex) is what the key signs, as the challenge in `options`
    for navigator.credentials.get; without options `why_not` says why the caller may not.
    """

    command: HeldView
    digest: str
    approval_expires_at: datetime
    given: list[GivenView]
    why_not: str | None
    options: dict[str, Any] | None


class Approve(BaseModel):
    model_config = ConfigDict(extra="forbid")

    approval_expires_at: AwareDatetime
    """As it was offered."""
    credential: dict[str, Any]
    """PublicKeyCredential.toJSON()."""


class ApprovedView(BaseModel):
    released: bool
    given: int
    needs: int
    not_before: datetime


class Reject(BaseModel):
    model_config = ConfigDict(extra="forbid")

    reason: Text


class Rejected(BaseModel):
    rejected: bool


async def waiting(request: web.Request) -> web.StreamResponse:
    """GET /api/v1/commands/approvals: commands that are held, newest first."""
    query = parse_query(request, Page)
    reach = caller(request).reach("command.read")
    rows = await request.config_dict[APPROVALS].waiting(reach, query.after_id(), query.limit + 1)
    page, cursor = page_of(rows, query.limit, lambda row: [str(row["command_id"])])
    return render(WaitingList(items=[WaitingView(**row) for row in page], next=cursor))


async def offer(request: web.Request) -> web.StreamResponse:
    """GET /api/v1/commands/{command_id}/approval: what would be approved, in words and digest."""
    reach, actor = caller(request).reach(APPROVE), caller(request).actor
    try:
        found = await request.config_dict[APPROVALS].offer(
            path_id(request, "command_id"), reach, actor
        )
    except CommandRefused as refusal:
        raise problem(refusal) from None
    return render(
        OfferView(
            command=HeldView.model_validate(found.held, from_attributes=True),
            digest=found.digest.hex(),
            approval_expires_at=found.expires_at,
            given=[GivenView.model_validate(one, from_attributes=True) for one in found.given],
            why_not=found.why_not,
            options=found.options,
        )
    )


async def approve(request: web.Request) -> web.StreamResponse:
    """POST /api/v1/commands/{command_id}/approval: a key's word for it."""
    body, by = await parse_body(request, Approve), person(request, APPROVE, None)
    try:
        given = await request.config_dict[APPROVALS].approve(
            path_id(request, "command_id"),
            caller(request).reach(APPROVE),
            by,
            body.approval_expires_at,
            body.credential,
        )
    except CommandRefused as refusal:
        raise problem(refusal) from None
    if given.released:
        request.config_dict[RELEASE].set()
    return render(ApprovedView.model_validate(given, from_attributes=True))


async def reject(request: web.Request) -> web.StreamResponse:
    """POST /api/v1/commands/{command_id}/reject: it does not run, for this reason."""
    body = await parse_body(request, Reject)
    by = person(request, APPROVE, body.reason)
    try:
        done = await request.config_dict[APPROVALS].reject(
            path_id(request, "command_id"), caller(request).reach(APPROVE), by
        )
    except CommandRefused as refusal:
        raise problem(refusal) from None
    return render(Rejected(rejected=done))


async def go_on(request: web.Request) -> web.StreamResponse:
    """POST /api/v1/commands/{command_id}/continue: let those behind the canary have it."""
    command_id, who = path_id(request, "command_id"), caller(request)
    try:
        row = await request.config_dict[READING].get(command_id, who.reach(REQUEST))
        permission = f"command.{row['kind']}"
        rest = await request.config_dict[CANARIES].go_on(
            command_id, who.reach(REQUEST, permission), person(request, permission, None)
        )
    except CommandRefused as refusal:
        raise problem(refusal) from None
    request.config_dict[EXPAND].set()
    return render(Continued(targets=rest))


def person(request: web.Request, permission: str, reason: str | None) -> By:
    """Who decides; raises Problem for whoever is not a person in a session."""
    who = caller(request)
    # The console leaves the right out of access tokens made from API tokens; here it is no use
    # to one that has it all the same.
    if not (who.via or "").startswith("session:"):
        raise Problem(403, "people_only", "Only a person who is signed in decides, never a token.")
    return By(who.actor, permission, reason, who.source, who.via)


def problem(refusal: CommandRefused) -> Problem:
    status = 403 if isinstance(refusal, ApprovalRefused) else 404
    if isinstance(refusal, NotYet):
        status = 409
    return Problem(status, refusal.code, refusal.detail)


ROUTES = [
    Route(
        "GET",
        "/api/v1/commands/approvals",
        waiting,
        permission="command.read",
        scoped=True,
        query=Page,
        answer=WaitingList,
        summary="List commands that wait for approval",
    ),
    Route(
        "GET",
        f"{_PATH}/approval",
        offer,
        permission=APPROVE,
        scoped=True,
        answer=OfferView,
        summary="Show what would be approved, and the challenge for a key",
    ),
    Route(
        "POST",
        f"{_PATH}/approval",
        approve,
        permission=APPROVE,
        scoped=True,
        body=Approve,
        answer=ApprovedView,
        summary="Approve a held command with a key",
    ),
    Route(
        "POST",
        f"{_PATH}/continue",
        go_on,
        permission=REQUEST,
        scoped=True,
        answer=Continued,
        summary="Let a wide change go on behind its canary",
    ),
    Route(
        "POST",
        f"{_PATH}/reject",
        reject,
        permission=APPROVE,
        scoped=True,
        body=Reject,
        answer=Rejected,
        summary="Refuse a held command",
    ),
]
