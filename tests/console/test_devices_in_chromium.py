"""The screens of devices in a real browser: find, filter, sort, share; keys; news as it comes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta

import pytest
from playwright.async_api import Page, expect

from shared.events import uuid7
from shared.events.compliance import VerdictState
from shared.events.devices import Platform
from tests.console.browsing import signed_in
from tests.console.chromium import NEEDED, for_browsers, free_port, page_of
from tests.console.fleet import START, Console, state

pytestmark = NEEDED


@pytest.fixture
def environ() -> dict[str, str]:
    return for_browsers(free_port())


@pytest.fixture
async def page(view: Console) -> AsyncIterator[Page]:
    """A page of somebody who is signed in; it fails the test when the browser complains."""
    person = await signed_in(view.service, everywhere=["inventory.read", "compliance.read"])
    async with page_of(person) as page:
        yield page


async def _names(page: Page) -> list[str]:
    return await page.locator("tbody a[data-open]").all_inner_texts()


async def test_find_filter_sort_and_share_the_link(view: Console, page: Page) -> None:
    await view.device(name="b", serial="F17PQ0", platform=Platform.MACOS)
    await view.device(name="a", serial="C39XK2", platform=Platform.MACOS)
    await view.device(name="c", serial="C39XK3", platform=Platform.IOS)
    await page.goto("/devices")
    assert await _names(page) == ["a", "b", "c"]
    await page.keyboard.press("/")
    await page.keyboard.type("39xk")
    await expect(page.locator("tbody tr")).to_have_count(2)
    await page.get_by_role("link", name="Name").click()
    await expect(page.locator("th[aria-sort=descending]")).to_be_visible()
    assert await _names(page) == ["c", "a"]
    await page.locator("summary", has_text="Platform").click()
    await page.get_by_label("macOS").check()
    await expect(page.locator("tbody tr")).to_have_count(1)
    assert page.url.endswith("/devices?q=39xk&platform=macos&descending=true")
    shared = await page.context.new_page()
    await shared.goto(page.url)
    assert await _names(shared) == ["a"]
    await expect(shared.get_by_label("macOS")).to_be_checked()
    await page.go_back()
    await expect(page.locator("tbody tr")).to_have_count(2)


async def test_the_first_device_appears_by_itself(view: Console, page: Page) -> None:
    await page.goto("/devices")
    await expect(page.get_by_text("No devices yet")).to_be_visible()
    await view.device(name="the first", serial="F17PQ0")
    await expect(page.get_by_role("link", name="the first")).to_be_visible()


async def test_the_keyboard_goes_through_rows_and_opens_one(view: Console, page: Page) -> None:
    for name in "abc":
        await view.device(name=name)
    await page.goto("/devices")
    for _ in range(2):
        await page.keyboard.press("j")
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("heading", level=1)).to_have_text("b")


async def test_news_come_by_themselves(view: Console, page: Page) -> None:
    device_id = await view.device(name="before", os_version="17.4")
    await page.goto("/devices")
    other = await page.context.new_page()
    await other.goto(f"/devices/{device_id}?tab=compliance")
    await expect(other.get_by_text("No policy has judged this device")).to_be_visible()
    await view.device(device_id, name="after", os_version="17.5")
    await expect(page.get_by_role("link", name="after")).to_be_visible()
    await expect(other.get_by_role("heading", level=1)).to_have_text("after")
    await view.verdict(device_id, uuid7(), VerdictState.NONCOMPLIANT)
    await expect(other.get_by_role("heading", name="Baseline")).to_be_visible()
    await expect(page.locator("tbody .badge", has_text="Not compliant")).to_be_visible()


async def test_of_news_that_come_at_once_the_last_stays(view: Console, page: Page) -> None:
    """A busy browser gets together what was told one after the other."""
    device_id = await view.device(name="before")
    await page.goto("/devices")
    await view.device(device_id, name="first")
    await expect(page.get_by_role("link", name="first")).to_be_visible()
    busy = "() => { const end = Date.now() + 3000; while (Date.now() < end); }"
    meanwhile = asyncio.create_task(page.evaluate(busy))
    for name in ("second", "third"):
        await asyncio.sleep(1)  # longer than the pause between what a stream tells
        await view.device(device_id, name=name)
    await meanwhile
    await expect(page.get_by_role("link", name="third")).to_be_visible()


async def test_who_comes_later_is_told_and_shown_when_one_asks(view: Console, page: Page) -> None:
    await view.device(name="a", platform=Platform.MACOS)
    await page.goto("/devices?platform=macos&column=serial&column=enrolled")
    await expect(page.locator("tbody tr")).to_have_count(1)
    await view.device(name="b", platform=Platform.IOS)
    await view.device(name="c", platform=Platform.MACOS, enrolled_at=START + timedelta(hours=1))
    line = page.get_by_role("status")
    await expect(line).to_have_text("1 new device matches: show it")
    await view.device(name="d", platform=Platform.MACOS, enrolled_at=START + timedelta(hours=2))
    await expect(line).to_have_text("2 new devices match: show them")
    assert await _names(page) == ["a"]
    await line.get_by_role("link").click()
    await expect(page.locator("tbody tr")).to_have_count(3)
    assert await _names(page) == ["d", "c", "a"]
    await expect(line).to_have_text("")
    await expect(page.get_by_role("columnheader", name="Enrolled")).to_be_visible()
    query = "platform=macos&column=serial&column=enrolled&sort=enrolled&descending=true"
    assert page.url.endswith(f"/devices?{query}")


async def test_many_newcomers_are_counted_so_far_and_no_further(view: Console, page: Page) -> None:
    await view.device(name="a")
    await page.goto("/devices")
    # None is here yet: the page is open before they come.
    await expect(page.locator("tbody tr")).to_have_count(1)
    await view.service.hears(*(state(uuid7()) for _ in range(100)), service="enrollment")
    line = page.get_by_role("status")
    await expect(line).to_have_text("More than 99 new devices match: show them")
    assert await page.locator("#newcomers [hx-trigger]").count() == 0


async def test_without_scripts_the_list_works_as_well(view: Console, page: Page) -> None:
    for name in ("a", "b"):
        await view.device(name=name)
    assert page.context.browser is not None
    plain = await page.context.browser.new_context(
        base_url=view.service.context.settings.address,
        java_script_enabled=False,
        storage_state=await page.context.storage_state(),
    )
    bare = await plain.new_page()
    await bare.goto("/devices?limit=1")
    await bare.get_by_role("link", name="Next").click()
    assert await _names(bare) == ["b"]
    await bare.get_by_label("Search devices").fill("a")
    await bare.get_by_role("button", name="Show").click()
    assert await _names(bare) == ["a"]


async def test_the_overview_draws_its_numbers(view: Console, page: Page) -> None:
    device_id = await view.device(name="a")
    await view.verdict(device_id, uuid7(), VerdictState.STALE)
    await page.goto("/")
    drawn = """() => [...document.querySelectorAll("canvas")].filter((one) =>
        one.getContext("2d").getImageData(0, 0, one.width, one.height).data.some(Boolean)).length"""
    # A chart comes with the first frame after the script, not with the page.
    # Asked from outside: a function that waits in the page would need eval, which is forbidden.
    async with asyncio.timeout(20):
        while await page.evaluate(drawn) != 3:
            await page.evaluate("() => new Promise(requestAnimationFrame)")
    await page.get_by_role("link", name="Stale").click()
    assert await _names(page) == ["a"]


@pytest.mark.parametrize("width", [1280, 390])
async def test_no_page_is_wider_than_the_screen(view: Console, page: Page, width: int) -> None:
    device_id = await view.device(name="a" * 200, serial="S" * 60, user="u" * 100, tags=["t" * 80])
    await page.set_viewport_size({"width": width, "height": 900})
    for path in ("/", "/devices", f"/devices/{device_id}", f"/devices/{device_id}?tab=compliance"):
        await page.goto(path)
        wide = await page.evaluate("document.documentElement.scrollWidth")
        assert wide <= width, path
