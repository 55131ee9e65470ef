"""PostgreSQL stands still under load: devices are asked to come again, and the memory stays small.

A stopped server breaks no connection and answers nothing: what a stalled disk looks like.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import aiohttp
import pytest

from services.command_queue.app import SERVICE
from shared.runtime.testing import trial
from tests.command_queue.fleet import Fleet, Phone
from tests.processes.conftest import RunningClock
from tests.processes.family import Family, family
from tools.embedded import testing
from tools.embedded.home import Home
from tools.embedded.postgres import Postgres

pytestmark = pytest.mark.timeout(300)  # starting processes is what a busy machine is slow at

CONNECTIONS = 200
WAITING = 50
MEGABYTE = 1024 * 1024


@pytest.fixture
async def postgres(muster_home: Home) -> AsyncIterator[Postgres]:
    """A server of its own: nobody else may stand still with it."""
    home = Home.at(muster_home.root / "hangs", cache=muster_home.cache)
    port = home.ports(["postgres"])["postgres"]
    async with testing.running(Postgres(home, port, for_tests=True)) as server:
        yield server


@contextmanager
def _stopped(server: Postgres) -> Iterator[None]:
    """The postmaster and all of its backends stand still for the length of a block."""
    assert server.pid is not None
    children = Path(f"/proc/{server.pid}/task/{server.pid}/children").read_text().split()
    everybody = [server.pid, *map(int, children)]
    for pid in everybody:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in everybody:
            os.kill(pid, signal.SIGCONT)


class Load:
    """Devices that poll on connections of their own, as fast as they are answered."""

    def __init__(self, family: Family, phones: list[Phone]) -> None:
        self.statuses: Counter[int] = Counter()
        self.without_hint = 0
        self._url = family.url("devices") + "/mdm/apple/connect"
        self._phones, self._over = phones, asyncio.Event()

    async def run(self) -> None:
        connector = aiohttp.TCPConnector(limit=0)
        timeout = aiohttp.ClientTimeout(60)
        async with aiohttp.ClientSession(connector=connector, timeout=timeout) as session:
            polls = (
                self._poll(session, self._phones[number % len(self._phones)])
                for number in range(CONNECTIONS)
            )
            await asyncio.gather(*polls)

    def stop(self) -> None:
        self._over.set()

    async def _poll(self, session: aiohttp.ClientSession, phone: Phone) -> None:
        body = phone.body("Idle")
        headers = {"Mdm-Signature": phone.identity.header(body, datetime.now(UTC))}
        while not self._over.is_set():
            async with session.put(self._url, data=body, headers=headers) as answer:
                self.statuses[answer.status] += 1
                if answer.status == 503 and answer.headers.get("Retry-After") != "5":
                    self.without_hint += 1
            await asyncio.sleep(0.05)

    async def until(self, status: int, times: int) -> None:
        wanted = self.statuses[status] + times
        async with asyncio.timeout(60):
            while self.statuses[status] < wanted:  # noqa: ASYNC110
                await asyncio.sleep(0.02)


def _memory(family: Family) -> int:
    """Resident bytes of all processes together."""
    pages = [int(Path(f"/proc/{pid}/statm").read_text().split()[1]) for pid in family.children()]
    return sum(pages) * os.sysconf("SC_PAGE_SIZE")


async def test_a_database_that_stands_still_is_answered_with_come_again(
    postgres: Postgres, tmp_path: Path, muster_home: Home
) -> None:
    servers = testing.Databases(postgres.admin_dsn)
    async with servers.lent() as make:
        dsn = await make("command_queue")
        environ = {
            "MUSTER_DATABASE_URL": dsn,
            "MUSTER_KEYS_DIR": str(tmp_path),
            "MUSTER_LOG_LEVEL": "ERROR",
            "MUSTER_LINGER_SECONDS": "0.2",
            "MUSTER_COMMAND_QUEUE_MAX_WAITING": str(WAITING),
        }
        async with trial(SERVICE, dsn, tmp_path) as here:
            fleet = Fleet(here, RunningClock(datetime.now(UTC)))
            await fleet.publish()
            phones = await fleet.enroll(40)
        log = tmp_path / "family.log"
        async with family("command_queue", environ, muster_home, log) as them:
            load = Load(them, phones)
            running = asyncio.create_task(load.run())
            await load.until(200, 2 * CONNECTIONS)
            before = _memory(them)
            with _stopped(postgres):
                await load.until(503, 5 * CONNECTIONS)
                waiting = await them.measured("muster_db_batch_waiting")
                grown = _memory(them) - before
            await load.until(200, 2 * CONNECTIONS)
            load.stop()
            await running
    assert all(count <= 3 * WAITING for count in waiting)  # three batchers a process
    assert grown < 30 * MEGABYTE
    assert set(load.statuses) == {200, 503}
    assert load.without_hint == 0
