"""Approving in a real browser with a key of its own, at a real command_queue: a held erase runs."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import pytest
from playwright.async_api import Page, expect

from shared.bus import outbox
from shared.events.access import AccountState
from shared.runtime.testing import Trial
from tests.command_queue.approving import API, aged
from tests.command_queue.fleet import Fleet
from tests.console.behind import Asked
from tests.console.browsing import Browser, signed_in
from tests.console.chromium import NEEDED, page_of, with_a_registered_key

pytestmark = NEEDED


@pytest.fixture
def queue_settings() -> dict[str, str]:
    """Whatever destroys is held."""
    return {"MUSTER_COMMAND_QUEUE_DESTRUCTIVE_OF_ACTOR": '[{"minutes": 10, "least": 0}]'}


@pytest.fixture
async def owner(console: Trial) -> Browser:
    return await signed_in(console, role="owner")


@pytest.fixture
async def page(
    console: Trial, owner: Browser, fleet: Fleet, calls: Asked, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Page]:
    """A page of an owner with a key, of which command_queue has known for three days."""
    async with page_of(owner) as page:
        await with_a_registered_key(page, monkeypatch)
        told = await _told(console)
        calls.actor = f"account:{told.account_id}"
        await fleet.trial.hears(told, service="console")
        fleet.clock.advance(timedelta(hours=73))
        yield page


async def _told(console: Trial) -> AccountState:
    """What the console says of the account, as it went into its outbox."""
    async with console.context.pool.acquire() as connection:
        events = await outbox.read(connection, "console")
    return [one for one in events if isinstance(one, AccountState)][-1]


async def _held(fleet: Fleet) -> tuple[Any, str]:
    phone = await fleet.enroll()
    body = {
        "kind": "device.erase",
        "device_ids": [str(phone.device_id)],
        "idempotency_key": "one",
        "reason": "left on a train",
    }
    answer = await fleet.trial.call("POST", API, body, actor="eve")
    assert answer.json["state"] == "held"
    await fleet.job("expand targets")
    return phone, str(answer.json["command_id"])


async def test_a_second_persons_key_lets_a_held_erase_run(fleet: Fleet, page: Page) -> None:
    phone, _ = await _held(fleet)
    assert await phone.idle() is None
    await page.goto("/approvals")
    row = page.get_by_role("row", name=re.compile("Erase"))
    await expect(row).to_contain_text("0 of 1")
    await expect(row).to_contain_text("left on a train")
    await row.get_by_role("link").click()
    await page.get_by_role("button", name="Approve with my key").click()
    await expect(page.get_by_text("Nothing waits for approval")).to_be_visible()
    await fleet.job("queue released targets")
    given = await phone.idle()
    assert given is not None
    assert given.request_type == "EraseDevice"


async def test_it_is_refused_with_a_reason(fleet: Fleet, page: Page) -> None:
    phone, command_id = await _held(fleet)
    await page.goto(f"/approvals/{command_id}")
    await page.get_by_label("Reason").fill("it was found")
    await page.get_by_role("button", name="Refuse").click()
    await expect(page.get_by_text("Nothing waits for approval")).to_be_visible()
    shown = await fleet.show(command_id)
    assert (shown["state"], shown["end_reason"]) == ("cancelled", "refused: it was found")
    assert await phone.idle() is None


async def test_a_freeze_stops_all_and_two_keys_end_it(fleet: Fleet, page: Page) -> None:
    [other] = await aged(fleet, 1)
    other.key.origin = await page.evaluate("window.location.origin")
    phone = await fleet.enroll()
    await fleet.ask(phone)
    await page.goto("/approvals")
    await page.locator("#reason-freeze").fill("an incident")
    await page.get_by_role("button", name="Freeze").click()
    alarm = page.get_by_role("alert").filter(has_text="All commands are frozen")
    await expect(alarm).to_contain_text("an incident")
    assert await phone.idle() is None
    await alarm.get_by_role("link", name="Lift").click()
    await page.get_by_role("button", name="Lift with my key").click()
    await page.wait_for_url("**/approvals")
    assert await phone.idle() is None
    [freeze] = (await fleet.trial.call("GET", f"{API}/freeze")).json["items"]
    assert (await other.lift(freeze["freeze_id"])).json["lifted"]
    await page.goto("/approvals")
    await expect(alarm).to_have_count(0)
    assert await phone.idle() is not None


async def test_everything_is_cancelled_at_once(fleet: Fleet, page: Page) -> None:
    phone = await fleet.enroll()
    asked = await fleet.ask(phone)
    fleet.clock.advance(timedelta(seconds=1))
    await page.goto("/approvals")
    await page.locator("#reason-cancel-all").fill("stop")
    async with page.expect_response("**/approvals/cancel-all"):  # it leads back to where one is
        await page.get_by_role("button", name="Cancel all").click()
    assert await phone.idle() is None
    await fleet.job("sweep ended commands")
    assert (await fleet.show(asked["command_id"]))["state"] == "cancelled"
