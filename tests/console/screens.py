"""Every screen there is: where it is, who looks at it, and the form whose answer it is."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from services.console.app import SERVICE


class Eyes(StrEnum):
    """Who looks at a screen."""

    OWNER = "owner"
    NEWCOMER = "newcomer"
    """Signed in, and may do nothing."""
    FIRST = "first"
    """Has brought a password, and never had a second factor."""
    HALFWAY = "halfway"
    """Has brought a password, and has a second factor to bring."""
    STRANGER = "stranger"


@dataclass(frozen=True)
class Screen:
    """A path with the names of what is known while screens are drawn (`known.py`).

    `sent`: fields of a form that is sent there, for pages that are answers; `pressed`: the button
    on the page whose answer it is; `proven`: the second factor was brought for it.
    """

    path: str
    eyes: Eyes = Eyes.OWNER
    sent: Mapping[str, str] | None = None
    pressed: str | None = None
    proven: bool = True


_REVEAL: Final = "/devices/{mac}/secrets/{secret}/reveal"
_WHY: Final = {"reason": "its owner is at the desk"}
_NEW_HOOK: Final = {
    "name": "Ticket system",
    "url": "https://tickets.example/hook",
    "event_type": "muster.device.unenrolled.v1",
}
_INVITED: Final = {"name": "Grace Hopper", "email": "grace@example.org", "role": "read_only"}
SCREENS: Final[Mapping[str, Screen]] = {
    "overview": Screen("/"),
    "devices": Screen("/devices"),
    "policies": Screen("/policies"),
    "policy": Screen("/policies/{policy}"),
    "policy-new": Screen("/policies/new"),
    "policy-preview": Screen("/policies/{policy}/edit", pressed="Look who would fail"),
    "groups": Screen("/groups"),
    "group": Screen("/groups/{group}"),
    "group-place": Screen("/groups/place?id={mac}&id={other}"),
    "devices-none": Screen("/devices?q=nobody"),
    "device": Screen("/devices/{device}"),
    "device-inventory": Screen("/devices/{device}?tab=inventory"),
    "device-apps": Screen("/devices/{device}?tab=apps"),
    "device-configuration": Screen("/devices/{device}?tab=configuration"),
    "device-compliance": Screen("/devices/{device}?tab=compliance"),
    "device-timeline": Screen("/devices/{device}?tab=timeline"),
    "device-certificates": Screen("/devices/{device}?tab=certificates"),
    "device-commands": Screen("/devices/{device}?tab=commands&asked={command}"),
    "device-lock": Screen("/devices/{device}/actions/lock"),
    "device-install": Screen("/devices/{device}/actions/install"),
    "device-lock-mac": Screen("/devices/{mac}/actions/lock"),
    "device-secrets": Screen("/devices/{mac}?tab=secrets"),
    "device-secret-step-up": Screen(_REVEAL, sent=_WHY, proven=False),
    "device-secret": Screen(_REVEAL, sent=_WHY),
    "device-erase": Screen("/devices/{device}/actions/erase"),
    "device-unknown": Screen("/devices/{command}"),
    "bulk": Screen("/bulk/erase?tag=field&whole=true"),
    "commands": Screen("/commands"),
    "command": Screen("/commands/{command}"),
    "approvals": Screen("/approvals"),
    "approval": Screen("/approvals/{command}"),
    "approval-freeze": Screen("/approvals/freezes/{command}"),
    "enrollment": Screen("/enrollment"),
    "enrollment-new": Screen(
        "/enrollment/credentials",
        sent={"name": "Field phones", "uses": "10", "days": "7", "ownership": "corporate"},
    ),
    "enrollment-push-request": Screen("/enrollment/push/request", sent={}),
    "lobby": Screen("/enrollment/lobby"),
    "lobby-guest": Screen("/enrollment/lobby/{command}"),
    "audit": Screen("/audit"),
    "audit-none": Screen("/audit?target=nobody"),
    "audit-entry": Screen("/audit/entries/{entry}"),
    "budgets": Screen("/settings/budgets"),
    "webhooks": Screen("/settings/webhooks"),
    "webhook": Screen("/settings/webhooks/{webhook}"),
    "webhook-secret": Screen("/settings/webhooks", sent=_NEW_HOOK),
    "identity": Screen("/settings/identity"),
    "identity-provider": Screen("/settings/identity/{provider}"),
    "identity-secret": Screen("/settings/identity/{provider}/client", sent={"client_id": "muster"}),
    "people": Screen("/settings/people"),
    "person": Screen("/settings/people/{owner}"),
    "person-identities": Screen("/settings/people/{owner}/identities"),
    "person-link": Screen("/settings/people", sent=_INVITED),
    "roles": Screen("/settings/roles"),
    "factors": Screen("/me/factors"),
    "factors-new-code": Screen("/me/factors/code/offer", sent={}),
    "factors-new-key": Screen("/me/factors/keys/add", sent={"name": "Blue key"}),
    "identities": Screen("/me/identities"),
    "password": Screen("/me/password"),
    "password-new": Screen("/me/password/begin", sent={}),
    "tokens": Screen("/me/tokens"),
    "token-new": Screen(
        "/me/tokens", sent={"name": "Reports", "permission": "inventory.read", "days": "90"}
    ),
    "sessions": Screen("/me/sessions"),
    "home": Screen("/", Eyes.NEWCOMER),
    "refused": Screen("/settings/people", Eyes.NEWCOMER),
    "sign-in": Screen("/sign-in", Eyes.STRANGER),
    "sealed": Screen("/sealed", Eyes.STRANGER),
    "join": Screen("/join/{link}", Eyes.STRANGER),
    "set-up": Screen("/set-up/{set_up}", Eyes.STRANGER),
    "second-factor-first": Screen("/second-factor", Eyes.FIRST),
    "second-factor": Screen("/second-factor", Eyes.HALFWAY),
}
"""By the name of its picture. What is sent changes nothing that a later screen shows."""
NOT_DRAWN: Final[Mapping[str, str]] = {
    "/assets/{digest}/{name:.+}": "a file",
    "/devices/{device_id}/asked/{command_id}": "a part of the screen device-commands",
    "/devices/newcomers": "a line of the screen devices, as test_devices_in_chromium.py sees",
    "/sign-in/callback/{provider_id}": "goes on by itself, as test_provider_in_chromium.py sees",
}
"""Paths whose answer is no screen, and why. Nor are streams: news for a page, or a download."""
NO_SCREENS: Final[Mapping[str, str]] = {
    "bare.html": "what others extend",
    "base.html": "what others extend",
    "identity/back.html": NOT_DRAWN["/sign-in/callback/{provider_id}"],
    "identity/going.html": "goes on to the provider by itself",
}
"""Templates of whole pages that are not drawn, and why."""


IDS: Final[Mapping[str, str]] = {
    "webhook": "a delivery is found in the receiver's log by its id",
    "identity-provider": "the address to be registered there has one",
}
"""Screens on which ids may be read, by what they are for; elsewhere things have names."""


def pages() -> Iterator[str]:
    """Paths, as their routes have them, that answer GET with what is to be drawn."""
    for route in SERVICE.routes:
        if route.page and route.method == "GET" and not route.stream:
            yield route.path


def page_of(path: str, paths: list[str]) -> str | None:
    """The path of a route that answers a screen's; the one with the fewest places to fill in."""
    bare = path.partition("?")[0]
    fitting = [one for one in paths if re.fullmatch(re.sub(r"\{[^/]+\}", "[^/]+", one), bare)]
    return min(fitting, key=lambda one: one.count("{"), default=None)
