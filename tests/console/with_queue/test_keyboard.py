"""Locking a device with the keyboard alone, from the sign-in page to the outcome; a real
command_queue behind the console, a phone that polls it, and no mouse.
"""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from playwright.async_api import Error, Page, expect

from shared.runtime.testing import Trial
from tests.chaos.rig import patiently
from tests.command_queue.fleet import Fleet, Phone
from tests.console.behind import (
    EMAIL,
    PASSWORD,
    Asked,
    owner_in_chromium,
)
from tests.console.chromium import NEEDED
from tests.console.fleet import state

pytestmark = NEEDED
WHERE = """
(() => {
  const e = document.activeElement;
  const label = e.labels && e.labels.length ? e.labels[0].textContent : "";
  return (e.ariaLabel || label || e.textContent).trim();
})()
"""
VISIBLE = """
(() => {
  const e = document.activeElement;
  const look = getComputedStyle(e);
  const ring = (look.outlineStyle !== "none" && parseFloat(look.outlineWidth) > 0)
    || look.boxShadow !== "none";
  const box = e.getBoundingClientRect();
  const inside = box.width > 1 && box.height > 1 && box.top >= 0 && box.bottom <= innerHeight;
  return e !== document.body && e.matches(":focus-visible") && ring && inside;
})()
"""


@pytest.fixture
async def page(console: Trial, calls: Asked) -> AsyncIterator[Page]:
    """The sign-in page, in the browser of the owner, who has a key."""
    async with owner_in_chromium(console, calls) as page:
        await page.get_by_role("button", name="Sign out").click()
        await expect(page.get_by_role("heading", name="Sign in")).to_be_visible()
        yield page


async def test_the_keyboard_alone_locks_a_device(console: Trial, fleet: Fleet, page: Page) -> None:
    phone = await _phone(console, fleet)
    await _sign_in(page)
    await _tab_to(page, "Devices")
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("heading", name="Devices", level=1)).to_be_visible()
    await page.wait_for_load_state()  # its scripts know the keys
    await page.keyboard.type("/f17pq0")
    await expect(page.locator("[data-row]")).to_have_count(1)
    await _tab_to(page, "Ada's iPhone")
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("heading", level=1)).to_have_text("Ada's iPhone")

    await _tab_to(page, "Lock…")
    await page.keyboard.press("Enter")
    await _is_at(page, "Message on the locked screen")
    await _tab_to(page, "Cancel")
    await page.keyboard.press("Enter")
    await _is_at(page, "Lock…")
    await page.keyboard.press("Enter")
    await _is_at(page, "Message on the locked screen")
    await page.keyboard.type("Please call")
    await _tab_to(page, "Reason")
    await page.keyboard.type("left on a train")
    await _tab_to(page, "Type F17PQ0 to confirm")
    await page.keyboard.type("F17PQ0")
    await _tab_to(page, "Lock")
    await page.keyboard.press("Space")
    await _is_at(page, "Use a security key or passkey")
    await page.keyboard.press("Enter")
    await _is_at(page, "Lock…")
    asked = page.locator("#asked")
    await fleet.job("expand targets")
    await expect(asked).to_contain_text("Queued, waiting for the device")

    given = await phone.idle()
    assert given is not None
    assert given.command["Message"] == "Please call"
    await phone.say("Acknowledged", given.command_uuid)
    await console.hears(*await fleet.finished(), service="command_queue")
    await expect(asked).to_contain_text("Acknowledged")
    await _is_at(page, "Lock…")


async def test_a_mistake_in_the_dialog_is_said_and_mended_by_keyboard(
    console: Trial, fleet: Fleet, page: Page
) -> None:
    phone = await _phone(console, fleet)
    await _sign_in(page)
    await page.goto(f"/devices/{phone.device_id}/actions/restart")
    await _is_at(page, "Reason")
    await page.keyboard.type("an update")
    await _tab_to(page, "Type F17PQ0 to confirm")
    await page.keyboard.type("F17PQ9")
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("alert")).to_contain_text("What you typed is not F17PQ0")
    await _is_at(page, "Type F17PQ0 to confirm")
    assert await fleet.queued() == []


async def _phone(console: Trial, fleet: Fleet) -> Phone:
    phone: Phone = await fleet.enroll()
    known = state(phone.device_id, name="Ada's iPhone", serial="F17PQ0")
    await console.hears(known, service="enrollment")
    return phone


async def _sign_in(page: Page) -> None:
    await _is_at(page, "E-mail")
    await page.keyboard.type(EMAIL)
    await _tab_to(page, "Password")
    await page.keyboard.type(PASSWORD)
    await page.keyboard.press("Enter")
    await _is_at(page, "Use a security key or passkey")
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("heading", name="Overview")).to_be_visible()


async def _is_at(page: Page, name: str) -> None:
    """The focus comes to be there by itself, where one can see it."""

    async def there() -> bool:
        try:
            return bool(await page.evaluate(WHERE) == name)
        except Error:
            return False  # between two pages

    await patiently(there, seconds=30)
    await _is_seen(page)


async def _tab_to(page: Page, name: str) -> None:
    """Press Tab until the focus is there; on its way it is never out of sight."""
    for _ in range(60):
        await page.keyboard.press("Tab")
        await _is_seen(page)
        if await page.evaluate(WHERE) == name:
            return
    pytest.fail(f"Tab does not reach {name}")


async def _is_seen(page: Page) -> None:
    """Scrolling and rings take a moment."""
    try:
        await patiently(lambda: page.evaluate(VISIBLE), seconds=30)
    except AssertionError:
        what = await page.evaluate("document.activeElement.outerHTML.slice(0, 300)")
        pytest.fail(f"nobody sees that the focus is on {what}")
