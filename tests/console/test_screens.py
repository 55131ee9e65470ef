"""Every screen on a fleet: no serious accessibility fault, nothing wider than the screen, light and
dark, desktop and phone. With MUSTER_SCREENSHOTS=FOLDER each is drawn there (make screenshots).
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import pytest
from aiohttp import web
from playwright.async_api import Page, ViewportSize

from services.console.http import pages as rendering
from services.console.step_up import StepUp
from shared.runtime.testing import RecordedCalls
from tests.conftest import REPOSITORY
from tests.console import known
from tests.console.chromium import NEEDED, chromium, for_browsers, free_port
from tests.console.fleet import START, Console
from tests.console.pictured import others
from tests.console.screens import IDS, NO_SCREENS, NOT_DRAWN, SCREENS, Eyes, Screen, page_of, pages
from tools.embedded import assets
from tools.embedded.home import Home

SIZES = {
    "desktop": ViewportSize(width=1280, height=900),
    "phone": ViewportSize(width=390, height=844),
}
_ID: Final = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
_UNREACHED: Final = """
[...document.querySelectorAll("tbody th[scope=row] a")]
  .some((one) => !one.matches("[data-row] [data-open]"))
"""
_SEND: Final = """
([path, fields]) => {
  const form = document.createElement("form");
  form.method = "post";
  form.action = path;
  const token = document.querySelector("input[name=csrf]").value;
  for (const [name, value] of Object.entries({...fields, csrf: token})) {
    const field = document.createElement("input");
    [field.type, field.name, field.value] = ["hidden", name, value];
    form.append(field);
  }
  document.body.append(form);
  form.submit();
}
"""


@pytest.fixture
def environ() -> dict[str, str]:
    return for_browsers(free_port())


class Proof:
    """Whether the person in front of the screen has just brought their second factor."""

    brought = True


@pytest.fixture
def proof(monkeypatch: pytest.MonkeyPatch) -> Proof:
    proof = Proof()

    async def is_proven(_self: StepUp, _person: object, _digest: str) -> bool:
        return proof.brought

    monkeypatch.setattr(StepUp, "is_proven", is_proven)
    return proof


@pytest.fixture
def rendered(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """The templates that became pages."""
    names: set[str] = set()
    text_of = rendering.text_of

    def noted(request: web.Request, template: str, **values: Any) -> str:
        names.add(template)
        return text_of(request, template, **values)

    monkeypatch.setattr(rendering, "text_of", noted)
    return names


def test_every_page_is_among_the_screens_or_it_is_said_why_not() -> None:
    paths = list(pages())
    drawn = {page_of(screen.path, paths) for screen in SCREENS.values() if screen.sent is None}
    assert None not in drawn
    assert set(paths) - drawn == set(NOT_DRAWN)


def _whole_pages() -> set[str]:
    """Templates that are a page by themselves, not a part of one."""
    folder = rendering.TEMPLATES
    return {
        str(one.relative_to(folder))
        for one in folder.rglob("*.html")
        if re.search(r"{% extends ", one.read_text())
    } | {"bare.html", "base.html"}


@NEEDED
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", SIZES)
async def test_every_screen_can_be_used_by_everybody(
    view: Console, calls: RecordedCalls, proof: Proof, rendered: set[str], size: str, scheme: str
) -> None:
    sessions, owner = await known.sessions(view)
    devices = await known.fleet(view)
    others(calls, devices, f"account:{owner.account_id}")
    entry = await known.acts(view, devices, f"account:{owner.account_id}")
    await owner.post("/views", {"name": "Macs that fail", "query": "platform=macos"})
    await owner.post("/views", {"name": "Silent", "query": "seen=not_month", "shared": "true"})
    names = await known.names(view, owner, devices, entry)
    url = view.service.context.settings.address
    axe = assets.axe(Home.at(REPOSITORY / ".muster")).read_text()
    faults: list[object] = []
    async with chromium() as browser:
        # The policy lets no foreign script in, and axe is one.
        context = await browser.new_context(
            base_url=url,
            viewport=SIZES[size],
            color_scheme="dark" if scheme == "dark" else "light",
            bypass_csp=True,
            timezone_id="UTC",
            reduced_motion="reduce",
        )
        page = await context.new_page()
        await page.clock.install(time=START)
        for name, screen in SCREENS.items():
            await context.clear_cookies()
            if secret := sessions[screen.eyes]:
                await context.add_cookies([{"name": "muster", "value": secret, "url": url}])
            proof.brought = screen.proven
            await _open(page, screen, names)
            faults += [(name, fault) for fault in await _faults(page, axe)]
            if name not in IDS:
                faults += [(name, "an id", found) for found in await _ids(page)]
            await _draw(page, f"{name}-{size}-{scheme}.png")
    assert not faults, "\n".join(map(str, faults))
    assert _whole_pages() - rendered == set(NO_SCREENS)


async def _open(page: Page, screen: Screen, names: Mapping[str, str]) -> None:
    path = screen.path.format_map(names)
    if screen.sent is None:
        await page.goto(path)
    else:
        await page.goto("/sign-in" if screen.eyes is Eyes.STRANGER else "/me/sessions")
        async with page.expect_navigation():
            await page.evaluate(_SEND, [path, dict(screen.sent)])
    if screen.pressed:
        await page.get_by_role("button", name=screen.pressed).click()
        await page.wait_for_url("**/preview")


async def _ids(page: Page) -> list[str]:
    """What a person reads that only programs know by heart."""
    return _ID.findall(await page.locator("body").inner_text())


async def _faults(page: Page, axe: str) -> list[object]:
    found: list[object] = []
    if await page.evaluate("document.documentElement.scrollWidth > innerWidth"):
        found.append("wider than the screen")
    if await page.evaluate(_UNREACHED):
        found.append("j and k do not come to its rows")
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
