"""Installing a profile from a file, and removing it again: what a person is told before it is sent,
and what the device is given. A real command_queue behind the console.
"""

from __future__ import annotations

import plistlib
from collections.abc import AsyncIterator
from typing import Any

import pytest
from playwright.async_api import Page, expect

from shared.runtime.testing import Trial
from tests.command_queue.fleet import Fleet, Phone
from tests.console.behind import Asked, owner_in_chromium
from tests.console.chromium import NEEDED
from tests.console.fleet import state

pytestmark = NEEDED


def profile(payload_type: str = "com.apple.wifi.managed", **keys: Any) -> bytes:
    payload = {"PayloadType": payload_type, "PayloadIdentifier": "a", "PayloadUUID": "2", **keys}
    return plistlib.dumps(
        {
            "PayloadType": "Configuration",
            "PayloadIdentifier": "org.example.wifi",
            "PayloadUUID": "1",
            "PayloadVersion": 1,
            "PayloadContent": [payload],
        }
    )


@pytest.fixture
async def page(console: Trial, calls: Asked) -> AsyncIterator[Page]:
    async with owner_in_chromium(console, calls) as page:
        yield page


@pytest.fixture
async def phone(console: Trial, fleet: Fleet) -> Phone:
    phone: Phone = await fleet.enroll()
    known = state(phone.device_id, name="Ada's iPhone", serial="F17PQ0")
    await console.hears(known, service="enrollment")
    return phone


async def test_a_profile_is_chosen_judged_installed_and_removed(
    console: Trial, fleet: Fleet, page: Page, phone: Phone
) -> None:
    chosen = profile(SSID_STR="Bureau ünd Café", Password="sésame")
    await page.goto(f"/devices/{phone.device_id}")
    await page.get_by_role("link", name="Install profile…").click()
    await _choose(page, chosen)
    await expect(page.get_by_label("Profile", exact=True)).to_have_value(chosen.decode())
    await _confirm(page, "Install profile")
    await expect(page.get_by_text("Nothing was done yet")).to_be_visible()
    await expect(page.locator(".card-body .h3")).to_have_text(
        "Install profile org.example.wifi (com.apple.wifi.managed), which counts as disruptive:"
        " Ada's iPhone (F17PQ0)"
    )
    assert await fleet.queued() == []
    await page.get_by_role("button", name="Use a security key").click()
    given = await _given(fleet, page, phone)
    assert given.command["RequestType"] == "InstallProfile"
    assert plistlib.loads(given.command["Payload"]) == plistlib.loads(chosen)
    await _done(console, fleet, page, phone, given.command_uuid)

    await page.goto(f"/devices/{phone.device_id}/actions/remove?identifier=org.example.wifi")
    await expect(page.get_by_label("Identifier of the profile")).to_have_value("org.example.wifi")
    await _confirm(page, "Remove profile")
    await page.get_by_role("button", name="Use a security key").click()
    given = await _given(fleet, page, phone)
    assert given.command["RequestType"] == "RemoveProfile"
    assert given.command["Identifier"] == "org.example.wifi"
    await _done(console, fleet, page, phone, given.command_uuid)


async def test_what_is_no_profile_is_said_before_a_key_is_asked_for(
    fleet: Fleet, page: Page, phone: Phone
) -> None:
    await page.goto(f"/devices/{phone.device_id}/actions/install")
    await _choose(page, b"\x30\x80 no CMS \xff")
    await expect(page.get_by_label("Profile", exact=True)).to_have_value("MIAgbm8gQ01TIP8=")
    await _confirm(page, "Install profile")
    alert = page.get_by_role("alert")
    await expect(alert).to_contain_text("neither XML nor signed XML")
    await expect(alert).to_contain_text("Nothing was asked of the device")
    await expect(page.get_by_label("Profile", exact=True)).to_have_value("")
    await expect(page.get_by_text("The one that you chose is kept")).to_be_visible()
    await _choose(page, profile())
    await page.get_by_role("button", name="Install profile").click()
    await expect(page.get_by_text("Nothing was done yet")).to_be_visible()
    assert await fleet.queued() == []


async def test_a_file_that_is_too_long_is_not_taken(page: Page, phone: Phone) -> None:
    await page.goto(f"/devices/{phone.device_id}/actions/install")
    await _choose(page, b"\x30" * 1_100_000)
    field = page.get_by_label("Profile", exact=True)
    await expect(field).to_have_js_property("validationMessage", "a.mobileconfig is too long.")
    await expect(field).to_have_value("")


async def _choose(page: Page, content: bytes) -> None:
    file: Any = {"name": "a.mobileconfig", "mimeType": "application/xml", "buffer": content}
    await page.get_by_label("File that holds it: Profile").set_input_files(file)


async def _confirm(page: Page, title: str) -> None:
    await page.get_by_label("Reason").fill("a new office")
    await page.get_by_label("Type F17PQ0 to confirm").fill("F17PQ0")
    await page.get_by_role("button", name=title).click()


async def _given(fleet: Fleet, page: Page, phone: Phone) -> Any:
    """What the device is told next, once the page says that it waits."""
    await expect(page.locator("#asked")).to_be_visible()
    await fleet.job("expand targets")
    await expect(page.locator("#asked")).to_contain_text("Queued, waiting for the device")
    given = await phone.idle()
    assert given is not None
    return given


async def _done(console: Trial, fleet: Fleet, page: Page, phone: Phone, command_uuid: str) -> None:
    await phone.say("Acknowledged", command_uuid)
    await console.hears(*await fleet.finished(), service="command_queue")
    await expect(page.locator("#asked")).to_contain_text("Acknowledged")
