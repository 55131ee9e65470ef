"""To an identity provider and back in a real browser: its rules about forms, cookies and sites."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from playwright.async_api import expect

from tests.console.by_provider import Company, company
from tests.console.chromium import NEEDED, chromium, for_browsers, free_port, with_a_key
from tools.embedded.testing import MakeDatabase

pytestmark = [NEEDED, pytest.mark.usefixtures("proven")]


@pytest.fixture
async def here(make_database: MakeDatabase, tmp_path: Path) -> AsyncIterator[Company]:
    more = for_browsers(free_port())
    async with company(await make_database("console"), tmp_path, more=more) as found:
        yield found


@pytest.mark.parametrize("scripts", [True, False])
async def test_from_the_sign_in_page_to_the_second_factor(here: Company, scripts: bool) -> None:
    """With scripts it goes by itself; without, two more buttons are pressed."""
    url = here.service.context.settings.address
    await here.use(enabled="true", newcomers="true")
    async with chromium() as browser:
        page = await (await browser.new_context(java_script_enabled=scripts)).new_page()
        complaints: list[str] = []
        page.on("console", lambda said: complaints.append(said.text))
        if scripts:
            await with_a_key(page)
        await page.goto(f"{url}/me/sessions?a=1")
        await page.get_by_role("button", name="Go on with Company").click()
        if not scripts:
            await page.get_by_role("link", name="Go on to Company").click()
            await page.get_by_role("button", name="Go on").click()
        title = page.get_by_role("heading", name="A second factor for diana@example.org")
        await expect(title).to_be_visible()
        if scripts:
            await page.get_by_role("button", name="Security key or passkey").click()
            await expect(page.get_by_role("heading", name="Where you are signed")).to_be_visible()
            assert page.url == f"{url}/me/sessions?a=1"
        assert not [text for text in complaints if "Content Sec" in text]
