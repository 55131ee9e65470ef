"""The first day of an installation in a real browser: set up, enroll, find, lock, erase, audit."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator

import asyncpg
import pytest
from playwright.async_api import Page, expect

from services.console import setup
from shared.db.pool import prepare
from shared.runtime.clock import SystemClock
from tests.chaos.rig import patiently
from tests.conftest import REPOSITORY
from tests.console.chromium import NEEDED, chromium, uncomplaining, with_a_key
from tests.e2e.conftest import Workshop
from tests.e2e.rig import Person
from tools.embedded import assets
from tools.embedded.cluster import Cluster
from tools.embedded.home import Home
from tools.simulator.conversation import Conversation
from tools.simulator.device import SimulatedDevice

pytestmark = [NEEDED, pytest.mark.slow, pytest.mark.timeout(240)]
OWNER = "Ada Lovelace"


@pytest.fixture
async def page(cluster: Cluster) -> AsyncIterator[Page]:
    """Of somebody with a key; the test fails when the browser complains."""
    assets.ensure(Home.at(REPOSITORY / ".muster"))
    async with chromium() as browser:
        context = await browser.new_context(base_url=cluster.console_url)
        page = await context.new_page()
        await with_a_key(page)
        with uncomplaining(page):
            yield page


async def test_from_the_first_start_to_a_lock_an_erase_and_their_audit(
    cluster: Cluster, workshop: Workshop, page: Page
) -> None:
    await _set_up(page, await _link(cluster))
    address = await _make_credential(page)
    phone, other = workshop.device("iphone"), workshop.device("ipad")
    for device in (phone, other):
        await device.enroll(workshop.session, address)
    await _find(page, phone, other)
    await _lock(page, phone)
    await _erase(page, phone)
    await _read_audit(page)


async def test_a_mac_is_locked_by_the_pin_that_is_kept(workshop: Workshop, person: Person) -> None:
    mac = await workshop.enrolled("mac")
    device_id = await person.device_id(mac)
    command_id = await person.command(device_id, "device.lock")
    await _polls_until(mac, "DeviceLock")
    assert (await person.outcome(command_id))["state"] == "acknowledged"
    path = f"/api/v1/commands/devices/{device_id}/secrets"
    [kept] = (await person.ask("command_queue", "GET", path))["items"]
    reveal, why = f"{path}/{kept['secret_id']}/reveal", {"reason": "its owner is here"}
    shown = await person.ask("command_queue", "POST", reveal, json=why)
    assert re.fullmatch("[0-9]{6}", shown["value"])
    assert shown["value"] == mac.state.lock_pin


async def _link(cluster: Cluster) -> str:
    """What `muster up` prints at its first start."""
    connection = await asyncpg.connect(cluster.running.services["console"].database_url)
    try:
        await prepare(connection)
        async with connection.transaction():
            token = await setup.offer(connection, SystemClock())
    finally:
        await connection.close()
    assert token is not None
    return setup.link(cluster.console_url, token)


async def _set_up(page: Page, link: str) -> None:
    await page.goto(link)
    await page.get_by_label("Your name").fill(OWNER)
    await page.get_by_label("E-mail").fill("ada@example.org")
    await page.get_by_label("Password").fill("a walk in the wet woods")
    await page.get_by_role("button", name="Go on").click()
    await page.get_by_role("button", name="Security key or passkey").click()
    await expect(page.get_by_role("heading", name="Overview")).to_be_visible()


async def _make_credential(page: Page) -> str:
    """An address for two devices, by the form of the screen Enrollment."""
    await page.get_by_role("link", name="Enrollment").click()
    await page.get_by_label("Name").fill("Field phones")
    await page.get_by_label("Devices", exact=True).fill("2")
    await page.get_by_label("Without a person looking at them").select_option("any hardware")
    await page.get_by_role("button", name="Make an address").click()
    await expect(page.get_by_alt_text("The address as a QR code")).to_be_visible()
    return await page.get_by_role("link", name=re.compile("^https:")).inner_text()


async def _find(page: Page, phone: SimulatedDevice, other: SimulatedDevice) -> None:
    """Search, filter, sort; whoever is sent the address sees the same list."""
    for device in (other, phone):
        await patiently(lambda device=device: _is_listed(page, device), seconds=30)
    await page.get_by_role("link", name="Devices").click()
    rows = page.locator("[data-row]")
    await expect(rows.nth(1)).to_be_visible()  # among the devices of other tests, on many pages
    await page.wait_for_load_state()  # its scripts know the keys
    await page.keyboard.press("/")
    await page.keyboard.type(phone.traits.serial.lower())
    await expect(rows).to_have_count(1)
    await expect(rows).to_contain_text(phone.traits.serial)
    await page.locator("summary", has_text="Platform").click()
    await page.get_by_label("iOS", exact=True).check()
    await page.keyboard.press("Escape")
    await page.get_by_role("columnheader", name="Serial").get_by_role("link").click()
    await expect(page.get_by_role("columnheader", name="Serial")).to_have_attribute(
        "aria-sort", "ascending"
    )
    await expect(rows).to_have_count(1)
    shared = await page.context.new_page()
    await shared.goto(page.url)
    await expect(shared.locator("[data-row]")).to_have_count(1)
    await expect(shared.locator("[data-search]")).to_have_value(phone.traits.serial.lower())
    sorted_by = shared.get_by_role("columnheader", name="Serial")
    await expect(sorted_by).to_have_attribute("aria-sort", "ascending")
    await shared.close()
    await rows.get_by_role("link").click()
    await expect(page.get_by_text(f"serial {phone.traits.serial}")).to_be_visible()


async def _is_listed(page: Page, device: SimulatedDevice) -> bool:
    await page.goto(f"/devices?q={device.traits.serial}")
    return await page.locator("[data-row]").count() == 1


async def _act(page: Page, phone: SimulatedDevice, name: str, reason: str) -> None:
    """By the dialog, the serial, and the key."""
    await page.get_by_role("link", name=f"{name}…").click()
    await page.get_by_label("Reason").fill(reason)
    await page.get_by_label(f"Type {phone.traits.serial} to confirm").fill(phone.traits.serial)
    await page.get_by_role("button", name=name, exact=True).click()
    await expect(page.get_by_role("heading", name="Is it really you?")).to_be_visible()
    await page.get_by_role("button", name="Use a security key or passkey").click()


async def _lock(page: Page, phone: SimulatedDevice) -> None:
    await _act(page, phone, "Lock", "left on a train")
    asked = page.locator("#asked")
    await expect(asked).to_contain_text("Queued, waiting for the device")
    await page.evaluate("window.stayed = true")
    assert not phone.state.locked
    await _polls_until(phone, "DeviceLock")
    await expect(asked).to_contain_text("Acknowledged")
    assert await page.evaluate("window.stayed"), "the outcome came by itself, not by a new page"
    await expect(page.get_by_role("row", name=re.compile("Lock")).first).to_contain_text(OWNER)


async def _erase(page: Page, phone: SimulatedDevice) -> None:
    """One device lies within the budgets of whoever has just come, so that nothing is held."""
    await _act(page, phone, "Erase", "sold")
    asked = page.locator("#asked")
    await expect(asked).to_contain_text("Queued, waiting for the device")
    await _polls_until(phone, "EraseDevice")
    await expect(asked).to_contain_text("Acknowledged")
    assert phone.erased_in == 1


async def _polls_until(phone: SimulatedDevice, request_type: str) -> None:
    """The device comes until it has been given this; its first inventory goes on beside."""

    async def given() -> bool:
        await Conversation(phone).run()
        return any(one.request_type == request_type for one in phone.receipts)

    await patiently(given, seconds=30)


async def _read_audit(page: Page) -> None:
    """A row of each act, by who did it, on a page that is amended by itself."""
    await page.get_by_role("link", name="Audit").click()
    rows = page.locator("[data-row]")
    for what, why in (
        ("Console: setup", ""),
        ("Credential: create", ""),
        ("Command: create", "left on a train"),
        ("Command: create", "sold"),
    ):
        row = rows.filter(has_text=what).filter(has_text=why).filter(has_text=OWNER)
        await expect(row).to_have_count(1)
