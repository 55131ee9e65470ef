"""A real browser for tests of pages: Debian's chromium, driven by playwright.

Where there is none the tests are skipped, unless MUSTER_TEST_CHROMIUM=required.
"""

from __future__ import annotations

import os
import shutil
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import pytest
from playwright.async_api import Browser, Page, async_playwright, expect

from tests.conftest import REPOSITORY
from tests.console import browsing
from tools.embedded import assets
from tools.embedded.home import Home

PROGRAM = shutil.which("chromium")
NEEDED = pytest.mark.skipif(
    PROGRAM is None and os.environ.get("MUSTER_TEST_CHROMIUM") != "required",
    reason="chromium is not on the PATH (Debian: chromium)",
)
# The browser shares two cores with the servers behind the page: five seconds may be too few.
expect.set_options(timeout=30_000)


@asynccontextmanager
async def chromium() -> AsyncIterator[Browser]:
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(
            executable_path=PROGRAM, args=["--no-sandbox", "--disable-dev-shm-usage"]
        )
        try:
            yield browser
        finally:
            await browser.close()


@contextmanager
def uncomplaining(page: Page) -> Iterator[None]:
    """A test that goes well until here fails when the browser complained: of our scripts, or that
    our policy was broken.
    """
    complaints: list[str] = []
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on(
        "console",
        lambda said: complaints.append(said.text) if "Content Sec" in said.text else None,
    )
    yield
    assert complaints == []


@asynccontextmanager
async def page_of(person: browsing.Browser, **screen: Any) -> AsyncIterator[Page]:
    """A page of somebody who is signed in already; a complaint of the browser is a failure."""
    url = person.service.context.settings.address
    async with chromium() as browser:
        context = await browser.new_context(base_url=url, **screen)
        await context.add_cookies(
            [{"name": name, "value": value, "url": url} for name, value in person.cookies.items()]
        )
        page = await context.new_page()
        with uncomplaining(page):
            yield page


async def with_a_registered_key(page: Page, monkeypatch: pytest.MonkeyPatch) -> None:
    """Give the page a key, and register it as somebody does who has just shown another one."""
    await with_a_key(page)
    with monkeypatch.context() as patch:
        browsing.prove(patch)
        await page.goto("/me/factors")
        await page.get_by_label("Name").fill("Blue key")
        await page.get_by_role("button", name="Add a key").click()
        await page.get_by_role("button", name="Register").click()
        await expect(page.get_by_role("cell", name="Blue key")).to_be_visible()


async def with_a_key(page: Page) -> None:
    """Give the page a passkey of its own, which verifies whoever is there."""
    session = await page.context.new_cdp_session(page)
    await session.send("WebAuthn.enable")
    options = {
        "protocol": "ctap2",
        "transport": "internal",
        "hasResidentKey": True,
        "hasUserVerification": True,
        "isUserVerified": True,
        "automaticPresenceSimulation": True,
    }
    await session.send("WebAuthn.addVirtualAuthenticator", {"options": options})


def for_browsers(port: int) -> dict[str, str]:
    """The settings of a console that a browser opens at its own address, with its assets."""
    home = Home.at(REPOSITORY / ".muster")
    assets.ensure(home)
    return {
        "MUSTER_CONSOLE_URL": f"http://localhost:{port}",
        "MUSTER_API_PORT": str(port),
        "MUSTER_CONSOLE_ASSETS_DIR": str(assets.folder(home)),
    }


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
