"""A Mac is locked by a PIN that Muster makes, keeps, and shows once; a real command_queue behind
the console.
"""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from playwright.async_api import Page, expect

from shared.events.devices import Platform
from shared.runtime.testing import Trial
from tests.command_queue.fleet import Fleet, Phone
from tests.console.behind import Asked, owner_in_chromium
from tests.console.browsing import Browser, signed_in, words_of
from tests.console.chromium import NEEDED
from tests.console.fleet import state

pytestmark = NEEDED
READS = ["inventory.read", "command.read"]


@pytest.fixture
async def page(console: Trial, calls: Asked) -> AsyncIterator[Page]:
    async with owner_in_chromium(console, calls) as page:
        yield page


async def _mac(console: Trial, fleet: Fleet) -> Phone:
    mac: Phone = await fleet.enroll(platform=Platform.MACOS, os_version="15.1")
    known = state(mac.device_id, name="Ada's Mac", serial="C02XK1", platform=Platform.MACOS)
    await console.hears(known, service="enrollment")
    return mac


async def test_a_mac_is_locked_and_its_pin_is_shown_once(
    console: Trial, fleet: Fleet, page: Page
) -> None:
    mac = await _mac(console, fleet)
    await page.goto(f"/devices/{mac.device_id}")
    await page.get_by_role("link", name="Lock…").click()
    await expect(page.get_by_text("starts only by a PIN of six digits")).to_be_visible()
    await expect(page.get_by_role("heading", name="Budget for destructive")).to_be_visible()
    await page.get_by_label("Reason").fill("left on a train")
    await page.get_by_label("Type C02XK1 to confirm").fill("C02XK1")
    await page.get_by_role("button", name="Lock", exact=True).click()
    await page.get_by_role("button", name="Use a security key or passkey").click()
    await expect(page.locator("#asked")).to_contain_text("Its PIN is kept under Secrets")
    await fleet.job("expand targets")
    given = await mac.idle()
    assert given is not None
    pin: str = given.command["PIN"]
    await mac.say("Acknowledged", given.command_uuid)
    await console.hears(*await fleet.finished(), service="command_queue")
    await expect(page.locator("#asked")).to_contain_text("Acknowledged")

    await page.locator("#asked").get_by_role("link", name="Secrets").click()
    row = page.get_by_role("row", name="PIN that starts it again")
    await expect(row).to_contain_text("Ada Lovelace")
    await expect(row).to_contain_text("to nobody yet")
    assert pin not in await page.content()
    await row.get_by_label("What for").fill("its owner is at the desk")
    await row.get_by_role("button", name="Show…").click()
    await expect(page.get_by_text("Show a PIN of Ada's Mac")).to_be_visible()
    assert pin not in await page.content()
    await page.clock.install()
    await page.get_by_role("button", name="Use a security key or passkey").click()
    await expect(page.get_by_text(pin, exact=True)).to_be_visible()
    await page.clock.fast_forward(59_000)
    await expect(page.get_by_text(pin, exact=True)).to_be_visible()
    await page.clock.fast_forward(2_000)
    await expect(page.get_by_text("It is hidden again.")).to_be_visible()
    assert pin not in await page.content()
    await page.get_by_role("link", name="Done").click()
    await expect(row).to_be_visible()
    await expect(row).not_to_contain_text("to nobody yet")
    assert pin not in await page.content()


async def test_news_take_away_nothing_that_is_being_typed(
    console: Trial, fleet: Fleet, page: Page
) -> None:
    mac = await _mac(console, fleet)
    await fleet.ask(mac, kind="device.lock")
    await page.goto(f"/devices/{mac.device_id}?tab=secrets")
    row = page.get_by_role("row", name="PIN that starts it again")
    await expect(row).to_contain_text("Queued")
    await row.get_by_label("What for").click()
    await page.keyboard.type("its owner is ")
    await mac.drain()
    await console.hears(*await fleet.finished(), service="command_queue")
    await expect(row).to_contain_text("Acknowledged")
    await page.keyboard.type("here")
    await expect(row.get_by_label("What for")).to_have_value("its owner is here")


async def _kept(fleet: Fleet, mac: Phone) -> str:
    await fleet.ask(mac, kind="device.lock", reason="left on a train")
    path = f"/api/v1/commands/devices/{mac.device_id}/secrets"
    [kept] = (await fleet.trial.call("GET", path)).json["items"]
    return f"/devices/{mac.device_id}/secrets/{kept['secret_id']}/reveal"


async def _see(console: Trial, mac: Phone, *permissions: str) -> tuple[Browser, str]:
    browser = await signed_in(console, everywhere=[*READS, *permissions])
    return browser, words_of(await browser.get(f"/devices/{mac.device_id}?tab=secrets"))


@pytest.mark.usefixtures("proven")
async def test_who_may_not_sees_that_something_is_kept_and_what_is_missing(
    console: Trial, fleet: Fleet, calls: Asked
) -> None:
    calls.actor = "reader"
    mac = await _mac(console, fleet)
    path = await _kept(fleet, mac)
    browser, words = await _see(console, mac)
    assert "PIN that starts it again" in words
    assert "This needs the permission secret.reveal." in words
    assert (await browser.post(path, {"reason": "curious"})).status == 403
    assert await fleet.rows("SELECT FROM reveal") == []


async def test_it_takes_a_second_factor_and_a_purpose(
    console: Trial, fleet: Fleet, calls: Asked
) -> None:
    calls.actor = "ada"
    mac = await _mac(console, fleet)
    path = await _kept(fleet, mac)
    browser, _ = await _see(console, mac, "secret.reveal")
    assert (await browser.post(path)).status == 422
    answer = await browser.post(path, {"reason": "its owner is here"})
    assert answer.status == 403
    assert "Is it really you?" in answer.text
    assert await fleet.rows("SELECT FROM reveal") == []


@pytest.mark.usefixtures("proven")
async def test_one_person_is_shown_a_few_and_a_page_without_scripts_forgets_too(
    console: Trial, fleet: Fleet, calls: Asked
) -> None:
    calls.actor = "ada"
    mac = await _mac(console, fleet)
    path = await _kept(fleet, mac)
    given = await mac.idle()
    assert given is not None
    browser, _ = await _see(console, mac, "secret.reveal")
    for _ in range(5):
        answer = await browser.post(path, {"reason": "its owner is here"})
        assert answer.status == 200
        assert given.command["PIN"] in answer.text
        assert answer.headers["Cache-Control"] == "no-store"
        assert answer.headers["Refresh"] == f"60; url=/devices/{mac.device_id}?tab=secrets"
    answer = await browser.post(path, {"reason": "once more"})
    assert answer.status == 429
    assert given.command["PIN"] not in answer.text
    assert "5 of 5 in one hour" in words_of(answer)
