"""Doing something to a device: at once, or by a page that says what it means and asks why."""

from __future__ import annotations

from http import HTTPStatus
from typing import Annotated, Any, Final
from uuid import UUID

from aiohttp import web
from pydantic import BaseModel, ConfigDict, Field

from services.console.actions import BY_NAME, REQUEST, Action
from services.console.http.budgets import budgets_for
from services.console.http.device_offers import REFRESH, WAKE, why_not
from services.console.http.devices import READ
from services.console.http.keys import VIEWS
from services.console.http.pages import ask, go_to, page, parse_form, permitted_page, person
from services.console.http.step_up import confirmed
from services.console.http.words import SHOWN
from shared.events.base import uuid7
from shared.runtime.http import path_id
from shared.runtime.internal import InternalCallFailed
from shared.runtime.problems import Problem
from shared.runtime.routes import Handler, Route

Values = dict[str, Any]
_MOST: Final = 65536
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

    def params(self, action: Action) -> dict[str, str]:
        given = ((one.name, getattr(self, one.name)) for one in action.inputs)
        return {name: value for name, value in given if value}


async def show_action(request: web.Request) -> web.StreamResponse:
    """GET /devices/{device_id}/actions/{name}: what it would do, to which device."""
    action, device = await _meant(request)
    why = await why_not(request, device, action)
    form = ActionForm(key=uuid7())
    return await _dialog(request, action, device, form, impossible=why)


async def do_action(request: web.Request) -> web.StreamResponse:
    """POST /devices/{device_id}/actions/{name}: ask command_queue for it, in the person's name."""
    action, device = await _meant(request)
    form = parse_form(request, ActionForm)
    if why := await why_not(request, device, action):
        return await _dialog(request, action, device, form, impossible=why, status=403)
    if complaint := _complaint(action, form, device):
        return await _dialog(request, action, device, form, complaint=complaint, status=422)
    await confirmed(request, f"{action.title}: {name_of(device)} ({typed_for(device)})")
    body = {
        "kind": action.kind,
        "params": form.params(action),
        "device_ids": [str(device["device_id"])],
        "idempotency_key": str(form.key),
        "reason": form.reason,
    }
    try:
        accepted = await ask(request, "command_queue", "POST", "/api/v1/commands", body)
    except InternalCallFailed:
        return await _dialog(request, action, device, form, complaint=UNSURE, status=503)
    except Problem as problem:
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
    return permitted_page(method, where, handler, permission, summary, scoped=True, max_body=_MOST)


ROUTES = (
    _route("GET", "/actions/{name}", show_action, REQUEST, "What an action would do to a device"),
    _route("POST", "/actions/{name}", do_action, REQUEST, "Do something to a device"),
    _route("POST", "/refresh", refresh, REFRESH, "Ask a device for its inventory now"),
    _route("POST", "/wake", wake, WAKE, "Push to a device now"),
)
