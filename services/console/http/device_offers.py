"""What the page of a device offers to do, and why it does not offer the rest."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from aiohttp import web

from services.console.actions import ACTIONS, BULK, Action, lacking
from services.console.http.pages import ask, person
from shared.runtime.internal import InternalCallFailed
from shared.runtime.problems import Problem

REFRESH, WAKE, COMMANDS = "inventory.refresh", "push.wake", "command.read"
Values = dict[str, Any]
_SAFE: Final = (
    ("refresh", "Refresh inventory", REFRESH, "refresh"),
    ("wake", "Push now", WAKE, "bell"),
)


@dataclass(frozen=True)
class Offer:
    """A button; `why` it is disabled, if it is."""

    name: str
    title: str
    icon: str
    why: str | None
    destructive: bool = False


@dataclass(frozen=True)
class Offers:
    safe: list[Offer]
    dangerous: list[Offer]


async def offers(request: web.Request, device: Mapping[str, Any]) -> Offers:
    """Everything there is to do, in its order: what cannot be done stays visible."""
    who = person(request)
    gone = "The device is not managed." if device["status"] != "enrolled" else None
    safe = [
        Offer(name, title, icon, _missing(lacking(who, device, permission)) or gone)
        for name, title, permission, icon in _SAFE
    ]
    missing = {one.name: _missing(lacking(who, device, *one.needs)) for one in ACTIONS}
    known = {} if all(missing.values()) or gone else await _obstacles(request, device)
    dangerous = [
        Offer(
            one.name,
            one.title,
            one.icon,
            missing[one.name] or gone or _impossible(one, known),
            one.on(device["platform"]).destructive,
        )
        for one in ACTIONS
    ]
    return Offers(safe, dangerous)


async def why_not(request: web.Request, device: Mapping[str, Any], action: Action) -> str | None:
    """Why an action is not offered now; None: it is."""
    found = await offers(request, device)
    return next(one.why for one in found.dangerous if one.name == action.name)


def bulk_offers(request: web.Request) -> list[Offer]:
    """What can be done to many devices: whoever may do it somewhere chooses among those."""
    who = person(request)
    found = []
    for one in BULK:
        lacks = next((needed for needed in one.needs if not who.holds(needed)), None)
        found.append(Offer(one.name, one.title, one.icon, _missing(lacks), one.destructive))
    return found


def _missing(permission: str | None) -> str | None:
    return permission and f"This needs the permission {permission}."


def _impossible(action: Action, known: Mapping[str, str | None]) -> str | None:
    why = known.get(action.kind)
    return why and f"Not possible here: {why}."


async def _obstacles(request: web.Request, device: Mapping[str, Any]) -> dict[str, str | None]:
    """By kind, what speaks against it. Where nobody says, the device decides."""
    if lacking(person(request), device, COMMANDS):
        return {}
    path = f"/api/v1/commands/devices/{device['device_id']}/possible"
    try:
        found = await ask(request, "command_queue", "GET", path)
    except (Problem, InternalCallFailed):
        return {}
    return {one["kind"]: one["obstacle"] for one in found.get("items", [])}
