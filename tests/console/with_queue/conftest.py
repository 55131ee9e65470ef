"""A console at an address that browsers open, before a real command_queue (see behind.py).

A module may say what command_queue is set to.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from pathlib import Path

import pytest

from shared.runtime.testing import Trial
from tests.command_queue.fleet import Fleet
from tests.console.behind import Asked, console_before, queue_behind
from tests.console.chromium import free_port
from tools.embedded.testing import MakeDatabase


@pytest.fixture
def calls() -> Asked:
    return Asked()


@pytest.fixture
def port() -> int:
    return free_port()


@pytest.fixture
def queue_settings() -> Mapping[str, str]:
    return {}


@pytest.fixture
async def fleet(
    make_database: MakeDatabase,
    tmp_path: Path,
    port: int,
    calls: Asked,
    queue_settings: Mapping[str, str],
) -> AsyncIterator[Fleet]:
    folder = tmp_path / "command_queue"
    folder.mkdir()
    async with queue_behind(calls, make_database, folder, port, **queue_settings) as fleet:
        yield fleet


@pytest.fixture
async def console(
    make_database: MakeDatabase, tmp_path: Path, port: int, calls: Asked
) -> AsyncIterator[Trial]:
    folder = tmp_path / "console"
    folder.mkdir()
    async with console_before(calls, make_database, folder, port) as running:
        yield running
