"""Static groups and their members: /api/v1/inventory/groups"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated
from uuid import UUID

from aiohttp import web
from pydantic import BaseModel, ConfigDict, Field

from services.inventory.groups import MEMBERS, READ, WRITE, Change, Groups, NewGroup, Text, unknown
from services.inventory.membership import MOST_AT_ONCE, Membership
from shared.runtime.http import (
    Page,
    caller,
    parse_body,
    parse_long_body,
    parse_query,
    render,
)
from shared.runtime.problems import Problem
from shared.runtime.routes import Route

GROUPS = web.AppKey("inventory.groups", Groups)
MEMBERSHIP = web.AppKey("inventory.membership", Membership)
_LARGEST = 1024 * 1024


class GroupView(BaseModel):
    model_config = ConfigDict(from_attributes=True)

    group_id: UUID
    name: str
    description: str | None
    protected: bool
    members: int
    created_at: datetime
    created_by: str
    changed_at: datetime
    changed_by: str


class GroupList(BaseModel):
    items: list[GroupView]
    next: str | None


class GroupQuery(Page):
    q: Annotated[str, Field(min_length=1, max_length=100, pattern=r"^[^\x00]+$")] | None = None
    """Part of the name."""


class Created(BaseModel):
    group_id: UUID


class MemberView(BaseModel):
    device_id: UUID
    name: str | None
    serial: str | None
    platform: str | None
    added_at: datetime
    added_by: str


class MemberList(BaseModel):
    items: list[MemberView]
    next: str | None


class Members(BaseModel):
    """Devices by id; at most 10,000 at once."""

    model_config = ConfigDict(extra="forbid")

    device_ids: list[UUID]
    reason: Text | None = None


class Moved(BaseModel):
    moved: int
    """Devices that came or left; the others were where they should be."""
    members: int


class DeleteQuery(BaseModel):
    model_config = ConfigDict(extra="forbid")

    reason: Text | None = None


def _group_id(request: web.Request) -> UUID:
    try:
        return UUID(request.match_info["group_id"])
    except ValueError:
        raise unknown() from None


async def list_groups(request: web.Request) -> web.StreamResponse:
    """GET /api/v1/inventory/groups?q=: groups by id."""
    query = parse_query(request, GroupQuery)
    rows, following = await request.config_dict[GROUPS].page(
        caller(request), query.after_id(), query.q, query.limit
    )
    items = [GroupView.model_validate(row) for row in rows]
    return render(GroupList(items=items, next=following))


async def create_group(request: web.Request) -> web.StreamResponse:
    """POST /api/v1/inventory/groups: a new group, empty."""
    body = await parse_body(request, NewGroup)
    made = await request.config_dict[GROUPS].create(body, caller(request))
    return render(Created(group_id=made), 201)


async def get_group(request: web.Request) -> web.StreamResponse:
    """GET /api/v1/inventory/groups/{group_id}."""
    group = await request.config_dict[GROUPS].one(caller(request), _group_id(request))
    return render(GroupView.model_validate(group))


async def change_group(request: web.Request) -> web.StreamResponse:
    """PATCH /api/v1/inventory/groups/{group_id}: name, description, protection."""
    group_id, body = _group_id(request), await parse_body(request, Change)
    group = await request.config_dict[GROUPS].change(group_id, body, caller(request))
    return render(GroupView.model_validate(group))


async def delete_group(request: web.Request) -> web.StreamResponse:
    """DELETE /api/v1/inventory/groups/{group_id}?reason=: its members leave in the background."""
    query = parse_query(request, DeleteQuery)
    await request.config_dict[GROUPS].delete(_group_id(request), caller(request), query.reason)
    return web.Response(status=204)


async def list_members(request: web.Request) -> web.StreamResponse:
    """GET /api/v1/inventory/groups/{group_id}/members: by device id."""
    query = parse_query(request, Page)
    rows, following = await request.config_dict[GROUPS].members(
        caller(request), _group_id(request), query.after_id(), query.limit
    )
    return render(MemberList.model_validate({"items": rows, "next": following}))


async def add_members(request: web.Request) -> web.StreamResponse:
    """POST /api/v1/inventory/groups/{group_id}/members: all of these devices, or none."""
    group_id, body = _group_id(request), await _members(request)
    moved, members = await request.config_dict[MEMBERSHIP].add(
        group_id, body.device_ids, caller(request), body.reason
    )
    return render(Moved(moved=moved, members=members))


async def remove_members(request: web.Request) -> web.StreamResponse:
    """POST /api/v1/inventory/groups/{group_id}/members/remove: those of these that are in it."""
    group_id, body = _group_id(request), await _members(request)
    moved, members = await request.config_dict[MEMBERSHIP].remove(
        group_id, body.device_ids, caller(request), body.reason
    )
    return render(Moved(moved=moved, members=members))


async def _members(request: web.Request) -> Members:
    body = await parse_long_body(request, Members, "device_ids")
    if not 1 <= len(body.device_ids) <= MOST_AT_ONCE:
        detail = f"Name between one and {MOST_AT_ONCE} devices at once."
        raise Problem(422, "devices_too_many_or_none", detail)
    return body


_BASE = "/api/v1/inventory/groups"
_ONE = f"{_BASE}/{{group_id}}"
ROUTES = (
    Route(
        "GET",
        _BASE,
        list_groups,
        permission=READ,
        scoped=True,
        summary="List groups",
        query=GroupQuery,
        answer=GroupList,
    ),
    Route(
        "POST",
        _BASE,
        create_group,
        permission=WRITE,
        summary="Create a group",
        body=NewGroup,
        answer=Created,
        status=201,
    ),
    Route(
        "GET",
        _ONE,
        get_group,
        permission=READ,
        scoped=True,
        summary="Show a group",
        answer=GroupView,
    ),
    Route(
        "PATCH",
        _ONE,
        change_group,
        permission=WRITE,
        scoped=True,
        summary="Change a group's name, description or protection",
        body=Change,
        answer=GroupView,
    ),
    Route(
        "DELETE",
        _ONE,
        delete_group,
        permission=WRITE,
        summary="Delete a group",
        query=DeleteQuery,
        status=204,
    ),
    Route(
        "GET",
        f"{_ONE}/members",
        list_members,
        permission=READ,
        scoped=True,
        summary="List the members of a group",
        query=Page,
        answer=MemberList,
    ),
    Route(
        "POST",
        f"{_ONE}/members",
        add_members,
        permission=MEMBERS,
        scoped=True,
        summary="Put devices into a group",
        body=Members,
        answer=Moved,
        max_body=_LARGEST,
    ),
    Route(
        "POST",
        f"{_ONE}/members/remove",
        remove_members,
        permission=MEMBERS,
        scoped=True,
        summary="Take devices out of a group",
        body=Members,
        answer=Moved,
        max_body=_LARGEST,
    ),
)
