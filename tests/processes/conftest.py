"""command_queue on a database of its own, answered by three processes instead of one."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import aiohttp
import pytest

from services.command_queue.app import SERVICE
from shared.runtime.clock import FixedClock
from shared.runtime.settings import ListenerName
from shared.runtime.testing import Trial, trial
from tests.command_queue.fleet import NO_BUDGETS, Fleet
from tests.processes.family import Family, family
from tools.embedded.home import Home
from tools.embedded.testing import MakeDatabase

PROCESSES = 3


class RunningClock(FixedClock):
    """The time of day: other processes have no other."""

    def now(self) -> datetime:
        return datetime.now(UTC)

    def advance(self, by: timedelta) -> None:
        """Nobody can."""


class Elsewhere(Trial):
    """Asks the family; only jobs and events run in the test's own process."""

    family: Family

    def url(self, listener: ListenerName) -> str:
        return self.family.url(listener)


def family_of(fleet: Fleet) -> Family:
    """The processes that answer a fleet."""
    assert isinstance(fleet.trial, Elsewhere)
    return fleet.trial.family


@pytest.fixture
async def queue_database(make_database: MakeDatabase) -> str:
    return await make_database("command_queue")


@pytest.fixture
async def fleet(queue_database: str, tmp_path: Path, muster_home: Home) -> AsyncIterator[Fleet]:
    """The devices of tests/command_queue, which now meet another process each time."""
    environ = {
        "MUSTER_DATABASE_URL": queue_database,
        "MUSTER_KEYS_DIR": str(tmp_path),
        "MUSTER_POOL_SIZE": "4",
        "MUSTER_LOG_LEVEL": "WARNING",
        "MUSTER_LINGER_SECONDS": "1",
        "MUSTER_COMMAND_QUEUE_SEEN_FLUSH_SECONDS": "0.5",
        **NO_BUDGETS,
    }
    clock = RunningClock(datetime.now(UTC))
    async with trial(
        SERVICE, queue_database, tmp_path, clock=clock, environ={"MUSTER_POOL_SIZE": "4"}
    ) as here:
        log = tmp_path / "family.log"
        async with (
            family("command_queue", environ, muster_home, log, processes=PROCESSES) as them,
            # A connection a request: each may meet another process.
            aiohttp.ClientSession(connector=aiohttp.TCPConnector(force_close=True)) as session,
        ):
            there = Elsewhere(here.running, here._listening, tmp_path, session)
            there.family = them
            found = Fleet(there, clock)
            await found.publish()
            yield found
