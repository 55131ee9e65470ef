"""The screen Commands and the page of a command, over command_queue's API."""

from __future__ import annotations

from datetime import timedelta
from typing import Any
from urllib.parse import urlencode
from uuid import UUID, uuid4

import pytest

from services.console.http.command_page import progress_of
from shared.events import uuid7
from shared.runtime.testing import RecordedCalls
from tests.console.browsing import Browser, signed_in, words_of
from tests.console.fleet import START, Console

COMMANDS = "/api/v1/commands"
COMMAND_ID = uuid7()


@pytest.fixture
async def browser(view: Console) -> Browser:
    rights = ["inventory.read", "command.read", "command.cancel", "command.request"]
    return await signed_in(view.service, everywhere=[*rights, "command.device.lock"])


def _command(actor: str, **changes: Any) -> dict[str, Any]:
    return {
        "command_id": str(COMMAND_ID),
        "kind": "device.lock",
        "request_type": "DeviceLock",
        "command_class": "disruptive",
        "summary": {"request_type": "DeviceLock", "pin": "set"},
        "actor": actor,
        "reason": "left on a train",
        "state": "active",
        "hold_reason": None,
        "end_reason": None,
        "target_count": 4,
        "created_at": (START - timedelta(minutes=10)).isoformat(),
        "expires_at": (START + timedelta(days=7)).isoformat(),
        "progress": {"acknowledged": 1, "failed": 1, "queued": 2},
    } | changes


def _target(device_id: UUID, state: str, **changes: Any) -> dict[str, Any]:
    return {
        "target_id": str(uuid7()),
        "device_id": str(device_id),
        "state": state,
        "reason": None,
        "errors": None,
        "answer": None,
        "finished_at": None,
    } | changes


def _answer(calls: RecordedCalls, command: dict[str, Any], *targets: dict[str, Any]) -> None:
    path = f"{COMMANDS}/{COMMAND_ID}"
    calls.answers["command_queue", path] = command
    found = {"items": list(targets), "next": None}
    calls.answers["command_queue", f"{path}/targets?limit=50"] = found


async def test_the_list_names_what_and_who(
    view: Console, browser: Browser, calls: RecordedCalls
) -> None:
    command = _command(f"account:{browser.account_id}")
    calls.answers["command_queue", f"{COMMANDS}?limit=50"] = {"items": [command], "next": "abc"}
    page = await browser.get("/commands")
    text = words_of(page)
    for said in ("Lock 4 Under way Disruptive Ada Lovelace", "left on a train"):
        assert said in text, said
    assert f'href="/commands/{COMMAND_ID}"' in page.text
    assert 'rel="next" href="/commands?cursor=abc"' in page.text


async def test_filters_stand_in_the_url_and_reach_the_api(
    view: Console, browser: Browser, calls: RecordedCalls
) -> None:
    device_id = await view.device(serial="C39XK00001", name="Ada's iPhone")
    asked = {"kind": "device.lock", "state": "held", "actor": "account:1"}
    times = {"since": "2026-04-01T00:00:00Z", "until": "2026-05-01T12:00:00Z"}
    expected = urlencode({"limit": 50, **asked, "device": str(device_id), **times})
    calls.answers["command_queue", f"{COMMANDS}?{expected}"] = {"items": [], "next": None}
    for device in ("c39xk00001", "ADA'S IPHONE", str(device_id)):
        page = await browser.get(f"/commands?{urlencode({**asked, **times, 'device': device})}")
        assert "No command matches" in words_of(page)
        assert 'name="device" value="C39XK00001"' in page.text
        assert calls.calls[-1][2] == f"{COMMANDS}?{expected}"


async def test_a_device_that_is_not_seen_is_not_asked_about(
    view: Console, calls: RecordedCalls
) -> None:
    mine, theirs = await view.device(serial="MINE"), await view.device(serial="THEIRS")
    group = await view.group("Mine", mine)
    await view.group("Theirs", theirs)
    browser = await signed_in(view.service, groups={group: ["command.read", "inventory.read"]})
    calls.answers["command_queue", f"{COMMANDS}?limit=50&device={mine}"] = {
        "items": [],
        "next": None,
    }
    assert "No command matches" in words_of(await browser.get("/commands?device=mine"))
    asked = len(calls.calls)
    for device in ("theirs", str(theirs), "nobody"):
        text = words_of(await browser.get(f"/commands?device={device}"))
        assert f"No device that you see is called {device}." in text
    assert not any("theirs" in call[2] or str(theirs) in call[2] for call in calls.calls[asked:])


async def test_the_page_of_a_command_tells_progress_and_each_device(
    view: Console, browser: Browser, calls: RecordedCalls
) -> None:
    one, other = await view.device(name="Ada's iPhone"), uuid4()
    failed = _target(one, "failed", reason="not_enrolled", answer={"Status": "Error"})
    command = _command(f"account:{browser.account_id}")
    _answer(calls, command, failed, _target(other, "queued"))
    text = words_of(await browser.get(f"/commands/{COMMAND_ID}"))
    for said in (
        "Lock: 4 devices",
        "2 of 4 through; the rest in about 10 minutes",
        "Acknowledged 1",
        "Queued, waiting for the device 2",
        "Ada's iPhone Failed not enrolled",
        '"Status": "Error"',
        "A device that is gone, or not yours to see",
        '"pin": "set"',
        "Cancel the rest",
        "the 1 of this page that did not do it",
    ):
        assert said in text, said
    assert str(other) not in text
    page = await browser.get(f"/commands/{COMMAND_ID}")
    assert f'href="/bulk/lock?id={one}"' in page.text


async def test_what_is_over_is_neither_live_nor_cancelled(
    browser: Browser, calls: RecordedCalls
) -> None:
    done = _command("account:1", target_count=1, state="finished", progress={"acknowledged": 1})
    _answer(calls, done)
    page = await browser.get(f"/commands/{COMMAND_ID}")
    assert "sse-connect" not in page.text
    assert "/cancel" not in page.text


async def test_the_rest_is_cancelled_with_a_reason(
    view: Console, browser: Browser, calls: RecordedCalls
) -> None:
    path = f"/commands/{COMMAND_ID}/cancel"
    assert (await browser.post(path, {"reason": ""})).status == 422
    answer = await browser.post(path, {"reason": "wrong list"})
    assert answer.headers["Location"] == f"/commands/{COMMAND_ID}"
    asked = [call for call in calls.calls if call[1] == "POST"]
    body = {"reason": "wrong list"}
    assert asked == [("command_queue", "POST", f"{COMMANDS}/{COMMAND_ID}/cancel", body)]
    reader = await signed_in(view.service, everywhere=["command.read"])
    _answer(calls, _command("account:1"))
    text = words_of(await reader.get(f"/commands/{COMMAND_ID}"))
    assert "This needs the permission command.cancel." in text
    assert (await reader.post(path, {"reason": "x"})).status == 403


async def test_silence_and_emptiness_say_why(browser: Browser, calls: RecordedCalls) -> None:
    calls.answers["command_queue", f"{COMMANDS}?limit=50"] = {"items": [], "next": None}
    assert "Nothing was asked of any device" in words_of(await browser.get("/commands"))
    calls.answers["command_queue", f"{COMMANDS}?limit=50&state=held"] = {"items": [], "next": None}
    assert "All filters must hold" in words_of(await browser.get("/commands?state=held"))
    calls.failing.add("command_queue")
    assert "Commands go on as they were asked for" in words_of(await browser.get("/commands"))
    answer = await browser.get(f"/commands/{COMMAND_ID}")
    assert (answer.status, "Nothing was lost" in answer.text) == (503, True)


def test_how_long_the_rest_takes() -> None:
    begun = _command("x", target_count=101, progress={"acknowledged": 1, "queued": 100})
    assert progress_of(begun, START)["eta"] == "about 17 hours"
    unanswered = _command("x", progress={"queued": 4})
    assert progress_of(unanswered, START)["eta"] is None
    over = _command("x", state="cancelled", progress={"acknowledged": 1, "cancelled": 3})
    assert (progress_of(over, START)["left"], progress_of(over, START)["open"]) == (0, False)
