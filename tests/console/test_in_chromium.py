"""The console in a real browser: its policy lets all of its own through, and keys work."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from playwright.async_api import Page, expect

from services.console.app import SERVICE
from services.console.setup import link, offer
from shared.db.pool import transaction
from shared.runtime.testing import Trial, trial
from tests.console.browsing import signed_in
from tests.console.chromium import (
    NEEDED,
    chromium,
    for_browsers,
    free_port,
    uncomplaining,
    with_a_key,
)
from tools.embedded.testing import MakeDatabase

pytestmark = NEEDED


@pytest.fixture
async def service(make_database: MakeDatabase, tmp_path: Path) -> AsyncIterator[Trial]:
    environ = for_browsers(free_port())
    async with trial(SERVICE, await make_database("console"), tmp_path, environ=environ) as running:
        yield running


@pytest.fixture
async def page() -> AsyncIterator[Page]:
    """A page that fails the test when the browser complains: of our policy, of our scripts."""
    async with chromium() as browser:
        page = await browser.new_page()
        with uncomplaining(page):
            yield page


async def test_from_the_first_link_to_signed_in_and_back_by_passkey(
    service: Trial, page: Page
) -> None:
    url = service.context.settings.address
    async with transaction(service.context.pool) as tx:
        token = await offer(tx, service.context.clock)
    assert token is not None
    await with_a_key(page)
    await page.goto(link(url, token))
    await page.get_by_label("Your name").fill("Ada Lovelace")
    await page.get_by_label("E-mail").fill("ada@example.org")
    await page.get_by_label("Password").fill("a walk in the wet woods")
    await page.get_by_role("button", name="Go on").click()
    await page.get_by_role("button", name="Security key or passkey").click()
    await expect(page.get_by_role("heading", name="Overview")).to_be_visible()

    await page.get_by_role("button", name="Sign out").click()
    await expect(page.get_by_role("heading", name="Sign in")).to_be_visible()
    await page.goto(f"{url}/me/sessions?a=1")
    await page.get_by_label("E-mail").fill("ADA@example.org")
    await page.get_by_label("Password").fill("a walk in the wet woods")
    await page.get_by_role("button", name="Sign in").click()
    await page.get_by_role("button", name="Use a security key").click()
    await expect(page.get_by_role("heading", name="Where you are signed in")).to_be_visible()
    assert page.url == f"{url}/me/sessions?a=1"

    await page.get_by_role("link", name="Your second factors").click()
    await page.get_by_role("button", name="Set up an app").click()
    await expect(page.get_by_role("heading", name="Is it really you?")).to_be_visible()
    await page.get_by_role("button", name="Use a security key").click()
    await expect(page.get_by_alt_text("The QR code")).to_be_visible()


@pytest.mark.usefixtures("proven")
async def test_a_sealed_account_is_opened_by_its_key_alone(service: Trial, page: Page) -> None:
    """Nobody says whose key it is: the authenticator finds it by itself."""
    url = service.context.settings.address
    owner = await signed_in(service, role="owner")
    fields = {"name": "Safe in Berlin", "email": "safe@example.org"}
    answer = await owner.post("/settings/people/sealed", fields)
    [join] = re.findall(r'id="link">([^<]+)<', answer.text)
    await with_a_key(page)
    await page.goto(join)
    await page.get_by_role("button", name="Register the key").click()
    await page.get_by_role("button", name="Security key or passkey").click()
    await expect(page.get_by_role("heading", name="Overview")).to_be_visible()
    await page.get_by_role("button", name="Sign out").click()
    await page.get_by_role("link", name="open a sealed account").click()
    await page.get_by_role("button", name="Use the key").click()
    await expect(page.get_by_role("heading", name="Overview")).to_be_visible()
    await expect(page.get_by_text("The sealed account “Safe in Berlin” was used")).to_be_visible()
    assert page.url == f"{url}/"


async def test_light_and_dark_are_kept(service: Trial, page: Page) -> None:
    url = service.context.settings.address
    await page.emulate_media(color_scheme="dark")
    await page.goto(f"{url}/sign-in")
    assert await page.locator("html").get_attribute("data-bs-theme") == "dark"
    background = await page.evaluate("getComputedStyle(document.body).backgroundColor")
    await page.emulate_media(color_scheme="light")
    await page.goto(f"{url}/sign-in")
    assert await page.evaluate("getComputedStyle(document.body).backgroundColor") != background
