"""What `make bench-console` asks of all other screens: each of the menu, with its filters."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from html import unescape
from typing import Final
from urllib.parse import urlencode

import aiohttp

from services.console.http.menu import MENU
from tools.bench.console_audit import Entry
from tools.bench.console_fleet import SMALL_GROUP, Fleet
from tools.bench.console_others import ACTOR, Filled
from tools.bench.console_requests import Asked

_NEXT: Final = re.compile(r'rel="next"[^>]*href="([^"]+)"|href="([^"]+)"[^>]*rel="next"')


def pages(fleet: Fleet, filled: Filled, entry: Entry) -> list[Asked]:
    small = fleet.groups[SMALL_GROUP]
    one = f"/devices/{next(device for device, groups in fleet.members.items() if small in groups)}"
    tabs = ("overview", "inventory", "compliance", "commands", "timeline")
    return [
        *(Asked(f"menu: {entry.title}", entry.path) for entry in MENU if entry.path != "/devices"),
        *(Asked(f"device: {tab}", f"{one}?tab={tab}") for tab in tabs),
        Asked("bulk: the whole fleet", "/bulk/lock?whole=true"),
        Asked("bulk: of a filter", "/bulk/lock?whole=true&platform=macos&compliance=noncompliant"),
        Asked("group: large", f"/groups/{fleet.groups[1]}"),
        Asked("group: small", f"/groups/{small}"),
        Asked("groups: search", "/groups?q=3"),
        Asked("policy", f"/policies/{fleet.policies[0]}"),
        Asked("approval", f"/approvals/{filled.held}"),
        Asked("lobby", "/enrollment/lobby"),
        Asked("lobby: one", f"/enrollment/lobby/{filled.guest}"),
        Asked("own sessions", "/me/sessions"),
        *_commands(fleet, filled),
        *_audit(entry),
    ]


def _commands(fleet: Fleet, filled: Filled) -> list[Asked]:
    at = (datetime.now(UTC) - timedelta(days=200)).strftime("%Y-%m-%dT%H:%MZ")
    filters: Mapping[str, dict[str, str]] = {
        "common kind": {"kind": "inventory.refresh"},
        "rare kind": {"kind": "device.lock"},
        "no such kind": {"kind": "device.erase"},
        "finished": {"state": "finished"},
        "cancelled": {"state": "cancelled"},
        "held": {"state": "held"},
        "expired": {"state": "expired"},
        "a person": {"actor": ACTOR},
        "a person and a state": {"actor": ACTOR, "state": "cancelled"},
        "a device": {"device": str(fleet.ids[7])},
        "since": {"since": at},
        "until": {"until": at, "kind": "device.lock"},
    }
    return [
        Asked("command: 100,000 devices", f"/commands/{filled.job}"),
        *(Asked(f"commands: {n}", f"/commands?{urlencode(query)}") for n, query in filters.items()),
    ]


def _audit(entry: Entry) -> list[Asked]:
    at = (datetime.now(UTC) - timedelta(days=200)).strftime("%Y-%m-%dT%H:%MZ")
    filters: Mapping[str, dict[str, str]] = {
        "busy actor": {"actor": "account:1"},
        "rare actor": {"actor": entry.actor},
        "no such actor": {"actor": "account:nobody"},
        "common act": {"action": "command.create"},
        "rare act": {"action": entry.action},
        "target": {"target": entry.target},
        "service": {"service": "push_notifier"},
        "correlation": {"correlation_id": entry.correlation_id},
        "until": {"until": at},
        "actor until": {"actor": "account:1", "until": at},
        "rare actor and act": {"actor": entry.actor, "action": entry.action},
    }
    return [
        Asked("audit: an entry", f"/audit/entries/{entry.event_id}"),
        *(Asked(f"audit: {name}", f"/audit?{urlencode(query)}") for name, query in filters.items()),
    ]


async def second_pages(session: aiohttp.ClientSession, base: str) -> list[Asked]:
    """What the link to the next page of some lists leads to."""
    firsts = {
        "devices": "/devices",
        "devices, by seen": "/devices?sort=seen&descending=true",
        "devices, a name": "/devices?q=turing",
        "commands": "/commands",
        "audit": "/audit",
        "lobby": "/enrollment/lobby",
    }
    found = []
    for name, path in firsts.items():
        async with session.get(base + path) as response:
            match = _NEXT.search(await response.text())
        if match:
            found.append(Asked(f"page 2: {name}", unescape(match[1] or match[2])))
    return found
