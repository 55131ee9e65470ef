"""The screen Audit: what everybody did, whether it is provable, and the file that proves it."""

from __future__ import annotations

from typing import Annotated, Any, Final
from uuid import UUID

import orjson
from aiohttp import web
from pydantic import Field

from services.console.audit.naming import action_text
from services.console.http.audit_api import READ, AuditFilters, AuditQuery, send_export
from services.console.http.device_links import Links
from services.console.http.keys import AUDIT, NAMING, STANDINGS
from services.console.http.pages import (
    asks_for,
    page,
    page_or_part,
    parse_pairs,
    person,
    query_pairs,
)
from services.console.http.streams import event, stream
from services.console.http.words import CHAIN
from services.console.views import live
from shared.runtime.http import path_id
from shared.runtime.paging import page_of
from shared.runtime.routes import Handler, Route

_PAUSE_SECONDS: Final = 1.0
_FILTERS: Final = ("actor", "action", "target", "service", "correlation_id", "since", "until")
Values = dict[str, Any]


class ListQuery(AuditQuery):
    """The URL of the screen; a target may be typed as a name or a serial number."""

    target: Annotated[str, Field(max_length=300)] | None = None


async def show_audit(request: web.Request) -> web.StreamResponse:
    """GET /audit: the list; only its table, when htmx asks for that."""
    pairs = query_pairs(request)
    query = parse_pairs(request, pairs, ListQuery)
    audit, naming = request.config_dict[AUDIT], request.config_dict[NAMING]
    filters = query.filters()
    if query.target:
        found_target = await naming.target(query.target)
        filters = query.model_copy(update={"target": found_target}).filters()
    found = await audit.page(filters, query.after_id(), query.limit + 1)
    part = asks_for(request, "list")
    rows, following = page_of(found, query.limit, lambda row: [row["event_id"]])
    return page_or_part(
        request,
        "audit/index.html",
        "audit/list.html",
        "list",
        query=query,
        rows=await naming.in_words(rows),
        next=following,
        filtered=any(getattr(query, name) for name in _FILTERS),
        links=Links(request.path, pairs),
        people={} if part else await naming.people(),
        actions={} if part else {one: action_text(one) for one in await audit.actions()},
        standing=await request.config_dict[STANDINGS].now(),
        chain=CHAIN,
    )


async def show_entry(request: web.Request) -> web.StreamResponse:
    """GET /audit/{event_id}: one entry, before and after, and its place in the chain."""
    row = await request.config_dict[AUDIT].one(path_id(request, "event_id"))
    [row] = await request.config_dict[NAMING].in_words([row])
    return page(request, "audit/one.html", entry=row, changes=_changes(row))


def _changes(row: Values) -> list[tuple[str, str | None, str | None]]:
    """(field, before, after) of whatever is not as it was, in the order of the names."""
    before, after = row["before"] or {}, row["after"] or {}
    return [
        (name.replace("_", " "), _value(before, name), _value(after, name))
        for name in sorted({*before, *after})
        if name not in before or name not in after or before[name] != after[name]
    ]


def _value(values: Values, name: str) -> str | None:
    if name not in values:
        return None
    value = values[name]
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, str):
        return value
    if isinstance(value, list) and all(isinstance(one, str) for one in value):
        return ", ".join(value) or "none"
    return orjson.dumps(value, option=orjson.OPT_INDENT_2).decode()


async def export(request: web.Request) -> web.StreamResponse:
    """GET /audit/export: evidence of the same filters."""
    query = parse_pairs(request, query_pairs(request), AuditFilters)
    if query.target:
        target = await request.config_dict[NAMING].target(query.target)
        query = query.model_copy(update={"target": target})
    return await send_export(request, query)


async def live_audit(request: web.Request) -> web.StreamResponse:
    """GET /audit/live: a word whenever something was recorded."""

    async def tell(_changed: frozenset[UUID]) -> bytes:
        person(request).require(READ)
        return event("changed", "")

    return await stream(request, [live.AUDIT], tell, pause=_PAUSE_SECONDS)


def _page(path: str, handler: Handler, summary: str, *, stream: bool = False) -> Route:
    return Route("GET", path, handler, page=True, permission=READ, summary=summary, stream=stream)


ROUTES = (
    _page("/audit", show_audit, "What everybody did"),
    _page("/audit/export", export, "The audit as evidence", stream=True),
    _page("/audit/live", live_audit, "News of the audit", stream=True),
    _page("/audit/entries/{event_id}", show_entry, "One entry of the audit"),
)
