"""Doing something to a device: at once, or by a page that says what it means and asks why."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from http import HTTPStatus
from typing import Annotated, Any, Final, TypeVar
from uuid import UUID

from aiohttp import web
from pydantic import BaseModel, ConfigDict, Field

from services.console.actions import BY_NAME, PROFILE_LETTERS, REQUEST, Action
from services.console.http.budgets import budgets_for
from services.console.http.device_offers import REFRESH, WAKE, why_not
from services.console.http.devices import READ
from services.console.http.kept import brought_back, put_away
from services.console.http.keys import VIEWS
from services.console.http.pages import (
    ask,
    go_to,
    page,
    parse_form,
    parse_pairs,
    permitted_page,
    person,
    query_pairs,
)
from services.console.http.step_up import NEEDED, confirmed
from services.console.http.words import SHOWN
from shared.events.base import uuid7
from shared.runtime.http import path_id
from shared.runtime.internal import InternalCallFailed
from shared.runtime.problems import Problem
from shared.runtime.routes import Handler, Route

Values = dict[str, Any]
MAX_FORM: Final = 4 * PROFILE_LETTERS
"""Bytes of a form: of a letter that HTML writes as three, and some more."""
_Text = Annotated[str, Field(max_length=1000)]
UNSURE: Final = (
    "The service that sends commands did not answer in time. Nothing you wrote was lost. Send it"
    " again: if it did arrive, nothing is done twice."
)


class ActionForm(BaseModel):
    """`key` makes sending it again safe; `serial` is typed, so that nobody takes another device."""

    model_config = ConfigDict(extra="forbid")

    key: UUID
    serial: _Text = ""
    reason: Annotated[str, Field(max_length=300)] = ""
    message: _Text | None = None
    phone_number: _Text | None = None
    footnote: _Text | None = None
    identifier: Annotated[str, Field(max_length=255)] | None = None
    profile: Annotated[str | None, Field(max_length=PROFILE_LETTERS, repr=False)] = None
    kept: Annotated[str | None, Field(max_length=2 * PROFILE_LETTERS, repr=False)] = None
    """The profile of an earlier page, encrypted."""

    def params(self, action: Action) -> dict[str, str]:
        given = ((one.name, getattr(self, one.name)) for one in action.inputs)
        return {name: _sent(name, value) for name, value in given if value}


F = TypeVar("F", bound=ActionForm)


class ActionQuery(BaseModel):
    """What a link to the dialog may have filled in."""

    model_config = ConfigDict(extra="forbid")

    identifier: Annotated[str, Field(max_length=255)] | None = None


async def show_action(request: web.Request) -> web.StreamResponse:
    """GET /devices/{device_id}/actions/{name}: what it would do, to which device."""
    action, device = await _meant(request)
    why = await why_not(request, device, action)
    named = parse_pairs(request, query_pairs(request), ActionQuery).identifier
    form = ActionForm(key=uuid7(), identifier=named)
    return await _dialog(request, action, device, form, impossible=why)


async def do_action(request: web.Request) -> web.StreamResponse:
    """POST /devices/{device_id}/actions/{name}: ask command_queue for it, in the person's name."""
    action, device = await _meant(request)
    form = read_form(request, ActionForm)
    if why := await why_not(request, device, action):
        return await _dialog(request, action, device, form, impossible=why, status=403)
    if complaint := _complaint(action, form, device):
        return await _dialog(request, action, device, form, complaint=complaint, status=422)
    whom = f"{name_of(device)} ({typed_for(device)})"
    try:
        accepted = await ask_for(request, action, form, [device["device_id"]], whom)
    except InternalCallFailed:
        return await _dialog(request, action, device, form, complaint=UNSURE, status=503)
    except Problem as problem:
        if problem.code == NEEDED:
            raise
        why = f"{problem.detail} Nothing was asked of the device."
        again = form.model_copy(update={"key": uuid7()})
        return await _dialog(request, action, device, again, complaint=why, status=problem.status)
    # The fragment: where the keyboard was when it went into the dialog.
    became = f"?tab=commands&asked={accepted['command_id']}#action-{action.name}"
    return go_to(f"/devices/{device['device_id']}{became}")


async def refresh(request: web.Request) -> web.StreamResponse:
    """POST /devices/{device_id}/refresh: have the device say again what it is."""
    device = await _device(request)
    path = f"/api/v1/inventory/devices/{device['device_id']}/refresh"
    await ask(request, "inventory", "POST", path, {})
    return go_to(f"/devices/{device['device_id']}?tab=inventory&done=refresh")


async def wake(request: web.Request) -> web.StreamResponse:
    """POST /devices/{device_id}/wake: have the device come now."""
    device = await _device(request)
    path = f"/api/v1/push/devices/{device['device_id']}/wake"
    await ask(request, "push_notifier", "POST", path)
    return go_to(f"/devices/{device['device_id']}?done=wake")


def read_form(request: web.Request, model: type[F]) -> F:
    """The form; its profile is said to no page again: there may be passwords in it."""
    form = parse_form(request, model)
    if form.profile:
        return form.model_copy(update={"kept": put_away(request, "profile", form.profile)})
    profile = brought_back(request, "profile", form.kept) if form.kept else None
    return form.model_copy(update={"profile": profile, "kept": form.kept if profile else None})


async def ask_for(
    request: web.Request, action: Action, form: ActionForm, device_ids: Sequence[UUID], whom: str
) -> Values:
    """Have the person confirm it and command_queue take it; raises the Problem of either."""
    if not action.harmless:
        await confirmed(request, f"{await _act_of(request, action, form)}: {whom}")
    body = {
        "kind": action.kind,
        "params": {**action.fixed, **form.params(action)},
        "device_ids": [str(one) for one in device_ids],
        "idempotency_key": str(form.key),
        "reason": form.reason or None,
    }
    return await ask(request, "command_queue", "POST", "/api/v1/commands", body)


async def _act_of(request: web.Request, action: Action, form: ActionForm) -> str:
    """What a person confirms; raises the Problem of what cannot be sent at all."""
    if not action.judged:
        return action.title
    body = {"kind": action.kind, "params": form.params(action)}
    judged = await ask(request, "command_queue", "POST", "/api/v1/commands/checks", body)
    about = judged["summary"]
    types = ", ".join(about.get("payload_types", ())) or "nothing that is known"
    return (
        f"{action.title} {about.get('profile', 'without an identifier')}"
        f" ({types}), which counts as {judged['command_class']}"
    )


def _sent(name: str, value: str) -> str:
    """XML comes as it is written, everything else as base64 already."""
    if name == "profile" and value.lstrip().startswith("<"):
        return base64.b64encode(value.encode()).decode()
    return "".join(value.split()) if name == "profile" else value


def name_of(device: Values) -> str:
    return str(device["name"] or device["serial"] or "a device without a name")


def typed_for(device: Values) -> str:
    """What has to be typed: the serial; a user enrollment tells none, but has a name or an id."""
    return str(device["serial"] or device["name"] or device["device_id"])


def _complaint(action: Action, form: ActionForm, device: Values) -> str | None:
    if lacks := action.lacks(form.params(action)):
        return f"{lacks} Nothing was done."
    wanted = typed_for(device)
    if form.serial.strip().casefold() != wanted.strip().casefold():
        return f"What you typed is not {wanted}. Nothing was done: look whether it is this device."
    if not form.reason.strip():
        return "Say why: the reason is kept in the audit. Nothing was done."
    return None


def _action(request: web.Request) -> Action:
    found = BY_NAME.get(request.match_info["name"])
    if found is None:
        raise Problem(404, "action_unknown", "There is no such action.")
    return found


async def _meant(request: web.Request) -> tuple[Action, Values]:
    """The action as it is on the device, and the device."""
    action, device = _action(request), await _device(request)
    return action.on(device["platform"]), device


async def _device(request: web.Request) -> Values:
    found: Values = await request.config_dict[VIEWS].device(
        path_id(request, "device_id"), person(request).reach(READ)
    )
    return found


async def _dialog(
    request: web.Request,
    action: Action,
    device: Values,
    form: ActionForm,
    *,
    impossible: str | None = None,
    complaint: str | None = None,
    status: int = HTTPStatus.OK,
) -> web.Response:
    return page(
        request,
        "device/action.html",
        status=status,
        action=action,
        device=device,
        form=form,
        typed=typed_for(device),
        impossible=impossible,
        complaint=complaint,
        budgets=None if impossible else await budgets_for(request, action),
        shown=SHOWN,
    )


def _route(method: str, path: str, handler: Handler, permission: str, summary: str) -> Route:
    where = f"/devices/{{device_id}}{path}"
    return permitted_page(
        method, where, handler, permission, summary, scoped=True, max_body=MAX_FORM
    )


ROUTES = (
    _route("GET", "/actions/{name}", show_action, REQUEST, "What an action would do to a device"),
    _route("POST", "/actions/{name}", do_action, REQUEST, "Do something to a device"),
    _route("POST", "/refresh", refresh, REFRESH, "Ask a device for its inventory now"),
    _route("POST", "/wake", wake, WAKE, "Push to a device now"),
)
