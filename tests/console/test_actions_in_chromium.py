"""Doing something to a device in a real browser: by keyboard alone, with a key, outcome live."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from playwright.async_api import Page, expect

from shared.events import uuid7
from shared.events.commands import CommandFinished, TargetState
from shared.runtime.testing import RecordedCalls
from tests.console.browsing import signed_in
from tests.console.chromium import (
    NEEDED,
    for_browsers,
    free_port,
    page_of,
    with_a_registered_key,
)
from tests.console.fleet import START, Console

pytestmark = NEEDED
COMMANDS = "/api/v1/commands"
COMMAND_ID = uuid7()


@pytest.fixture
def calls() -> RecordedCalls:
    calls = RecordedCalls()
    calls.answers["command_queue", COMMANDS] = {"command_id": str(COMMAND_ID), "state": "active"}
    return calls


@pytest.fixture
def environ() -> dict[str, str]:
    return for_browsers(free_port())


@pytest.fixture
async def page(view: Console, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Page]:
    """A page of an owner with a key of their own."""
    async with page_of(await signed_in(view.service, role="owner")) as page:
        await with_a_registered_key(page, monkeypatch)
        yield page


def _tell(calls: RecordedCalls, device_id: object, state: str) -> None:
    """Let command_queue say how far the command is."""
    path = f"{COMMANDS}/{COMMAND_ID}"
    calls.answers["command_queue", path] = {
        "kind": "device.lock",
        "state": "active",
        "reason": "left on a train",
        "hold_reason": None,
    }
    target = {"device_id": str(device_id), "state": state, "reason": None, "errors": None}
    calls.answers["command_queue", f"{path}/targets"] = {"items": [target], "next": None}
    of_device: dict[str, object] = {"queue": [], "items": [], "next": None}
    calls.answers["command_queue", f"{COMMANDS}/devices/{device_id}"] = of_device


async def test_the_keyboard_alone_locks_and_the_outcome_arrives(
    view: Console, page: Page, calls: RecordedCalls
) -> None:
    device_id = await view.device(name="Ada's iPhone", serial="F17PQ0")
    _tell(calls, device_id, "queued")
    await page.goto("/devices")
    for key in ("j", "Enter"):
        await page.keyboard.press(key)
    await expect(page.get_by_role("heading", level=1)).to_have_text("Ada's iPhone")
    await _tab_to(page, "Lock…")
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("heading", level=1)).to_have_text("Lock")
    await _tab_to(page, "reason")
    await page.keyboard.type("left on a train")
    await page.keyboard.press("Tab")
    await page.keyboard.type("F17PQ0")
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("heading", name="Is it really you?")).to_be_visible()
    assert [call for call in calls.calls if call[1] == "POST"] == []
    await _tab_to(page, "Use a security key or passkey")
    await page.keyboard.press("Enter")
    asked = page.locator("#asked")
    await expect(asked).to_contain_text("Queued, waiting for the device")
    assert len([call for call in calls.calls if call[1] == "POST"]) == 1
    _tell(calls, device_id, "acknowledged")
    finished = CommandFinished(
        device_id=device_id,
        command_id=COMMAND_ID,
        kind="device.lock",
        state=TargetState.ACKNOWLEDGED,
        queued_at=START,
        finished_at=START,
    )
    await view.service.hears(finished, service="command_queue")
    await expect(asked).to_contain_text("Acknowledged")


async def _tab_to(page: Page, name: str) -> None:
    """Press Tab until the focus is on a link or button with this text, or a field of this name."""
    at = "(() => { const e = document.activeElement; return e.name || e.textContent.trim(); })()"
    for _ in range(60):
        await page.keyboard.press("Tab")
        if await page.evaluate(at) == name:
            return
    pytest.fail(f"Tab does not reach {name}")


async def test_the_dialog_works_without_scripts(
    view: Console, page: Page, calls: RecordedCalls
) -> None:
    device_id = await view.device(name="a", serial="F17PQ0")
    assert page.context.browser is not None
    plain = await page.context.browser.new_context(
        base_url=view.service.context.settings.address,
        java_script_enabled=False,
        storage_state=await page.context.storage_state(),
    )
    bare = await plain.new_page()
    await bare.goto(f"/devices/{device_id}")
    await bare.get_by_role("link", name="Erase").click()
    await bare.get_by_label("Reason").fill("sold")
    await bare.get_by_label("Type F17PQ0 to confirm").fill("F17PQ9")
    await bare.get_by_role("button", name="Erase").click()
    await expect(bare.get_by_role("alert").first).to_contain_text("What you typed is not F17PQ0")
    assert [call for call in calls.calls if call[1] == "POST"] == []


async def test_selected_devices_get_a_command_and_the_rest_is_cancelled(
    view: Console, page: Page, calls: RecordedCalls
) -> None:
    first = await view.device(name="a")
    for name in ("b", "c"):
        await view.device(name=name)
    await page.goto("/devices")
    await page.get_by_label("Select a", exact=True).check()
    await page.get_by_label("Select c").check()
    await expect(page.get_by_text("With selected: 2")).to_be_visible()
    await view.device(first, name="a new name")
    await expect(page.get_by_label("Select a new name")).to_be_checked()
    await page.get_by_text("With selected: 2").click()
    await page.get_by_role("button", name="Restart").first.click()
    await expect(page.get_by_role("heading", level=1)).to_have_text("Restart: 2 devices")
    await page.get_by_label("Reason").fill("an update")
    await page.get_by_label("Type the number of devices").fill("2")
    _progress(calls, queued=2)
    await page.get_by_role("button", name="Restart").click()
    await page.get_by_role("button", name="Use a security key").click()
    await expect(page.get_by_text("0 of 2 through")).to_be_visible()
    _progress(calls, queued=1, acknowledged=1)
    await view.device(first, name="another name")
    await expect(page.get_by_text("1 of 2 through")).to_be_visible()
    await page.get_by_label("Reason").fill("enough")
    _progress(calls, acknowledged=1, cancelled=1)
    await page.get_by_role("button", name="Cancel the rest").click()
    await expect(page.get_by_text("2 of 2 through")).to_be_visible()
    asked = [(call[2], call[3]) for call in calls.calls if call[1] == "POST"]
    assert [path for path, _ in asked] == [COMMANDS, f"{COMMANDS}/{COMMAND_ID}/cancel"]
    assert asked[1][1] == {"reason": "enough"}


def _progress(calls: RecordedCalls, **counts: int) -> None:
    """Let command_queue say how far a command for two devices is."""
    path = f"{COMMANDS}/{COMMAND_ID}"
    calls.answers["command_queue", path] = {
        "command_id": str(COMMAND_ID),
        "kind": "device.restart",
        "request_type": "RestartDevice",
        "command_class": "disruptive",
        "summary": {"request_type": "RestartDevice"},
        "actor": "account:somebody",
        "reason": "an update",
        "state": "active" if "queued" in counts else "cancelled",
        "hold_reason": None,
        "end_reason": None,
        "target_count": 2,
        "created_at": START.isoformat(),
        "expires_at": START.isoformat(),
        "progress": counts,
    }
    calls.answers["command_queue", f"{path}/targets?limit=50"] = {"items": [], "next": None}
