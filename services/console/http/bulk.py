"""One command for many devices: those that were selected, or all of a filtered list."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Sequence
from http import HTTPStatus
from typing import Annotated, Any, Final
from uuid import UUID

from aiohttp import web
from pydantic import Field

from services.console.actions import BULK_BY_NAME, REQUEST, Action
from services.console.http.budgets import Budgets, budgets_for
from services.console.http.device_actions import (
    MAX_FORM,
    UNSURE,
    ActionForm,
    ask_for,
    read_form,
)
from services.console.http.device_models import DeviceFilters
from services.console.http.devices import READ
from services.console.http.keys import SELECTION
from services.console.http.pages import (
    go_to,
    page,
    parse_pairs,
    permitted_page,
    person,
    query_pairs,
)
from services.console.http.step_up import NEEDED, carry
from services.console.views.selection import MOST, Chosen, Counted
from services.console.views.sentences import devices_text
from shared.events.base import uuid7
from shared.runtime.internal import InternalCallFailed
from shared.runtime.problems import Problem
from shared.runtime.routes import Route

_MOST_NAMED: Final = 100
"""Their ids stand in a URL, which may have 8 KiB."""


class BulkQuery(DeviceFilters):
    """Which devices: named ones, or with `whole` all that the filters leave."""

    id: Annotated[list[UUID], Field(default_factory=list, max_length=_MOST_NAMED)]
    whole: bool = False


class BulkForm(ActionForm):
    """`count` was shown, and `serial` is the number that was typed."""

    count: int = -1
    devices: Annotated[str, Field(max_length=64)] = ""
    """Once a second factor was asked for: which devices it was asked for, as a digest."""


async def show_bulk(request: web.Request) -> web.StreamResponse:
    """GET /bulk/{name}: what it would do, to how many."""
    action, query = _action(request), bulk_query(request)
    chosen = await counted_by(request, query, action.one_by_one, *action.needs)
    return await _dialog(request, action, query, chosen, BulkForm(key=uuid7()))


async def do_bulk(request: web.Request) -> web.StreamResponse:
    """POST /bulk/{name}: ask command_queue for one command to all of them."""
    action, query, form = _action(request), bulk_query(request), read_form(request, BulkForm)
    chosen = await chosen_by(request, query, action.one_by_one, *action.needs)
    digest = _digest(chosen.device_ids)
    if complaint := _complaint(action, form, len(chosen.device_ids), digest):
        return await _dialog(request, action, query, chosen, form, complaint, 422)
    carry(request, "devices", digest)
    many = devices_text(len(chosen.device_ids))
    try:
        accepted = await ask_for(request, action, form, chosen.device_ids, many)
    except InternalCallFailed:
        return await _dialog(request, action, query, chosen, form, UNSURE, 503)
    except Problem as problem:
        if problem.code == NEEDED:
            raise
        why = f"{problem.detail} Nothing was asked of any device."
        again = form.model_copy(update={"key": uuid7()})
        return await _dialog(request, action, query, chosen, again, why, problem.status)
    return go_to(f"/commands/{accepted['command_id']}")


def _digest(device_ids: Sequence[UUID]) -> str:
    return hashlib.sha256(b"".join(sorted(one.bytes for one in device_ids))).hexdigest()


def _complaint(action: Action, form: BulkForm, count: int, digest: str) -> str | None:
    if not 0 < count <= MOST:
        return f"A command goes to at least one device and at most {MOST:,}. Nothing was done."
    if form.count != count or form.devices not in ("", digest):
        return (
            f"The list has changed: it is {devices_text(count)} now. Nothing was done: look again."
        )
    return None if action.harmless else _unconfirmed(action, form, count)


def _unconfirmed(action: Action, form: BulkForm, count: int) -> str | None:
    """What a person must have written before many devices are disturbed or worse."""
    if lacks := action.lacks(form.params(action)):
        return f"{lacks} Nothing was done."
    if form.serial.strip().replace(",", "") != str(count):
        return f"What you typed is not {count}. Nothing was done: look whether it is these devices."
    if not form.reason.strip():
        return "Say why: the reason is kept in the audit. Nothing was done."
    return None


def _action(request: web.Request) -> Action:
    found = BULK_BY_NAME.get(request.match_info["name"])
    if found is None:
        raise Problem(404, "action_unknown", "There is no such action.")
    return found


def bulk_query(request: web.Request) -> BulkQuery:
    """Which devices the URL means."""
    return parse_pairs(request, query_pairs(request), BulkQuery)


async def chosen_by(
    request: web.Request, query: BulkQuery, without: Collection[str], *needs: str
) -> Chosen:
    """All rights must be held on the same groups; refuses who holds them nowhere."""
    reach = person(request).caller.reach(READ, *needs)
    selection = request.config_dict[SELECTION]
    if query.id:
        return await selection.named(query.id, without, reach)
    if query.whole:
        return await selection.matching(query.filters(), without, reach)
    return Chosen([], 0)


async def counted_by(
    request: web.Request, query: BulkQuery, without: Collection[str], *needs: str
) -> Chosen | Counted:
    """The same in numbers, which a whole fleet has at once."""
    if not query.whole or query.id:
        return await chosen_by(request, query, without, *needs)
    reach = person(request).caller.reach(READ, *needs)
    return await request.config_dict[SELECTION].counted(query.filters(), without, reach)


async def _dialog(
    request: web.Request,
    action: Action,
    query: BulkQuery,
    chosen: Chosen | Counted,
    form: BulkForm,
    complaint: str | None = None,
    status: int = HTTPStatus.OK,
) -> web.Response:
    values: dict[str, Any] = {"action": action, "form": form, "complaint": complaint}
    count = chosen.count
    none = action.harmless or not count
    return page(
        request,
        "devices/bulk.html",
        status=status,
        **values,
        query=query,
        here=request.path_qs,
        count=count,
        most=MOST,
        many=devices_text(count),
        left_out=chosen.left_out,
        budgets=Budgets([]) if none else await budgets_for(request, action),
    )


def _route(method: str, handler: Any, summary: str) -> Route:
    where = "/bulk/{name}"
    return permitted_page(method, where, handler, REQUEST, summary, scoped=True, max_body=MAX_FORM)


ROUTES = (
    _route("GET", show_bulk, "What an action would do to many devices"),
    _route("POST", do_bulk, "Do something to many devices"),
)
