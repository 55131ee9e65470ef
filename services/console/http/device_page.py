"""The screen Device: a header, and tabs that ask the owners of what they show."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Annotated, Any, Final, Literal
from uuid import UUID

from aiohttp import web
from pydantic import AfterValidator, AwareDatetime, BaseModel, ConfigDict

from services.console.http import device_secrets
from services.console.http.device_asked import became_of
from services.console.http.device_holdings import holdings
from services.console.http.device_offers import offers
from services.console.http.devices import JUDGED, READ
from services.console.http.keys import VIEWS
from services.console.http.pages import (
    ask,
    asks_for,
    page_or_part,
    parse_pairs,
    person,
    query_pairs,
    text_of,
)
from services.console.http.streams import event, stream
from services.console.http.words import SHOWN
from services.console.views.sentences import command_text
from shared.events.base import uuid7_floor
from shared.runtime.http import Page, parse_query, path_id
from shared.runtime.internal import InternalCallFailed
from shared.runtime.paging import page_of
from shared.runtime.problems import Problem
from shared.runtime.routes import Route

Values = dict[str, Any]
_HAPPENINGS: Final = 50
_SECOND: Final = timedelta(seconds=1)
"""An instant is given in whole seconds, and is in what it shows."""


class Tab(StrEnum):
    OVERVIEW = "overview"
    INVENTORY = "inventory"
    APPS = "apps"
    CONFIGURATION = "configuration"
    COMPLIANCE = "compliance"
    CERTIFICATES = "certificates"
    COMMANDS = "commands"
    TIMELINE = "timeline"
    SECRETS = "secrets"


NEEDS: Final[Mapping[Tab, str]] = {
    Tab.OVERVIEW: READ,
    Tab.INVENTORY: READ,
    Tab.APPS: READ,
    Tab.CONFIGURATION: READ,
    Tab.COMPLIANCE: JUDGED,
    Tab.CERTIFICATES: "enrollment.read",
    Tab.COMMANDS: "command.read",
    Tab.TIMELINE: READ,
    Tab.SECRETS: "command.read",
}
_TITLES: Final = {
    "activation_lock": "Activation lock",
    "filevault": "FileVault",
    "os": "System",
    "root_volume": "System volume",
    "sip": "System Integrity Protection",
    "updates": "Updates",
}


def _in_utc(instant: datetime) -> datetime:
    return instant.astimezone(UTC)


class DevicePageQuery(Page):
    """The URL of a device: the open tab, and the instant that what it said or its timeline are of.

    `asked`: the command that the reader has just asked for; `done`: what else they did.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    tab: Tab = Tab.OVERVIEW
    at: Annotated[AwareDatetime, AfterValidator(_in_utc)] | None = None
    asked: UUID | None = None
    done: Literal["refresh", "wake"] | None = None


class LiveQuery(BaseModel):
    model_config = ConfigDict(extra="forbid")

    tab: Tab = Tab.OVERVIEW


async def show_device(request: web.Request) -> web.StreamResponse:
    """GET /devices/{device_id}: the device; only the open tab, when htmx asks for that."""
    query = parse_pairs(request, query_pairs(request), DevicePageQuery)
    device_id = path_id(request, "device_id")
    device = await request.config_dict[VIEWS].device(device_id, person(request).reach(READ))
    values = await _tab(request, query, device)
    if not asks_for(request, "tab"):
        values["offers"] = await offers(request, device)
        values["asked"] = await became_of(request, device_id, query.asked)
    return page_or_part(
        request,
        "device/index.html",
        "device/tab.html",
        "tab",
        device=device,
        query=query,
        tabs=NEEDS,
        shown=SHOWN,
        **values,
    )


async def _tab(request: web.Request, query: DevicePageQuery, device: Values) -> Values:
    """What the open tab shows; `trouble`: why it shows nothing, while the rest of the page does."""
    values: Values = {"trouble": None, "found": {}}
    if not person(request).holds(NEEDS[query.tab]):
        values["trouble"] = f"This needs the permission {NEEDS[query.tab]}."
        return values
    try:
        values["found"] = await _TABS[query.tab](request, query, device)
    except Problem as problem:
        values["trouble"] = problem.detail
    except InternalCallFailed:
        values["trouble"] = "The service that knows this does not answer now. Try again soon."
    return values


async def _overview(request: web.Request, _query: DevicePageQuery, device: Values) -> Values:
    views, reach = request.config_dict[VIEWS], person(request).reach(READ)
    return {"happened": await views.happened(device["device_id"], None, 10, reach)}


async def _inventory(request: web.Request, query: DevicePageQuery, device: Values) -> Values:
    """Facts by their first word, each with its meaning, now or at an instant."""
    path = f"/api/v1/inventory/devices/{device['device_id']}/facts"
    if query.at:
        path += f"?at={query.at.strftime('%Y-%m-%dT%H:%M:%SZ')}"
    facts = await ask(request, "inventory", "GET", path)
    known = await ask(request, "inventory", "GET", "/api/v1/inventory/facts")
    about = {one["name"]: one["about"] for one in known["items"]}
    areas: dict[str, list[Values]] = defaultdict(list)
    for fact in facts["items"]:
        area, _, own = fact["name"].partition(".")
        title = _TITLES.get(area, area.replace("_", " ").capitalize())
        more = {"title": own.replace("_", " ").capitalize(), "about": about.get(fact["name"], "")}
        areas[title].append({**fact, **more})
    return {"areas": dict(sorted(areas.items()))}


async def _compliance(request: web.Request, _query: DevicePageQuery, device: Values) -> Values:
    views, reach = request.config_dict[VIEWS], person(request).reach(JUDGED)
    return {"verdicts": await views.verdicts(device["device_id"], reach)}


async def _certificates(request: web.Request, query: DevicePageQuery, device: Values) -> Values:
    """Its identity certificates, newest first, each with what it is worth now."""
    path = f"/api/v1/enrollment/certificates?device_id={device['device_id']}&limit=25"
    if query.cursor:
        path += f"&cursor={query.cursor}"
    found, now = await ask(request, "enrollment", "GET", path), request.config_dict[VIEWS].now()
    for row in found["items"]:
        over = datetime.fromisoformat(row["not_after"]) <= now
        row["state"] = "revoked" if row["revoked_at"] else "over" if over else "valid"
    return found


async def _commands(request: web.Request, query: DevicePageQuery, device: Values) -> Values:
    path = f"/api/v1/commands/devices/{device['device_id']}"
    if query.cursor:
        path += f"?cursor={query.cursor}"
    found = await ask(request, "command_queue", "GET", path)
    rows = [*found["queue"], *found["items"]]
    names = await request.config_dict[VIEWS].actors([row["actor"] for row in rows if row["actor"]])
    for row in rows:
        row["who"] = names.get(row["actor"], "–")
        row["what"] = command_text(row["kind"])
    return found


async def _timeline(request: web.Request, query: DevicePageQuery, device: Values) -> Values:
    views, reach = request.config_dict[VIEWS], person(request).reach(READ)
    before = query.after_id() or (uuid7_floor(query.at + _SECOND) if query.at else None)
    rows = await views.happened(device["device_id"], before, _HAPPENINGS + 1, reach)
    shown, following = page_of(rows, _HAPPENINGS, lambda row: [row["activity_id"]])
    return {"happened": shown, "next": following}


async def _secrets(request: web.Request, _query: DevicePageQuery, device: Values) -> Values:
    return await device_secrets.of_device(request, device)


_TABS: Final[Mapping[Tab, Callable[[web.Request, DevicePageQuery, Values], Awaitable[Values]]]] = {
    Tab.OVERVIEW: _overview,
    Tab.INVENTORY: _inventory,
    Tab.APPS: holdings("applications"),
    Tab.CONFIGURATION: holdings("profiles"),
    Tab.COMPLIANCE: _compliance,
    Tab.CERTIFICATES: _certificates,
    Tab.COMMANDS: _commands,
    Tab.TIMELINE: _timeline,
    Tab.SECRETS: _secrets,
}


async def live_device(request: web.Request) -> web.StreamResponse:
    """GET /devices/{device_id}/live: the header as it changes, and a word that the tab may have."""
    device_id, reach = path_id(request, "device_id"), person(request).reach(READ)
    # What a command led to between the page and its stream would otherwise be missed.
    begun = parse_query(request, LiveQuery).tab is Tab.COMMANDS
    views = request.config_dict[VIEWS]
    await views.device(device_id, reach)

    async def tell(_changed: frozenset[UUID]) -> bytes:
        nonlocal begun
        device = await views.device(device_id, reach)
        head = event("head", text_of(request, "device/head.html", device=device, shown=SHOWN))
        changed, begun = begun, True
        return head + (event("changed", "") if changed else b"")

    return await stream(request, [device_id], tell)


ROUTES = (
    Route(
        "GET",
        "/devices/{device_id}",
        show_device,
        page=True,
        permission=READ,
        scoped=True,
        summary="A device",
    ),
    Route(
        "GET",
        "/devices/{device_id}/live",
        live_device,
        page=True,
        permission=READ,
        scoped=True,
        summary="News of a device",
        stream=True,
    ),
)
