"""Every screen on a fleet: no serious accessibility fault, nothing wider than the screen, light and
dark, desktop and phone. With MUSTER_SCREENSHOTS=FOLDER each is drawn there (make screenshots).
"""

from __future__ import annotations

import os
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from playwright.async_api import Page, ViewportSize

from services.compliance.policies import Definition
from shared.events import uuid7
from shared.events.commands import CommandFinished, TargetState
from shared.events.compliance import VerdictState
from shared.events.devices import DeviceEnrolled, Ownership, Platform
from shared.runtime.testing import RecordedCalls
from tests.conftest import REPOSITORY
from tests.console.auditing import did, hear, told
from tests.console.browsing import Browser, signed_in
from tests.console.chromium import NEEDED, chromium, for_browsers, free_port
from tests.console.fleet import START, Console
from tools.embedded import assets
from tools.embedded.home import Home

pytestmark = NEEDED
SIZES = {
    "desktop": ViewportSize(width=1280, height=900),
    "phone": ViewportSize(width=390, height=844),
}
COMMANDS = "/api/v1/commands"
COMMAND_ID = uuid7()
GROUP_ID = uuid7()
POLICY_ID = uuid7()
_PEOPLE = ("Ada", "Grace", "Jonas", "Tove", "Emil", "Mary", "Alan", "Edsger", "Barbara", "Linus")
_KINDS = (
    (Platform.IOS, "iPhone", "iPhone 15", "iPhone15,4", "17.6.1"),
    (Platform.IPADOS, "iPad", "iPad (10th generation)", "iPad13,18", "18.1"),
    (Platform.MACOS, "MacBook Air", "MacBook Air (M2)", "Mac14,2", "15.0.1"),
)
_STATES = (VerdictState.COMPLIANT, VerdictState.COMPLIANT, VerdictState.NONCOMPLIANT)


@pytest.fixture
def environ() -> dict[str, str]:
    return for_browsers(free_port())


async def _fleet(view: Console) -> list[UUID]:
    """Thirty devices of ten people, judged and seen, some in a group."""
    policy, devices = uuid7(), []
    for number in range(30):
        who = _PEOPLE[number % len(_PEOPLE)]
        platform, noun, model, product, version = _KINDS[number % len(_KINDS)]
        enrolled = START - timedelta(days=(number * number) % 29, hours=1)
        device_id = await view.device(
            enrolled_at=enrolled,
            name=f"{who}'s {noun}",
            serial=f"C39XK{number:05}",
            udid=f"00008110-{number:016X}",
            user=f"{who.lower()}@example.org",
            model=model,
            product=product,
            platform=platform,
            os_version=version,
            ownership=Ownership.PERSONAL if number % 7 == 6 else Ownership.CORPORATE,
            supervised=number % 7 != 6,
            tags=["field"] if number % 4 == 0 else [],
        )
        joined = DeviceEnrolled(
            device_id=device_id,
            enrollment_id=uuid7(),
            generation=1,
            channel_id=uuid7(),
            platform=platform,
            ownership=Ownership.CORPORATE,
            enrolled_at=enrolled,
        )
        await view.service.hears(joined, service="enrollment", at=enrolled)
        await view.seen(device_id, timedelta(minutes=7 * number))
        await view.verdict(device_id, policy, _STATES[number % len(_STATES)])
        devices.append(device_id)
    await view.group("Field service", *devices[:4])
    for number, device_id in enumerate(devices):
        at = START - timedelta(days=number % 11, hours=2)
        finished = CommandFinished(
            device_id=device_id,
            command_id=uuid7(),
            kind="device.lock",
            state=TargetState.FAILED if number % 9 == 8 else TargetState.ACKNOWLEDGED,
            queued_at=at,
            finished_at=at,
        )
        await view.service.hears(finished, service="command_queue", at=at)
    return devices


async def _acts(view: Console, devices: list[UUID], actor: str) -> UUID:
    """What is on record; returns the entry with the most to see."""
    who: dict[str, Any] = {"actor": actor, "source": "203.0.113.7"}
    values: dict[str, Any] = {"ownership": "corporate", "tags": ["field"], "user": None}
    changed = values | {"ownership": "personal", "tags": ["field", "on loan"]}
    entries = [
        did("command.create", target=str(COMMAND_ID), reason="left on a train", **who),
        did("device.change", target=str(devices[3]), before=values, after=changed, **who),
        did("guard.freeze", target=str(uuid7()), reason="a laptop was stolen", **who),
        did("account.disable", target=actor, actor="service:console"),
        did("role.grant", target=actor, after={"role": "operator"}, **who),
    ]
    arrived = told(*entries)
    await hear(view.service, arrived)
    await view.service.run_job("sign_audit_root")
    await view.service.run_job("check_audit")
    return arrived[1].meta.event_id


def _others(calls: RecordedCalls, devices: list[UUID], actor: str) -> None:
    """What the other services answer."""
    command: dict[str, Any] = {
        "command_id": str(COMMAND_ID),
        "kind": "device.restart",
        "request_type": "RestartDevice",
        "command_class": "disruptive",
        "summary": {"request_type": "RestartDevice"},
        "actor": actor,
        "reason": "the new Wi-Fi profile needs it",
        "state": "active",
        "hold_reason": None,
        "end_reason": None,
        "target_count": 30,
        "created_at": (START - timedelta(minutes=4)).isoformat(),
        "expires_at": (START + timedelta(days=7)).isoformat(),
        "progress": {"acknowledged": 21, "failed": 1, "sent": 3, "queued": 5},
    }
    erase = command | {
        "kind": "device.erase",
        "request_type": "EraseDevice",
        "summary": {"request_type": "EraseDevice"},
        "command_class": "destructive",
        "state": "held",
        "target_count": 12,
        "reason": "sold",
    }
    lock = command | {"kind": "device.lock", "state": "finished", "target_count": 1}
    states = ("acknowledged", "acknowledged", "failed", "sent", "queued")
    targets = [
        {
            "target_id": str(uuid7()),
            "device_id": str(device_id),
            "state": states[number % len(states)],
            "reason": "needs a supervised device" if number % len(states) == 2 else None,
            "errors": None,
            "answer": {"Status": "Acknowledged"} if number % len(states) < 2 else None,
            "finished_at": START.isoformat() if number % len(states) < 3 else None,
        }
        for number, device_id in enumerate(devices)
    ]
    one = {
        "command_id": str(COMMAND_ID),
        "kind": "device.lock",
        "actor": actor,
        "state": "sent",
        "reason": None,
        "errors": None,
        "queued_at": START.isoformat(),
        "expires_at": (START + timedelta(days=7)).isoformat(),
        "finished_at": START.isoformat(),
    }
    done = one | {"state": "acknowledged"}
    windows = ((10, 5, 3), (1440, 25, 3), (43200, 50, 3))
    budgets = [
        {
            "whose": whose,
            "command_class": kind,
            "window_minutes": minutes,
            "limit": limit * (1 if kind == "destructive" else 10),
            "spent": spent,
        }
        for kind in ("destructive", "disruptive")
        for whose in ("actor", "installation")
        for minutes, limit, spent in windows
    ]
    facts = (("os.version", "17.6.1"), ("passcode.present", True), ("security.encrypted", True))
    answers = {
        f"{COMMANDS}?limit=50": {"items": [command, erase, lock], "next": "next"},
        f"{COMMANDS}/{COMMAND_ID}": command,
        f"{COMMANDS}/{COMMAND_ID}/targets?limit=50": {"items": targets, "next": None},
        f"{COMMANDS}/{COMMAND_ID}/targets": {"items": targets[3:], "next": None},
        f"{COMMANDS}/devices/{devices[3]}": {"queue": [one], "items": [done], "next": None},
        f"{COMMANDS}/budgets": {"items": budgets},
        **_guarded(erase),
    }
    _grouped(calls, devices, actor)
    _judged(calls, actor)
    for path, answer in answers.items():
        calls.answers["command_queue", path] = answer
    calls.answers["inventory", f"/api/v1/inventory/devices/{devices[3]}/facts"] = {
        "items": [{"name": name, "value": value} for name, value in facts]
    }
    calls.answers["enrollment", "/api/v1/enrollment/credentials?limit=50"] = {
        "items": [
            {
                "credential_id": str(uuid7()),
                "name": name,
                "max_uses": 10,
                "uses": uses,
                "expires_at": (START + timedelta(days=7)).isoformat(),
                "revoked_at": None,
                "platform": "ios",
                "ownership": "corporate",
                "serial": None,
                "serials": "any",
                "leaked_at": None,
                "user": None,
                "created_by": actor,
            }
            for name, uses in (("Field phones", 3), ("Class of 2026", 10))
        ],
        "next": None,
    }
    guest = {
        "enrollment_id": str(COMMAND_ID),
        "device_id": str(devices[4]),
        "udid": "00008110-0000000000000004",
        "conflicts_with": str(devices[4]),
        "reasons": ["hardware_known", "address_changed"],
        "score": 100,
        "credential_id": str(uuid7()),
        "credential_name": "Field phones",
        "handed_to": "203.0.113.7",
        "address": "198.51.100.20",
        "waits_since": (START - timedelta(hours=2)).isoformat(),
        "expires_at": (START + timedelta(days=7)).isoformat(),
        "authenticated_at": START.isoformat(),
        "decision": None,
        "decided_by": None,
        "decided_at": None,
        "decision_reason": None,
        "claimed": {"name": "Emil's iPad", "serial": "C39XK00004", "product": "iPad13,18"},
        "mode": "device",
        "ownership": "corporate",
        "user": None,
    }
    known = {
        "device_id": str(devices[4]),
        "name": "Emil's iPad",
        "serial": "C39XK00004",
        "udid": "00008110-0000000000000004",
        "model": "iPad (10th generation)",
        "product": "iPad13,18",
        "os_version": "18.1",
        "user": "emil@example.org",
        "ownership": "corporate",
        "state": "enrolled",
        "last_seen": START.isoformat(),
    }
    stranger = guest | {"reasons": ["serial_unlisted"], "score": 50, "address": None}
    stranger["claimed"] = {"name": "iPhone", "serial": "F2LXK00099"}
    lobby = "/api/v1/enrollment/lobby"
    calls.answers["enrollment", f"{lobby}?limit=50"] = {"items": [guest, stranger], "next": None}
    calls.answers["enrollment", f"{lobby}/counts"] = {"waiting": 2}
    calls.answers["enrollment", f"{lobby}/{COMMAND_ID}"] = guest | {"device": known}
    calls.answers["push_notifier", "/api/v1/push/certificates"] = {
        "items": [
            {
                "topic": "com.apple.mgmt.External.5d8b4c1e",
                "not_after": (START + timedelta(days=200)).isoformat(),
                "days_left": 200,
                "current": True,
                "uploaded_at": START.isoformat(),
                "uploaded_by": actor,
            }
        ]
    }
    calls.answers["inventory", "/api/v1/inventory/facts"] = {
        "items": [{"name": name, "about": "what the device said last"} for name, _ in facts]
    }


def _grouped(calls: RecordedCalls, devices: list[UUID], actor: str) -> None:
    """Groups, and who is in one."""
    api = "/api/v1/inventory/groups"
    field = {
        "group_id": str(GROUP_ID),
        "name": "Field service",
        "description": "Vans and what is in them",
        "protected": True,
        "members": 4,
        "created_at": (START - timedelta(days=40)).isoformat(),
        "created_by": actor,
        "changed_at": (START - timedelta(days=3)).isoformat(),
        "changed_by": actor,
    }
    empty = field | {"name": "Board", "description": None, "members": 0, "protected": False}
    members = [
        {
            "device_id": str(device_id),
            "name": f"{_PEOPLE[number]}'s {_KINDS[number % len(_KINDS)][1]}",
            "serial": f"C39XK{number:05}",
            "platform": _KINDS[number % len(_KINDS)][0],
            "added_at": (START - timedelta(days=number)).isoformat(),
            "added_by": actor,
        }
        for number, device_id in enumerate(devices[:4])
    ]
    calls.answers["inventory", f"{api}?limit=50"] = {"items": [field, empty], "next": None}
    calls.answers["inventory", f"{api}/{GROUP_ID}"] = field
    calls.answers["inventory", f"{api}/{GROUP_ID}/members?limit=50"] = {
        "items": members,
        "next": None,
    }


def _judged(calls: RecordedCalls, actor: str) -> None:
    """A policy, and what it was before."""
    api = "/api/v1/compliance/policies"
    rules: list[dict[str, Any]] = [
        {"kind": "passcode_present", "title": "A passcode", "advice": "Set a passcode."},
        {"kind": "encryption_on"},
        {"kind": "os_at_least", "versions": {"ios": "17.6", "ipados": "17.6", "macos": "15.0"}},
    ]
    definition = Definition.model_validate(
        {"name": "Baseline", "description": "What every device must be like.", "rules": rules}
    ).model_dump(mode="json")
    changed = {"changed_at": (START - timedelta(days=2)).isoformat(), "changed_by": actor}
    policy = {
        **definition,
        **changed,
        "policy_id": str(POLICY_ID),
        "version": 2,
        "created_at": (START - timedelta(days=40)).isoformat(),
        "counts": {"compliant": 20, "noncompliant": 10},
        "rollout": {"judged": 30, "started_at": START.isoformat(), "finished_at": None},
    }
    former = {**changed, "version": 1, "definition": definition, "reason": None}
    versions = [{**former, "version": 2, "reason": "new systems"}, former]
    calls.answers["compliance", f"{api}?limit=50"] = {"items": [policy], "next": None}
    calls.answers["compliance", f"{api}/{POLICY_ID}"] = policy
    calls.answers["compliance", f"{api}/{POLICY_ID}/versions?limit=50"] = {
        "items": versions,
        "next": None,
    }


def _guarded(erase: dict[str, Any]) -> dict[str, Any]:
    """What is held and frozen."""
    later = (START + timedelta(hours=24)).isoformat()
    held = erase | {
        "hold_reason": "12 destructive targets: 3 of 5 of the asker's budget are spent",
        "needs": 1,
        "not_before": START.isoformat(),
        "given": 0,
    }
    freeze = {
        "freeze_id": str(COMMAND_ID),
        "command_class": None,
        "before": None,
        "actor": erase["actor"],
        "reason": "a laptop was stolen",
        "created_at": START.isoformat(),
    }
    word = {"account_id": str(uuid7()), "name": "Grace Hopper", "expires_at": later}
    offer = {
        "digest": "5f" * 32,
        "approval_expires_at": later,
        "given": [word | {"approved_at": START.isoformat()}],
        "why_not": None,
        "options": {"challenge": "X19f"},
    }
    return {
        f"{COMMANDS}/approvals?limit=50": {"items": [held, held | {"needs": None}], "next": "more"},
        f"{COMMANDS}/freeze": {"items": [freeze]},
        f"{COMMANDS}/{COMMAND_ID}/approval": offer | {"command": held, "given": []},
        f"{COMMANDS}/freeze/{COMMAND_ID}/lift": offer | {"freeze": freeze, "needs": 2},
    }


def _screens(owner: Browser, devices: list[UUID], entry: UUID) -> dict[str, str]:
    """By the name of its picture, where each screen is."""
    one = f"/devices/{devices[3]}"
    return {
        "overview": "/",
        "devices": "/devices",
        "policies": "/policies",
        "policy": f"/policies/{POLICY_ID}",
        "policy-new": "/policies/new",
        "groups": "/groups",
        "group": f"/groups/{GROUP_ID}",
        "group-place": f"/groups/place?id={devices[5]}&id={devices[6]}",
        "devices-none": "/devices?q=nobody",
        "device": one,
        **{f"device-{tab}": f"{one}?tab={tab}" for tab in ("inventory", "compliance", "timeline")},
        "device-commands": f"{one}?tab=commands&asked={COMMAND_ID}",
        "device-lock": f"{one}/actions/lock",
        "device-erase": f"{one}/actions/erase",
        "bulk": "/bulk/erase?tag=field&whole=true",
        "commands": "/commands",
        "command": f"/commands/{COMMAND_ID}",
        "approvals": "/approvals",
        "approval": f"/approvals/{COMMAND_ID}",
        "approval-freeze": f"/approvals/freezes/{COMMAND_ID}",
        "enrollment": "/enrollment",
        "lobby": "/enrollment/lobby",
        "lobby-guest": f"/enrollment/lobby/{COMMAND_ID}",
        "audit": "/audit",
        "audit-none": "/audit?target=nobody",
        "audit-entry": f"/audit/entries/{entry}",
        "budgets": "/settings/budgets",
        "webhooks": "/settings/webhooks",
        "identity": "/settings/identity",
        "people": "/settings/people",
        "person": f"/settings/people/{owner.account_id}",
        "roles": "/settings/roles",
        "factors": "/me/factors",
        "tokens": "/me/tokens",
        "sessions": "/me/sessions",
    }


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", SIZES)
async def test_every_screen_can_be_used_by_everybody(
    view: Console, calls: RecordedCalls, size: str, scheme: str
) -> None:
    owner = await signed_in(view.service, role="owner")
    devices = await _fleet(view)
    _others(calls, devices, f"account:{owner.account_id}")
    entry = await _acts(view, devices, f"account:{owner.account_id}")
    url = view.service.context.settings.address
    axe = assets.axe(Home.at(REPOSITORY / ".muster")).read_text()
    faults: list[object] = []
    async with chromium() as browser:
        # The policy lets no foreign script in, and axe is one.
        context = await browser.new_context(
            viewport=SIZES[size],
            color_scheme="dark" if scheme == "dark" else "light",
            bypass_csp=True,
            timezone_id="UTC",
            reduced_motion="reduce",
        )
        await context.add_cookies(
            [{"name": "muster", "value": owner.cookies["muster"], "url": url}]
        )
        page = await context.new_page()
        await page.clock.install(time=START)
        for name, path in _screens(owner, devices, entry).items():
            await page.goto(url + path)
            faults += [(name, fault) for fault in await _faults(page, axe)]
            await _draw(page, f"{name}-{size}-{scheme}.png")
    assert not faults, "\n".join(map(str, faults))


async def _faults(page: Page, axe: str) -> list[object]:
    found: list[object] = []
    if await page.evaluate("document.documentElement.scrollWidth > innerWidth"):
        found.append("wider than the screen")
    await page.evaluate(axe)
    said = await page.evaluate("axe.run()")
    return found + [
        (fault["id"], node["html"], node["failureSummary"])
        for fault in said["violations"]
        if fault["impact"] in {"serious", "critical"}
        for node in fault["nodes"][:2]
    ]


async def _draw(page: Page, name: str) -> None:
    folder = os.environ.get("MUSTER_SCREENSHOTS")
    if folder:
        await page.screenshot(path=Path(folder) / name, full_page="phone" in name)
