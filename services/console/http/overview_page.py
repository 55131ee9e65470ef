"""The screen Overview: the fleet in numbers, each a link to the devices behind it."""

from __future__ import annotations

from datetime import date, timedelta
from typing import Any, Final
from uuid import UUID

from aiohttp import web

from services.console.http.devices import READ
from services.console.http.guard import guard_for
from services.console.http.keys import VIEWS
from services.console.http.pages import page, page_or_part, person
from services.console.http.streams import event, stream
from services.console.http.words import COMPLIANCE, SHOWN
from services.console.views.queries import TREND_DAYS, Overview
from shared.runtime.routes import Route

_PAUSE_SECONDS: Final = 5.0
_SYSTEMS: Final = 8
_TREND: Final = (("enrolled", "Enrolled"), ("unenrolled", "Left"))
_OUTCOMES: Final = (
    ("command.acknowledged", "Acknowledged"),
    ("command.failed", "Failed"),
    ("command.expired", "Expired"),
    ("command.unconfirmed", "Never confirmed"),
)


async def show_overview(request: web.Request) -> web.StreamResponse:
    """GET /: the overview; a word of welcome for people who may not see devices."""
    who = person(request)
    if not who.holds(READ):
        return page(request, "home.html")
    found = await request.config_dict[VIEWS].overview(who.reach(READ))
    return page_or_part(
        request,
        "overview/index.html",
        "overview/numbers.html",
        "overview",
        found=found,
        guard=await guard_for(request),
        shown=SHOWN,
        charts=_charts(found),
        systems=_systems(found),
    )


def _systems(found: Overview) -> list[tuple[str, str, int]]:
    """(platform, version, devices) of the most common systems."""
    rows = []
    for value, count in list(found.counts.get("os", {}).items())[:_SYSTEMS]:
        platform, _, version = value.partition(" ")
        rows.append((platform, version, count))
    return rows


def _charts(found: Overview) -> dict[str, Any]:
    """What static/charts.js draws; tables beside them say the same."""
    counts = found.counts.get("compliance", {})
    states = [(state, word) for state, (word, _) in COMPLIANCE.items() if counts.get(state)]
    charts: dict[str, Any] = {
        "compliance": {
            "kind": "doughnut",
            "labels": [word for _, word in states],
            "colours": [COMPLIANCE[state][1] for state, _ in states],
            "series": [{"label": "Devices", "data": [counts[state] for state, _ in states]}],
        }
    }
    if found.trend is not None:
        days = [found.as_of.date() - timedelta(days=n) for n in range(TREND_DAYS - 1, -1, -1)]
        charts["trend"] = _bars(found, days, _TREND, ["green", "secondary"])
        charts["outcomes"] = _bars(
            found, days, _OUTCOMES, ["green", "red", "secondary", "orange"], stacked=True
        )
    return charts


def _bars(
    found: Overview,
    days: list[date],
    series: tuple[tuple[str, str], ...],
    colours: list[str],
    *,
    stacked: bool = False,
) -> dict[str, Any]:
    trend = found.trend or {}
    return {
        "kind": "bar",
        "stacked": stacked,
        "labels": [day.strftime("%d %b") for day in days],
        "colours": colours,
        "series": [
            {"label": label, "data": [trend.get(what, {}).get(day, 0) for day in days]}
            for what, label in series
        ],
    }


async def live_overview(request: web.Request) -> web.StreamResponse:
    """GET /live: a word that numbers may have changed, at most every five seconds."""
    begun = False

    async def tell(_changed: frozenset[UUID]) -> bytes:
        nonlocal begun
        changed, begun = begun, True
        return event("changed", "") if changed else b""

    return await stream(request, None, tell, pause=_PAUSE_SECONDS)


ROUTES = (
    Route("GET", "/", show_overview, page=True, personal=True, summary="The fleet in numbers"),
    Route(
        "GET",
        "/live",
        live_overview,
        page=True,
        permission=READ,
        scoped=True,
        summary="News of the fleet",
        stream=True,
    ),
)
