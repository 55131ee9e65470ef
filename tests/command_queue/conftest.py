"""A command_queue on a database of its own, with a clock that stands still."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from services.command_queue.app import SERVICE
from shared.runtime.clock import FixedClock
from shared.runtime.testing import trial
from tests.command_queue.fleet import NO_BUDGETS, Fleet
from tools.embedded.testing import MakeDatabase


@pytest.fixture
def clock() -> FixedClock:
    # Ids made by uuid7() carry the real time: the two must not be far apart.
    return FixedClock(datetime.now(UTC))


@pytest.fixture
def budgets() -> dict[str, str]:
    """Settings of the guard's budgets; tests of the guard leave them as they are."""
    return NO_BUDGETS


@pytest.fixture
async def fleet(
    make_database: MakeDatabase, tmp_path: Path, clock: FixedClock, budgets: dict[str, str]
) -> AsyncIterator[Fleet]:
    dsn = await make_database("command_queue")
    environ = {
        "MUSTER_COMMAND_QUEUE_SEEN_FLUSH_SECONDS": "3600",
        "MUSTER_COMMAND_QUEUE_FAN_OUT_SHARE": "1",
        **budgets,
    }
    async with trial(SERVICE, dsn, tmp_path, clock=clock, environ=environ) as running:
        found = Fleet(running, clock)
        await found.publish()
        yield found
