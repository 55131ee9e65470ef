"""The screen Devices: a list by any filter, in any order, live."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any
from uuid import UUID

from aiohttp import web
from pydantic import BaseModel, ConfigDict, Field

from services.console.http.device_links import COLUMNS, Column, columns_of, query_of
from services.console.http.device_offers import bulk_offers
from services.console.http.devices import READ, send_csv
from services.console.http.keys import VIEWS
from services.console.http.pages import asks_for, page_or_part, person, text_of
from services.console.http.saved_views import views_of
from services.console.http.streams import event, stream
from services.console.http.words import CHOICES, SHOWN
from services.console.views.live import NEWCOMERS
from shared.runtime.http import parse_query
from shared.runtime.routes import Route

_MOST_ROWS = 100
"""Whose news a page may ask for: their ids stand in a URL, which may have 8 KiB."""


class LiveQuery(BaseModel):
    """The devices that a page shows, and its columns; none: only who came since is of interest."""

    model_config = ConfigDict(extra="forbid")

    id: Annotated[list[UUID], Field(default_factory=list, max_length=_MOST_ROWS)]
    column: Annotated[
        list[Annotated[str, Field(max_length=20)]], Field(default_factory=list, max_length=30)
    ]


async def show_devices(request: web.Request) -> web.StreamResponse:
    """GET /devices: the list; only its table, when htmx asks for that."""
    (query, links), reach = query_of(request), person(request).reach(READ)
    views = request.config_dict[VIEWS]
    found = await views.devices(query.filters(), query.order(), query.limit, reach)
    part = asks_for(request, "list")
    choices = {} if part else await views.choices(reach)
    response = page_or_part(
        request,
        "devices/index.html",
        "devices/list.html",
        "list",
        query=query,
        found=found,
        links=links,
        columns=columns_of(query.column),
        every_column=COLUMNS,
        choices=CHOICES,
        named=choices,
        shown=SHOWN,
        bulk=bulk_offers(request),
        reach=reach,
        live=_live(found.items, columns_of(query.column)),
        saved=[] if part else await views_of(request, person(request).caller),
    )
    if part:
        response.headers["HX-Push-Url"] = links.here
    return response


def _live(rows: Sequence[Any], columns: Sequence[Column]) -> str:
    """Where news of these rows comes from, and of newcomers; of too many rows of newcomers only."""
    ids = [f"id={row['device_id']}" for row in rows] if len(rows) <= _MOST_ROWS else []
    return "/devices/live?" + "&".join([*ids, *(f"column={column.name}" for column in columns)])


async def live_devices(request: web.Request) -> web.StreamResponse:
    """GET /devices/live: rows as they change, each an event of its own, and a word of newcomers."""
    query, reach = parse_query(request, LiveQuery), person(request).reach(READ)
    columns = columns_of(query.column)

    told: dict[UUID, bytes] = {}

    async def tell(changed: frozenset[UUID]) -> bytes:
        """Rows that differ from what was told last."""
        wanted = [one for one in query.id if one in changed or not changed]
        news = [event("newcomers", "")] if not changed or NEWCOMERS in changed else []
        for row in await request.config_dict[VIEWS].some(wanted, reach) if wanted else []:
            device_id = row["device_id"]
            text = text_of(request, "devices/row.html", row=row, columns=columns, shown=SHOWN)
            one = event(f"device-{device_id}", text)
            if told.get(device_id) != one:
                told[device_id] = one
                news.append(one)
        return b"".join(news)

    return await stream(request, [*query.id, NEWCOMERS], tell)


async def export_devices(request: web.Request) -> web.StreamResponse:
    """GET /devices.csv: the whole filtered list."""
    query, _ = query_of(request)
    return await send_csv(request, query, person(request).reach(READ))


ROUTES = (
    Route(
        "GET",
        "/devices",
        show_devices,
        page=True,
        permission=READ,
        scoped=True,
        summary="The list of devices",
    ),
    Route(
        "GET",
        "/devices.csv",
        export_devices,
        page=True,
        permission=READ,
        scoped=True,
        summary="The whole filtered list as CSV",
        stream=True,
    ),
    Route(
        "GET",
        "/devices/live",
        live_devices,
        page=True,
        permission=READ,
        scoped=True,
        summary="News of the devices on a page",
        stream=True,
    ),
)
