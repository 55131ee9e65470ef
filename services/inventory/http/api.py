"""What devices are and were: /api/v1/inventory/…"""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from aiohttp import web
from pydantic import BaseModel

from services.inventory.facts import FACTS
from services.inventory.filters import Filters
from services.inventory.http.models import (
    ApplicationList,
    AtQuery,
    CertificateList,
    DeviceList,
    DeviceQuery,
    DeviceView,
    FactList,
    History,
    HistoryQuery,
    ItemQuery,
    KnownFact,
    KnownFacts,
    ProfileList,
    RefreshAnswer,
    RefreshRequest,
)
from services.inventory.queries import REFRESH, Inventory, Past, unknown
from shared.events.inventory import Section
from shared.runtime.http import Page, Reach, caller, parse_body, parse_query, render
from shared.runtime.paging import bad_cursor
from shared.runtime.routes import Handler, Route

READ = "inventory.read"
INVENTORY = web.AppKey("inventory", Inventory)


def _device_id(request: web.Request) -> UUID:
    try:
        return UUID(request.match_info["device_id"])
    except ValueError:
        raise unknown() from None


def _reach(request: web.Request) -> Reach:
    return caller(request).reach(READ)


def _cursor_key(page: Page) -> str | None:
    key = page.after(1)
    if key is None or isinstance(key[0], str):
        return None if key is None else str(key[0])
    raise bad_cursor()


def _cursor_past(page: Page) -> Past | None:
    key = page.after(2)
    if key is None:
        return None
    try:
        since = datetime.fromisoformat(key[0])
    except (ValueError, TypeError):
        raise bad_cursor() from None
    if since.tzinfo is None or not isinstance(key[1], str):
        raise bad_cursor()
    return Past(since, key[1])


async def list_devices(request: web.Request) -> web.StreamResponse:
    """GET /api/v1/inventory/devices: devices by id, with their main facts."""
    query = parse_query(request, DeviceQuery)
    filters = Filters(
        platform=query.platform,
        os=query.os,
        model=query.model,
        q=query.q,
        managed=query.managed,
        application=query.application,
    )
    found = request.config_dict[INVENTORY]
    rows, following = await found.devices(filters, _reach(request), query.after_id(), query.limit)
    return render(DeviceList.model_validate({"items": rows, "next": following}))


async def get_device(request: web.Request) -> web.StreamResponse:
    """GET /api/v1/inventory/devices/{device_id}: one device with all its facts."""
    row = await request.config_dict[INVENTORY].device(_device_id(request), _reach(request))
    return render(DeviceView.model_validate(row))


async def get_facts(request: web.Request) -> web.StreamResponse:
    """GET /api/v1/inventory/devices/{device_id}/facts?at=TIME: the facts now, or at an instant."""
    query, device_id = parse_query(request, AtQuery), _device_id(request)
    rows = await request.config_dict[INVENTORY].facts(device_id, _reach(request), query.at)
    return render(FactList.model_validate({"device_id": device_id, "at": query.at, "items": rows}))


async def list_known_facts(_request: web.Request) -> web.StreamResponse:
    """GET /api/v1/inventory/facts: which facts there are, and what they mean."""
    known = [
        KnownFact(name=fact.name, section=fact.section, kind=fact.kind, about=fact.about)
        for fact in FACTS.values()
    ]
    return render(KnownFacts(items=known))


def _lists(section: Section, key: str, answer: type[BaseModel]) -> Handler:
    """GET /api/v1/inventory/devices/{device_id}/SECTION?at=TIME; `key` names an entry's key."""

    async def get_list(request: web.Request) -> web.StreamResponse:
        query, device_id = parse_query(request, ItemQuery), _device_id(request)
        (rows, following), reported_at = await request.config_dict[INVENTORY].items(
            section, device_id, _reach(request), _cursor_key(query), query.limit, query.at
        )
        entries = [{**row["detail"], key: row["key"], "since": row["since"]} for row in rows]
        return render(
            answer.model_validate({"items": entries, "next": following, "reported_at": reported_at})
        )

    return get_list


async def get_history(request: web.Request) -> web.StreamResponse:
    """GET /api/v1/inventory/devices/{device_id}/history: what was true when, newest first."""
    query, device_id = parse_query(request, HistoryQuery), _device_id(request)
    inventory, past = request.config_dict[INVENTORY], _cursor_past(query)
    reach = _reach(request)
    if query.section is None:
        rows, following = await inventory.fact_history(
            device_id, reach, query.name, past, query.limit
        )
        items: list[dict[str, Any]] = list(rows)
    else:
        rows, following = await inventory.item_history(
            query.section, device_id, reach, query.name, past, query.limit
        )
        items = [{**row, "name": row["key"], "value": row["detail"]} for row in rows]
    return render(History.model_validate({"items": items, "next": following}))


async def post_refresh(request: web.Request) -> web.StreamResponse:
    """POST /api/v1/inventory/devices/{device_id}/refresh: ask the device for news."""
    body, device_id = await parse_body(request, RefreshRequest), _device_id(request)
    requested = await request.config_dict[INVENTORY].refresh(
        device_id, body.sections, body.reason, caller(request)
    )
    return render(RefreshAnswer(requested=requested), 202)


_DEVICES = "/api/v1/inventory/devices"
_ONE = f"{_DEVICES}/{{device_id}}"
ROUTES = (
    Route(
        "GET",
        "/api/v1/inventory/facts",
        list_known_facts,
        permission=READ,
        summary="List the facts that are known of devices, with their meaning",
        answer=KnownFacts,
    ),
    Route(
        "GET",
        _DEVICES,
        list_devices,
        permission=READ,
        scoped=True,
        summary="List devices with their main facts",
        query=DeviceQuery,
        answer=DeviceList,
    ),
    Route(
        "GET",
        _ONE,
        get_device,
        permission=READ,
        scoped=True,
        summary="Show a device with all its facts",
        answer=DeviceView,
    ),
    Route(
        "GET",
        f"{_ONE}/facts",
        get_facts,
        permission=READ,
        scoped=True,
        summary="Read a device's facts, now or at an instant",
        query=AtQuery,
        answer=FactList,
    ),
    Route(
        "GET",
        f"{_ONE}/applications",
        _lists("applications", "identifier", ApplicationList),
        permission=READ,
        scoped=True,
        summary="List a device's applications, now or at an instant",
        query=ItemQuery,
        answer=ApplicationList,
    ),
    Route(
        "GET",
        f"{_ONE}/profiles",
        _lists("profiles", "identifier", ProfileList),
        permission=READ,
        scoped=True,
        summary="List a device's profiles, now or at an instant",
        query=ItemQuery,
        answer=ProfileList,
    ),
    Route(
        "GET",
        f"{_ONE}/certificates",
        _lists("certificates", "sha256", CertificateList),
        permission=READ,
        scoped=True,
        summary="List a device's certificates, now or at an instant",
        query=ItemQuery,
        answer=CertificateList,
    ),
    Route(
        "GET",
        f"{_ONE}/history",
        get_history,
        permission=READ,
        scoped=True,
        summary="Read what was true of a device when",
        query=HistoryQuery,
        answer=History,
    ),
    Route(
        "POST",
        f"{_ONE}/refresh",
        post_refresh,
        permission=REFRESH,
        scoped=True,
        summary="Ask a device for its inventory now",
        body=RefreshRequest,
        answer=RefreshAnswer,
        status=202,
    ),
)
