"""/api/v1/commands: asking, looking, taking back."""

from __future__ import annotations

from datetime import timedelta
from uuid import UUID

from aiohttp import web

from services.command_queue import catalogue
from services.command_queue.budgets import Budgets
from services.command_queue.canaries import Canaries
from services.command_queue.control import By, Control
from services.command_queue.errors import CommandRefused, KeyTaken, NotFound, OutOfReach
from services.command_queue.http import views
from services.command_queue.intake import Intake
from services.command_queue.reading import Reading
from services.command_queue.requests import Ask
from shared.runtime.http import (
    Page,
    Reach,
    caller,
    parse_body,
    parse_long_body,
    parse_query,
    render,
)
from shared.runtime.jobs import Wake
from shared.runtime.paging import page_of
from shared.runtime.problems import Problem
from shared.runtime.routes import Route

INTAKE = web.AppKey("command_queue.intake", Intake)
CONTROL = web.AppKey("command_queue.control", Control)
READING = web.AppKey("command_queue.reading", Reading)
SWEEP = web.AppKey("command_queue.sweep", Wake)
CANARIES = web.AppKey("command_queue.canaries", Canaries)
BUDGETS = web.AppKey("command_queue.budgets", Budgets)

REQUEST, READ, CANCEL = "command.request", "command.read", "command.cancel"
_LARGEST = 32 * 1024 * 1024
_LARGEST_QUESTION = 12 * 1024 * 1024
"""A profile of 8 MiB as base64."""


async def create(request: web.Request) -> web.StreamResponse:
    """POST /api/v1/commands: 202 with the command's id; 200 when the key repeats a request."""
    body = await parse_long_body(request, views.NewCommand, "device_ids")
    permission = f"command.{body.kind}"
    reach = caller(request).reach(REQUEST, permission)
    ask = Ask(
        kind=body.kind,
        params=body.params,
        device_ids=body.device_ids,
        idempotency_key=body.idempotency_key,
        actor=caller(request).actor,
        reason=body.reason,
        expires_in=timedelta(seconds=body.expires_in_seconds),
        priority=body.priority,
        bodies=body.bodies,
        reach=reach,
    )
    try:
        accepted = await request.config_dict[INTAKE].take(
            ask, _by(request, permission, body.reason), everyone=body.all, channels=body.channel_ids
        )
    except CommandRefused as refusal:
        raise _problem(refusal) from None
    return render(views.AcceptedView.of(accepted), 202 if accepted.created else 200)


async def check(request: web.Request) -> web.StreamResponse:
    """POST /api/v1/commands/checks: how a command would be judged; nothing is asked of a device."""
    question = await parse_body(request, views.Question)
    caller(request).reach(REQUEST, f"command.{question.kind}")
    try:
        order = catalogue.make(question.kind, question.params)
    except CommandRefused as refusal:
        raise _problem(refusal) from None
    fields = views.JudgedView.model_fields
    return render(views.JudgedView(**{name: getattr(order, name) for name in fields}))


async def newest(request: web.Request) -> web.StreamResponse:
    """GET /api/v1/commands: newest first."""
    query = parse_query(request, views.CommandsQuery)
    reading, reach = request.config_dict[READING], _reach(request, READ)
    try:
        rows = await reading.newest(query.filters(), reach, query.limit + 1)
    except NotFound as refusal:
        raise _problem(refusal) from None
    page, cursor = page_of(rows, query.limit, lambda row: [str(row["command_id"])])
    return render(views.CommandList(items=[views.CommandView(**row) for row in page], next=cursor))


async def show(request: web.Request) -> web.StreamResponse:
    """GET /api/v1/commands/{command_id}: the command and how far it is."""
    try:
        row = await request.config_dict[READING].get(_id(request, "command"), _reach(request, READ))
    except NotFound as refusal:
        raise _problem(refusal) from None
    canaries = request.config_dict[CANARIES]
    found = await canaries.of(row["command_id"])
    view = None
    if found is not None:
        view = views.CanaryView(
            devices=len(found.device_ids),
            answered=found.answered,
            rest=found.rest,
            begun_at=found.begun_at,
            continued_at=found.continued_at,
            continued_by=found.continued_by,
            why_not=canaries.why_not(found),
        )
    return render(views.CommandProgress(**row, canary=view))


async def targets(request: web.Request) -> web.StreamResponse:
    """GET /api/v1/commands/{command_id}/targets: what became of each target."""
    query = parse_query(request, Page)
    try:
        rows = await request.config_dict[READING].targets(
            _id(request, "command"), _reach(request, READ), query.after_id(), query.limit + 1
        )
    except NotFound as refusal:
        raise _problem(refusal) from None
    page, cursor = page_of(rows, query.limit, lambda row: [str(row["target_id"])])
    return render(views.TargetList(items=[views.TargetView(**row) for row in page], next=cursor))


async def cancel(request: web.Request) -> web.StreamResponse:
    """POST /api/v1/commands/{command_id}/cancel: hand it out no more, from this answer on."""
    body = await parse_body(request, views.Cancel)
    by = _by(request, CANCEL, body.reason)
    try:
        done = await request.config_dict[CONTROL].cancel(
            _id(request, "command"), _reach(request, CANCEL), by
        )
    except NotFound as refusal:
        raise _problem(refusal) from None
    request.config_dict[SWEEP].set()
    return render(views.Cancelled(cancelled=done))


async def of_device(request: web.Request) -> web.StreamResponse:
    """GET /api/v1/commands/devices/{device_id}: its queue, and what it has done."""
    query = parse_query(request, Page)
    try:
        found = await request.config_dict[READING].of_device(
            _id(request, "device"), _reach(request, READ), query.after_id(), query.limit + 1
        )
    except NotFound as refusal:
        raise _problem(refusal) from None
    page, cursor = page_of(found.history, query.limit, lambda row: [str(row["command_id"])])
    return render(
        views.DeviceCommands(
            last_seen_at=found.last_seen_at,
            queue=[views.QueuedView(**row) for row in found.queue],
            items=[views.DoneView(**row) for row in page],
            next=cursor,
        )
    )


async def possible(request: web.Request) -> web.StreamResponse:
    """GET /api/v1/commands/devices/{device_id}/possible: what the device could be asked for."""
    try:
        found = await request.config_dict[READING].possible(
            _id(request, "device"), _reach(request, READ)
        )
    except NotFound as refusal:
        raise _problem(refusal) from None
    return render(views.PossibleList(items=[views.PossibleView(**row) for row in found]))


async def budgets(request: web.Request) -> web.StreamResponse:
    """GET /api/v1/commands/budgets: what the caller and everybody together may still harm."""
    found = await request.config_dict[BUDGETS].of(caller(request).actor)
    return render(views.BudgetList(items=[views.BudgetView.of(one) for one in found]))


def _reach(request: web.Request, permission: str) -> Reach:
    return caller(request).reach(permission)


def _by(request: web.Request, permission: str, reason: str | None) -> By:
    who = caller(request)
    return By(who.actor, permission, reason, who.source, who.via)


def _id(request: web.Request, what: str) -> UUID:
    try:
        return UUID(request.match_info[f"{what}_id"])
    except ValueError:
        raise Problem(404, f"{what}_unknown", f"A {what} id is a UUID.") from None


def _problem(refusal: CommandRefused) -> Problem:
    status = 404 if isinstance(refusal, NotFound) else 422
    if isinstance(refusal, KeyTaken):
        status = 409
    if isinstance(refusal, OutOfReach):
        return Problem(403, refusal.code, refusal.detail, devices=refusal.devices)
    return Problem(status, refusal.code, refusal.detail)


ROUTES = [
    Route(
        "GET",
        "/api/v1/commands/budgets",
        budgets,
        permission="command.read",
        scoped=True,
        summary="Show the budgets of the caller and of the installation",
        answer=views.BudgetList,
    ),
    Route(
        "POST",
        "/api/v1/commands",
        create,
        permission=REQUEST,
        scoped=True,
        body=views.NewCommand,
        answer=views.AcceptedView,
        status=202,
        max_body=_LARGEST,
        summary="Ask for a command on named devices",
    ),
    Route(
        "POST",
        "/api/v1/commands/checks",
        check,
        permission=REQUEST,
        scoped=True,
        body=views.Question,
        answer=views.JudgedView,
        max_body=_LARGEST_QUESTION,
        summary="Say how dangerous a command would be, without asking for it",
    ),
    Route(
        "GET",
        "/api/v1/commands",
        newest,
        permission=READ,
        scoped=True,
        query=views.CommandsQuery,
        answer=views.CommandList,
        summary="List commands, newest first",
    ),
    Route(
        "GET",
        "/api/v1/commands/devices/{device_id}",
        of_device,
        permission=READ,
        scoped=True,
        query=Page,
        answer=views.DeviceCommands,
        summary="Show a device's queue and history",
    ),
    Route(
        "GET",
        "/api/v1/commands/devices/{device_id}/possible",
        possible,
        permission=READ,
        scoped=True,
        answer=views.PossibleList,
        summary="Say which commands a device could take, and why not the others",
    ),
    Route(
        "GET",
        "/api/v1/commands/{command_id}",
        show,
        permission=READ,
        scoped=True,
        answer=views.CommandProgress,
        summary="Show a command and how far it is",
    ),
    Route(
        "GET",
        "/api/v1/commands/{command_id}/targets",
        targets,
        permission=READ,
        scoped=True,
        query=Page,
        answer=views.TargetList,
        summary="List what became of each target",
    ),
    Route(
        "POST",
        "/api/v1/commands/{command_id}/cancel",
        cancel,
        permission=CANCEL,
        scoped=True,
        body=views.Cancel,
        answer=views.Cancelled,
        summary="Take a command back",
    ),
]
