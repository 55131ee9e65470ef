"""The console under test, with a clock that stands still."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from services.console.step_up import StepUp
from tests.console.fleet import Console, console
from tools.embedded.testing import MakeDatabase


@pytest.fixture
async def view(make_database: MakeDatabase, tmp_path: Path) -> AsyncIterator[Console]:
    async with console(await make_database("console"), tmp_path) as running:
        yield running


@pytest.fixture
def proven(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every request counts as stepped up: test_step_up.py shows what that takes."""

    async def always(_self: StepUp, _person: object, _digest: str) -> bool:
        return True

    monkeypatch.setattr(StepUp, "is_proven", always)
