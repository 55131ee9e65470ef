"""Saved views of the screen Devices: naming the list that is shown, as pages and for programs."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Final
from urllib.parse import parse_qsl, urlencode
from uuid import UUID

from aiohttp import web
from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from services.console.http.device_links import ListQuery
from services.console.http.keys import SAVED_VIEWS
from services.console.http.pages import go_to, parse_form, parse_pairs, permitted_page, person
from services.console.people import account_of
from services.console.saved_views import READ, SavedView
from shared.runtime.http import Caller, caller, parse_body, path_id, render
from shared.runtime.routes import Route

_API: Final = "/api/v1/console/views"
_NOT_KEPT: Final = {"cursor", "back", "limit"}
"""A view begins at its beginning."""


class NewView(BaseModel):
    """`query`: as it stands in the URL of the list."""

    model_config = ConfigDict(extra="forbid")

    name: Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=100)]
    query: Annotated[str, Field(max_length=4000)] = ""
    shared: bool = False


class SavedViewView(BaseModel):
    view_id: UUID
    name: str
    query: str
    shared: bool
    """With everybody who may see devices."""
    own: bool
    by: str
    made_at: datetime


class SavedViewList(BaseModel):
    items: list[SavedViewView]


class MadeView(BaseModel):
    view_id: UUID


def as_view(view: SavedView, actor: str) -> SavedViewView:
    return SavedViewView(
        view_id=view.view_id,
        name=view.name,
        query=view.query,
        shared=view.shared,
        own=view.account_id == account_of(actor),
        by=view.by,
        made_at=view.made_at,
    )


async def views_of(request: web.Request, who: Caller) -> list[SavedViewView]:
    """What somebody may choose from."""
    found = await request.config_dict[SAVED_VIEWS].seen_by(who)
    return [as_view(one, who.actor) for one in found]


def _checked(request: web.Request, query: str) -> str:
    """The query of a list that there is; raises Problem for any other."""
    pairs = [pair for pair in parse_qsl(query) if pair[0] not in _NOT_KEPT]
    parse_pairs(request, pairs, ListQuery).filters()
    return urlencode(pairs)


async def save(request: web.Request) -> web.StreamResponse:
    """POST /views: give the list that is shown a name."""
    form, who = parse_form(request, NewView), person(request).caller
    query = _checked(request, form.query)
    await request.config_dict[SAVED_VIEWS].save(who, form.name, query, shared=form.shared)
    return go_to(f"/devices?{query}" if query else "/devices")


async def drop(request: web.Request) -> web.StreamResponse:
    """POST /views/{view_id}/delete."""
    who = person(request).caller
    await request.config_dict[SAVED_VIEWS].drop(who, path_id(request, "view_id"))
    return go_to("/devices")


async def list_views(request: web.Request) -> web.StreamResponse:
    """GET /api/v1/console/views: one's own, and what others share."""
    return render(SavedViewList(items=await views_of(request, caller(request))))


async def save_by_api(request: web.Request) -> web.StreamResponse:
    """POST /api/v1/console/views: one's own view of that name is replaced."""
    body = await parse_body(request, NewView)
    query = _checked(request, body.query)
    views = request.config_dict[SAVED_VIEWS]
    view_id = await views.save(caller(request), body.name, query, shared=body.shared)
    return render(MadeView(view_id=view_id))


async def drop_by_api(request: web.Request) -> web.StreamResponse:
    """DELETE /api/v1/console/views/{view_id}."""
    await request.config_dict[SAVED_VIEWS].drop(caller(request), path_id(request, "view_id"))
    return web.Response(status=204)


ROUTES = (
    permitted_page(
        "POST",
        "/views",
        save,
        READ,
        "Give a list of devices a name",
        scoped=True,
        max_body=16384,
    ),
    permitted_page(
        "POST",
        "/views/{view_id}/delete",
        drop,
        READ,
        "Forget a saved view",
        scoped=True,
        max_body=4096,
    ),
    Route(
        "GET",
        _API,
        list_views,
        permission=READ,
        scoped=True,
        summary="List saved views of the devices",
        answer=SavedViewList,
    ),
    Route(
        "POST",
        _API,
        save_by_api,
        permission=READ,
        scoped=True,
        body=NewView,
        answer=MadeView,
        summary="Give a list of devices a name",
        max_body=16384,
    ),
    Route(
        "DELETE",
        f"{_API}/{{view_id}}",
        drop_by_api,
        permission=READ,
        scoped=True,
        status=204,
        summary="Forget a saved view",
    ),
)
