"""The screen Audit in a real browser: news come by themselves, a row opens, evidence is a file."""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.async_api import expect

from services.console.audit.verifying import verify
from tests.console.auditing import did, hear, told
from tests.console.browsing import signed_in
from tests.console.chromium import NEEDED, for_browsers, free_port, page_of
from tests.console.fleet import Console

pytestmark = NEEDED


@pytest.fixture
def environ() -> dict[str, str]:
    return for_browsers(free_port())


async def test_what_somebody_does_appears_opens_and_is_taken_along(
    view: Console, tmp_path: Path
) -> None:
    url = view.service.context.settings.address
    person = await signed_in(view.service, everywhere=["audit.read", "inventory.read"])
    device = await view.device(name="Ada's iPhone", serial="F17PQ0")
    async with page_of(person) as page:
        await page.goto("/audit")
        await expect(page.get_by_text("Nothing is on record yet")).to_be_visible()
        actor = f"account:{person.account_id}"
        values = {"before": {"user": None}, "after": {"user": "ada"}}
        change = did("device.change", actor=actor, target=str(device), **values)
        await hear(view.service, told(change))
        await expect(page.get_by_role("link", name="Device: change")).to_be_visible()
        await page.keyboard.press("j")
        await page.keyboard.press("Enter")
        await expect(page.get_by_role("heading", name="Device: change")).to_be_visible()
        await expect(page.get_by_role("row", name="user nothing ada")).to_be_visible()
        await page.get_by_role("link", name="Ada's iPhone").click()
        await expect(page).to_have_url(f"{url}/devices/{device}")
        await page.goto("/audit")
        await page.get_by_label("To what").fill("f17pq0")
        await page.get_by_role("button", name="Show").click()
        await expect(page.locator("[data-row]")).to_have_count(1)
        await view.service.run_job("sign_audit_root")
        async with page.expect_download() as started:
            await page.get_by_role("link", name="Export as evidence").click()
        file = tmp_path / "audit.jsonl"
        await (await started.value).save_as(file)
    assert verify(file.read_bytes().splitlines()).roots == 1
