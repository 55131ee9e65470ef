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

from shared.events import uuid7
from shared.events.commands import CommandFinished, TargetState
from shared.events.compliance import VerdictState
from shared.events.devices import DeviceEnrolled, Ownership
from shared.runtime.testing import RecordedCalls
from tests.conftest import REPOSITORY
from tests.console.auditing import did, hear, told
from tests.console.browsing import Browser, signed_in
from tests.console.chromium import NEEDED, chromium, for_browsers, free_port
from tests.console.fleet import START, Console
from tests.console.pictured import COMMAND_ID, GROUP_ID, KINDS, PEOPLE, POLICY_ID, others
from tools.embedded import assets
from tools.embedded.home import Home

pytestmark = NEEDED
SIZES = {
    "desktop": ViewportSize(width=1280, height=900),
    "phone": ViewportSize(width=390, height=844),
}
_PRESSED = {"policy-preview": "Look who would fail"}
"""What is pressed first, on screens that are an answer."""
_STATES = (VerdictState.COMPLIANT, VerdictState.COMPLIANT, VerdictState.NONCOMPLIANT)


@pytest.fixture
def environ() -> dict[str, str]:
    return for_browsers(free_port())


async def _fleet(view: Console) -> list[UUID]:
    """Thirty devices of ten people, judged and seen, some in a group."""
    policy, devices = uuid7(), []
    for number in range(30):
        who = PEOPLE[number % len(PEOPLE)]
        platform, noun, model, product, version = KINDS[number % len(KINDS)]
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


def _screens(owner: Browser, devices: list[UUID], entry: UUID) -> dict[str, str]:
    """By the name of its picture, where each screen is."""
    one, mac = f"/devices/{devices[3]}", f"/devices/{devices[5]}"
    return {
        "overview": "/",
        "devices": "/devices",
        "policies": "/policies",
        "policy": f"/policies/{POLICY_ID}",
        "policy-new": "/policies/new",
        "policy-preview": f"/policies/{POLICY_ID}/edit",
        "groups": "/groups",
        "group": f"/groups/{GROUP_ID}",
        "group-place": f"/groups/place?id={devices[5]}&id={devices[6]}",
        "devices-none": "/devices?q=nobody",
        "device": one,
        **{f"device-{tab}": f"{one}?tab={tab}" for tab in ("inventory", "compliance", "timeline")},
        "device-certificates": f"{one}?tab=certificates",
        "device-commands": f"{one}?tab=commands&asked={COMMAND_ID}",
        "device-lock": f"{one}/actions/lock",
        "device-lock-mac": f"{mac}/actions/lock",
        "device-secrets": f"{mac}?tab=secrets",
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
    others(calls, devices, f"account:{owner.account_id}")
    entry = await _acts(view, devices, f"account:{owner.account_id}")
    await owner.post("/views", {"name": "Macs that fail", "query": "platform=macos"})
    await owner.post("/views", {"name": "Silent", "query": "seen=not_month", "shared": "true"})
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
            if button := _PRESSED.get(name):
                await page.get_by_role("button", name=button).click()
                await page.wait_for_url("**/preview")
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
