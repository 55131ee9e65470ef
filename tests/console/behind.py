"""A real command_queue behind the console under test, in the place of recorded answers."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from services.command_queue.app import SERVICE as COMMAND_QUEUE
from shared.runtime.clock import FixedClock
from shared.runtime.internal import Answered
from shared.runtime.testing import RecordedCalls, Trial, trial
from tests.command_queue.fleet import Fleet
from tests.console.fleet import START
from tools.embedded.testing import MakeDatabase


class Asked(RecordedCalls):
    """Passes what the console asks in its one person's name on to a real command_queue."""

    def __init__(self) -> None:
        super().__init__()
        self.queue: Trial | None = None
        self.actor = ""

    async def for_person(
        self,
        service: str,
        method: str,
        path: str,
        token: str,
        body: Mapping[str, Any] | None = None,
    ) -> Answered:
        if service != "command_queue" or self.queue is None:
            return await super().for_person(service, method, path, token, body)
        answer = await self.queue.call(method, path, body, actor=self.actor, via="session:one")
        return Answered(answer.status, answer.json)


@asynccontextmanager
async def queue_behind(
    calls: Asked, make_database: MakeDatabase, folder: Path, port: int, **settings: str
) -> AsyncIterator[Fleet]:
    """command_queue with devices; `port`: where browsers open the console."""
    clock = FixedClock(START)
    environ = {
        "MUSTER_COMMAND_QUEUE_CONSOLE_URL": f"http://localhost:{port}",
        "MUSTER_COMMAND_QUEUE_FAN_OUT_SHARE": "1",
        **settings,
    }
    dsn = await make_database("command_queue")
    async with trial(COMMAND_QUEUE, dsn, folder, clock=clock, environ=environ) as queue:
        calls.queue = queue
        fleet = Fleet(queue, clock)
        await fleet.publish()
        yield fleet
