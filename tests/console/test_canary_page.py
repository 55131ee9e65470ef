"""The page of a wide change: how the first devices took it, going on and stopping."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import pytest

from shared.runtime.testing import RecordedCalls
from tests.console.browsing import signed_in, words_of
from tests.console.fleet import START, Console
from tests.console.test_commands_screen import COMMAND_ID, COMMANDS, _answer, _command, _target

RIGHTS = ("command.read", "command.request", "command.configuration.install", "command.cancel")


def _change(actor: str, **canary: Any) -> dict[str, Any]:
    told = {
        "devices": 5,
        "answered": 2,
        "rest": 495,
        "begun_at": START.isoformat(),
        "continued_at": None,
        "continued_by": None,
        "why_not": None,
    }
    return _command(
        actor,
        kind="configuration.install",
        request_type="InstallProfile",
        target_count=500,
        progress={"acknowledged": 2, "sent": 3, "parked": 495},
        canary=told | canary,
    )


@pytest.mark.usefixtures("proven")
async def test_a_person_lets_it_go_on(view: Console, calls: RecordedCalls) -> None:
    browser = await signed_in(view.service, everywhere=RIGHTS)
    _answer(calls, _change("ada"), _target(uuid4(), "sent"))
    words = words_of(await browser.get(f"/commands/{COMMAND_ID}"))
    assert "5 devices have it first, and 495 wait until a person has looked" in words
    assert "2 of the first answered so far" in words
    assert "Waiting behind the first devices 495" in words
    assert "Continue with 495 devices" in words
    assert "Stop: cancel the rest" in words
    answer = await browser.post(f"/commands/{COMMAND_ID}/continue")
    assert answer.headers["Location"] == f"/commands/{COMMAND_ID}"
    asked = [one[:3] for one in calls.calls]
    assert ("command_queue", "POST", f"{COMMANDS}/{COMMAND_ID}/continue") in asked


async def test_going_on_asks_for_a_second_factor(view: Console, calls: RecordedCalls) -> None:
    browser = await signed_in(view.service, everywhere=RIGHTS)
    _answer(calls, _change("ada"))
    await browser.get(f"/commands/{COMMAND_ID}")
    answer = await browser.post(f"/commands/{COMMAND_ID}/continue")
    assert (answer.status, "Nothing was done yet" in answer.text) == (403, True)
    assert all(one[1] == "GET" for one in calls.calls)


async def test_why_it_cannot_go_on_is_said(view: Console, calls: RecordedCalls) -> None:
    browser = await signed_in(view.service, everywhere=RIGHTS)
    why = "None of the first devices has answered yet."
    _answer(calls, _change("ada", answered=0, why_not=why))
    answer = await browser.get(f"/commands/{COMMAND_ID}")
    assert why in words_of(answer)
    assert f"/commands/{COMMAND_ID}/continue" not in answer.text
    reader = await signed_in(view.service, everywhere=["command.read", "command.request"])
    words = words_of(await reader.get(f"/commands/{COMMAND_ID}"))
    assert "This needs the permission command.configuration.install." in words


async def test_who_let_it_go_on_is_named(view: Console, calls: RecordedCalls) -> None:
    browser = await signed_in(view.service, everywhere=RIGHTS)
    by = f"account:{browser.account_id}"
    change = _change("ada", continued_at=START.isoformat(), continued_by=by)
    _answer(calls, change)
    words = words_of(await browser.get(f"/commands/{COMMAND_ID}"))
    assert "Ada Lovelace let it go on behind the first 5" in words
    assert "Cancel the rest" in words
