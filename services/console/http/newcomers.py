"""The line above a list of devices that says how many came since, and whom its filters let in."""

from __future__ import annotations

from typing import Final
from uuid import UUID

from aiohttp import web

from services.console.http.device_links import Links, ListQuery
from services.console.http.devices import READ
from services.console.http.keys import VIEWS
from services.console.http.pages import page, parse_pairs, permitted_page, person, query_pairs
from services.console.views.filters import Sort

PATH: Final = "/devices/newcomers"
MOST: Final = 99
"""More are not counted, and then no longer asked for."""


class NewcomersQuery(ListQuery):
    """The URL of a list, and what was known when it was shown."""

    since: UUID


async def show_newcomers(request: web.Request) -> web.StreamResponse:
    """GET /devices/newcomers: the line, which a word of the list's stream has asked for."""
    pairs, reach = query_pairs(request), person(request).reach(READ)
    query = parse_pairs(request, pairs, NewcomersQuery)
    views = request.config_dict[VIEWS]
    count = await views.newcomers(query.filters(), query.since, MOST + 1, reach)
    links = Links("/devices", [pair for pair in pairs if pair[0] != "since"])
    return page(
        request,
        "devices/newcomers.html",
        count=count,
        most=MOST,
        asked_at=links.since(PATH, query.since),
        shown_at=links.having(sort=Sort.ENROLLED, descending="true"),
    )


ROUTES = (permitted_page("GET", PATH, show_newcomers, READ, "Who came since a list", scoped=True),)
