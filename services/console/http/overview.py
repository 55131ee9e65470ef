"""The fleet in numbers, and what happened to it: /api/v1/console/overview, …/activity"""

from __future__ import annotations

from aiohttp import web

from services.console.http.device_models import Activity, ActivityQuery, FleetOverview
from services.console.http.devices import READ
from services.console.http.keys import VIEWS
from shared.runtime.http import caller, parse_query, render
from shared.runtime.paging import page_of
from shared.runtime.routes import Route


async def get_overview(request: web.Request) -> web.StreamResponse:
    """GET /api/v1/console/overview: counts, trends, what expires, what happened."""
    found = await request.config_dict[VIEWS].overview(caller(request).reach(READ))
    return render(FleetOverview.model_validate(found))


async def list_activity(request: web.Request) -> web.StreamResponse:
    """GET /api/v1/console/activity: what happened that everybody should know, newest first."""
    query, reach = parse_query(request, ActivityQuery), caller(request).reach(READ)
    rows = await request.config_dict[VIEWS].feed(query.after_id(), query.limit + 1, reach)
    shown, following = page_of(rows, query.limit, lambda row: [row["activity_id"]])
    return render(Activity.model_validate({"items": shown, "next": following}))


ROUTES = (
    Route(
        "GET",
        "/api/v1/console/overview",
        get_overview,
        permission=READ,
        scoped=True,
        summary="Show the fleet in numbers",
        answer=FleetOverview,
    ),
    Route(
        "GET",
        "/api/v1/console/activity",
        list_activity,
        permission=READ,
        scoped=True,
        summary="List what happened",
        query=ActivityQuery,
        answer=Activity,
    ),
)
