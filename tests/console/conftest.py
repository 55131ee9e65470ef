"""The console under test, with a clock that stands still."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.console.fleet import Console, console
from tools.embedded.testing import MakeDatabase


@pytest.fixture
async def view(make_database: MakeDatabase, tmp_path: Path) -> AsyncIterator[Console]:
    async with console(await make_database("console"), tmp_path) as running:
        yield running
