"""The console under test, with a clock that stands still."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping
from pathlib import Path

import pytest

from shared.runtime.testing import RecordedCalls
from tests.console.browsing import prove
from tests.console.fleet import Console, console
from tests.console.on_record import watched
from tools.embedded.testing import MakeDatabase


@pytest.fixture(autouse=True)
def on_record(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No page changes anything without an entry of the audit, whatever a test is about."""
    with watched(monkeypatch):
        yield


@pytest.fixture
def calls() -> RecordedCalls:
    """What the console asks of the other services; a module that needs answers says which."""
    return RecordedCalls()


@pytest.fixture
def environ() -> Mapping[str, str]:
    return {}


@pytest.fixture
async def view(
    make_database: MakeDatabase, tmp_path: Path, calls: RecordedCalls, environ: Mapping[str, str]
) -> AsyncIterator[Console]:
    dsn = await make_database("console")
    async with console(dsn, tmp_path, internal=calls, environ=environ) as running:
        yield running


@pytest.fixture
def proven(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every request counts as stepped up."""
    prove(monkeypatch)
