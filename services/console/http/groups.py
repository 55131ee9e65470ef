"""The screen Groups: static groups and their members, over inventory's API."""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal
from urllib.parse import urlencode
from uuid import UUID

from aiohttp import web
from pydantic import BaseModel, ConfigDict, Field

from services.console.http.bulk import bulk_query, chosen_by, counted_by
from services.console.http.keys import VIEWS
from services.console.http.pages import (
    ask_surely,
    go_to,
    page,
    paged,
    parse_form,
    parse_pairs,
    permitted_page,
    person,
    query_pairs,
)
from services.console.http.step_up import confirmed
from services.console.views.selection import Chosen, Counted
from shared.runtime.http import Page, path_id
from shared.runtime.problems import Problem
from shared.runtime.routes import Handler, Route

READ, WRITE, MEMBERS = "group.read", "group.write", "group.members"
_API: Final = "/api/v1/inventory/groups"
_HERE: Final = "/groups"
_MOST: Final = 10_000
"""inventory takes so many members at once."""
_MAX_BODY: Final = 65536
_Name = Annotated[str, Field(min_length=1, max_length=100)]
_Text = Annotated[str, Field(max_length=300)]


class _Form(BaseModel):
    model_config = ConfigDict(extra="forbid")


class GroupsQuery(Page):
    q: Annotated[str, Field(max_length=100)] | None = None


class GroupForm(_Form):
    name: _Name
    description: _Text = ""
    protected: bool = False
    reason: _Text = ""


class ReasonForm(_Form):
    reason: Annotated[str, Field(min_length=1, max_length=300)]


class LeaveForm(_Form):
    device: list[UUID] = []
    reason: _Text = ""


class PlaceForm(_Form):
    """`count` was shown: the list may have changed since."""

    group: UUID | None = None
    act: Literal["add", "remove"] = "add"
    count: int = -1
    reason: _Text = ""


async def list_groups(request: web.Request) -> web.StreamResponse:
    """GET /groups?q=."""
    query = parse_pairs(request, query_pairs(request), GroupsQuery)
    found = await _asked(request, "GET", paged(_API, query))
    return page(request, "groups/list.html", groups=found["items"], next=found["next"], query=query)


async def make_group(request: web.Request) -> web.StreamResponse:
    """POST /groups: an empty one."""
    form = parse_form(request, GroupForm)
    made = await _asked(request, "POST", _API, _body(form))
    return go_to(f"{_HERE}/{made['group_id']}")


async def show_group(request: web.Request) -> web.StreamResponse:
    """GET /groups/{group_id}: what it is, and its members."""
    query = parse_pairs(request, query_pairs(request), Page)
    api = _one(request)
    group = await _asked(request, "GET", api)
    members = await _asked(request, "GET", paged(f"{api}/members", query))
    names = await request.config_dict[VIEWS].actors(
        [group["created_by"], group["changed_by"], *(row["added_by"] for row in members["items"])]
    )
    return page(request, "groups/one.html", group=group, members=members, names=names, query=query)


async def change_group(request: web.Request) -> web.StreamResponse:
    """POST /groups/{group_id}: name, description, protection."""
    form, api = parse_form(request, GroupForm), _one(request)
    before = await _asked(request, "GET", api)
    if before["protected"] and not form.protected:
        await confirmed(request, f"Take the protection off {before['name']}")
    await _asked(request, "PATCH", api, _body(form))
    return go_to(_page_of(request))


async def delete_group(request: web.Request) -> web.StreamResponse:
    """POST /groups/{group_id}/delete: rights on it end with it."""
    form, api = parse_form(request, ReasonForm), _one(request)
    before = await _asked(request, "GET", api)
    await confirmed(request, f"Delete the group {before['name']}")
    await _asked(request, "DELETE", f"{api}?{urlencode({'reason': form.reason})}")
    return go_to(_HERE)


async def let_leave(request: web.Request) -> web.StreamResponse:
    """POST /groups/{group_id}/members/remove: those that were selected."""
    form = parse_form(request, LeaveForm)
    if form.device:
        await _move(request, _one(request), "remove", form.device, form.reason)
    return go_to(_page_of(request))


async def show_place(request: web.Request) -> web.StreamResponse:
    """GET /groups/place?…: which group devices of the list shall be in."""
    chosen = await counted_by(request, bulk_query(request), (), MEMBERS)
    return await _dialog(request, chosen, PlaceForm())


async def place(request: web.Request) -> web.StreamResponse:
    """POST /groups/place?…: put them there, or take them out."""
    form, chosen = parse_form(request, PlaceForm), await _chosen(request)
    if complaint := _complaint(form, len(chosen.device_ids)):
        return await _dialog(request, chosen, form, complaint, 422)
    api = f"{_API}/{form.group}"
    try:
        await _move(request, api, form.act, chosen.device_ids, form.reason)
    except Problem as problem:
        return await _dialog(request, chosen, form, problem.detail, problem.status)
    return go_to(f"{_HERE}/{form.group}")


def _complaint(form: PlaceForm, count: int) -> str | None:
    if form.group is None:
        return "Choose a group. Nothing was done."
    if form.count != count:
        return f"The list has changed: it is {count:,} devices now. Nothing was done: look again."
    if not 0 < count <= _MOST:
        return f"At least one device and at most {_MOST:,} at once. Nothing was done."
    return None


async def _chosen(request: web.Request) -> Chosen:
    return await chosen_by(request, bulk_query(request), (), MEMBERS)


async def _dialog(
    request: web.Request,
    chosen: Chosen | Counted,
    form: PlaceForm,
    complaint: str | None = None,
    status: int = 200,
) -> web.Response:
    reach = person(request).caller.reach(MEMBERS)
    choices = await request.config_dict[VIEWS].choices(reach)
    return page(
        request,
        "groups/place.html",
        status=status,
        form=form,
        complaint=complaint,
        groups=choices["group"],
        count=chosen.count,
        left_out=chosen.left_out,
        most=_MOST,
        here=request.path_qs,
    )


async def _move(
    request: web.Request, api: str, act: str, device_ids: list[UUID], reason: str
) -> None:
    path = f"{api}/members" if act == "add" else f"{api}/members/remove"
    body = {"device_ids": [str(one) for one in device_ids], "reason": reason or None}
    await _asked(request, "POST", path, body)


def _body(form: GroupForm) -> dict[str, Any]:
    values = form.model_dump()
    return values | {name: values[name] or None for name in ("description", "reason")}


def _one(request: web.Request) -> str:
    """Its place in inventory's API."""
    return f"{_API}/{path_id(request, 'group_id')}"


def _page_of(request: web.Request) -> str:
    return f"{_HERE}/{request.match_info['group_id']}"


async def _asked(
    request: web.Request, method: str, path: str, body: dict[str, Any] | None = None
) -> dict[str, Any]:
    return await ask_surely(request, "inventory", method, path, body)


def _route(method: str, path: str, handler: Handler, permission: str, summary: str) -> Route:
    where = f"{_HERE}{path}"
    return permitted_page(
        method, where, handler, permission, summary, scoped=True, max_body=_MAX_BODY
    )


ROUTES = (
    _route("GET", "", list_groups, READ, "Groups of devices"),
    _route("POST", "", make_group, WRITE, "Make a group"),
    _route("GET", "/place", show_place, MEMBERS, "Which group devices shall be in"),
    _route("POST", "/place", place, MEMBERS, "Put devices into a group, or take them out"),
    _route("GET", "/{group_id}", show_group, READ, "A group and its members"),
    _route("POST", "/{group_id}", change_group, WRITE, "Change a group"),
    _route("POST", "/{group_id}/delete", delete_group, WRITE, "Delete a group"),
    _route("POST", "/{group_id}/members/remove", let_leave, MEMBERS, "Take devices out"),
)
