"""The screen Budgets, over command_queue's API."""

from __future__ import annotations

from typing import Any

import pytest

from shared.runtime.testing import RecordedCalls
from tests.console.browsing import signed_in, words_of
from tests.console.fleet import Console

BUDGETS = "/api/v1/commands/budgets"


@pytest.fixture
def calls() -> RecordedCalls:
    calls = RecordedCalls()
    calls.answers["command_queue", BUDGETS] = {
        "items": [
            _row("actor", "destructive", 10, 5, 3),
            _row("installation", "destructive", 60, 2, 9),
            _row("actor", "disruptive", 1440, 5000, 0),
        ]
    }
    return calls


def _row(whose: str, kind: str, minutes: int, limit: int, spent: int) -> dict[str, Any]:
    return {
        "whose": whose,
        "command_class": kind,
        "window_minutes": minutes,
        "limit": limit,
        "spent": spent,
    }


async def test_budgets_tell_what_is_left(view: Console, calls: RecordedCalls) -> None:
    reader = await signed_in(view.service, everywhere=["command.read"])
    text = words_of(await reader.get("/settings/budgets"))
    for said in ("You 10 minutes 2 of 5", "Everybody together an hour 0 of 2", "5,000 of 5,000"):
        assert said in text, said
    calls.failing.add("command_queue")
    silent = await reader.get("/settings/budgets")
    assert (silent.status, "does not answer now" in words_of(silent)) == (503, True)


async def test_they_are_not_for_everybody(view: Console) -> None:
    nobody = await signed_in(view.service, everywhere=["inventory.read"])
    assert (await nobody.get("/settings/budgets")).status == 403
