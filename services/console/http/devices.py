"""Lists of devices, from the read model: /api/v1/console/devices"""

from __future__ import annotations

from uuid import UUID

from aiohttp import web

from services.console.http.device_models import (
    Activity,
    ActivityQuery,
    DeviceDetail,
    DeviceFilters,
    DeviceList,
    DeviceQuery,
    DeviceVerdicts,
)
from services.console.http.downloads import download
from services.console.http.keys import VIEWS
from shared.runtime.http import caller, parse_query, path_id, render
from shared.runtime.paging import page_of
from shared.runtime.routes import Route

READ = "inventory.read"
JUDGED = "compliance.read"


async def list_devices(request: web.Request) -> web.StreamResponse:
    """GET /api/v1/console/devices: a page of the list, by any filter, in any order."""
    query, reach = parse_query(request, DeviceQuery), caller(request).reach(READ)
    views = request.config_dict[VIEWS]
    page = await views.devices(query.filters(), query.order(), query.limit, reach)
    return render(DeviceList.model_validate(page))


async def export_devices(request: web.Request) -> web.StreamResponse:
    """GET /api/v1/console/devices.csv: the whole filtered list, as it is read."""
    query, reach = parse_query(request, DeviceFilters), caller(request).reach(READ)
    return await send_csv(request, query, reach)


async def send_csv(
    request: web.Request, query: DeviceFilters, reach: list[UUID] | None
) -> web.StreamResponse:
    """The whole list, as it is read."""
    chunks = request.config_dict[VIEWS].export(query.filters(), query.order(), reach)
    content_type = "text/csv; charset=utf-8; header=present"
    return await download(
        request, (chunk.encode() async for chunk in chunks), content_type, "devices.csv"
    )


async def get_device(request: web.Request) -> web.StreamResponse:
    """GET /api/v1/console/devices/{device_id}: what the list shows of one."""
    device_id, reach = path_id(request, "device_id"), caller(request).reach(READ)
    row = await request.config_dict[VIEWS].device(device_id, reach)
    return render(DeviceDetail.model_validate(row))


async def list_verdicts(request: web.Request) -> web.StreamResponse:
    """GET /api/v1/console/devices/{device_id}/verdicts: each policy's, worst first."""
    device_id, reach = path_id(request, "device_id"), caller(request).reach(JUDGED)
    rows = await request.config_dict[VIEWS].verdicts(device_id, reach)
    return render(DeviceVerdicts.model_validate({"items": rows}))


async def list_happenings(request: web.Request) -> web.StreamResponse:
    """GET /api/v1/console/devices/{device_id}/activity: what happened to it, newest first."""
    query, reach = parse_query(request, ActivityQuery), caller(request).reach(READ)
    rows = await request.config_dict[VIEWS].happened(
        path_id(request, "device_id"), query.after_id(), query.limit + 1, reach
    )
    shown, following = page_of(rows, query.limit, lambda row: [row["activity_id"]])
    return render(Activity.model_validate({"items": shown, "next": following}))


_DEVICES = "/api/v1/console/devices"
_ONE = f"{_DEVICES}/{{device_id}}"
ROUTES = (
    Route(
        "GET",
        _DEVICES,
        list_devices,
        permission=READ,
        scoped=True,
        summary="List, search, filter and sort devices",
        query=DeviceQuery,
        answer=DeviceList,
    ),
    Route(
        "GET",
        f"{_DEVICES}.csv",
        export_devices,
        permission=READ,
        scoped=True,
        summary="Export a whole list of devices as CSV",
        query=DeviceFilters,
        stream=True,
    ),
    Route(
        "GET",
        _ONE,
        get_device,
        permission=READ,
        scoped=True,
        summary="Show what the list shows of one device",
        answer=DeviceDetail,
    ),
    Route(
        "GET",
        f"{_ONE}/verdicts",
        list_verdicts,
        permission=JUDGED,
        scoped=True,
        summary="List the verdicts on a device",
        answer=DeviceVerdicts,
    ),
    Route(
        "GET",
        f"{_ONE}/activity",
        list_happenings,
        permission=READ,
        scoped=True,
        summary="List what happened to a device",
        query=ActivityQuery,
        answer=Activity,
    ),
)
