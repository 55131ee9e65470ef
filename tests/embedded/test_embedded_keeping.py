"""What dies is started again, and a disk that fills is told of, once."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tools.embedded import keeping
from tools.embedded.errors import EmbeddedError
from tools.embedded.home import Home
from tools.embedded.kafka import Kafka
from tools.embedded.keeping import ROOM, Disk, Keeper, Kept
from tools.embedded.postgres import Postgres
from tools.embedded.testing import broker, running

MB = 1024 * 1024
ROOMY = Disk(free=90 * MB, total=100 * MB)
FULL = Disk(free=1 * MB, total=100 * MB)


@dataclass
class Fake:
    """A server that dies when told, and does not start while it is ill."""

    died: bool = False
    ill: int = 0
    starts: int = 0

    async def start(self) -> None:
        self.starts += 1
        if self.ill:
            self.ill -= 1
            raise EmbeddedError("ill")
        self.died = False


@dataclass
class Scene:
    server: Fake
    said: list[str]
    disk: Disk = ROOMY

    async def until(self, true: Callable[[], bool]) -> None:
        async with asyncio.timeout(30):
            while not true():  # noqa: ASYNC110
                await asyncio.sleep(0.005)

    def heard(self, words: str) -> int:
        return sum(words in line for line in self.said)


@pytest.fixture
async def scene(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Scene]:
    made = Scene(Fake(), [])
    monkeypatch.setattr(keeping, "_EVERY_SECONDS", 0.01)
    monkeypatch.setattr(keeping, "_FIRST_PAUSE", 0.01)
    monkeypatch.setattr(Disk, "of", lambda _: made.disk)
    kept = Kept("Kafka", made.server, Path("/data"), "devices are served.")
    async with _running(Keeper([kept], made.said.append)):
        yield made


@asynccontextmanager
async def _running(keeper: Keeper) -> AsyncIterator[None]:
    task = asyncio.create_task(keeper.run())
    try:
        yield
        assert not task.done()
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_a_server_that_died_is_started_until_it_stays(scene: Scene) -> None:
    scene.server.ill = 3
    scene.server.died = True
    await scene.until(lambda: scene.heard("Kafka is back") == 1)
    assert scene.server.starts == 4
    assert scene.said[0] == "Kafka died and is started again; devices are served."
    assert scene.heard("did not start, next try in") == 3
    scene.server.died = True
    await scene.until(lambda: scene.heard("Kafka is back") == 2)


async def test_with_a_full_disk_it_waits_for_room_and_says_so_once(scene: Scene) -> None:
    scene.disk = FULL
    scene.server.died = True
    await scene.until(lambda: scene.heard("Kafka waits: its disk is full") == 1)
    await asyncio.sleep(0.1)
    assert scene.server.starts == 0
    assert scene.heard("waits") == scene.heard("nearly full") == 1
    assert scene.heard("(/data: 1 MB of 100 MB are free). Free at least 48 MB") == 1
    scene.disk = ROOMY
    await scene.until(lambda: scene.heard("Kafka is back") == 1)
    assert scene.heard("has room again") == 1


async def test_a_disk_that_fills_is_told_before_anything_dies(scene: Scene) -> None:
    scene.disk = FULL
    await scene.until(lambda: scene.heard("The disk under Kafka is nearly full") == 1)
    assert scene.server.starts == 0


async def test_a_keeper_that_stumbles_goes_on(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    def gone(_: Path) -> Disk:
        raise FileNotFoundError

    monkeypatch.setattr(Disk, "of", gone)
    scene.server.died = True
    await asyncio.sleep(0.05)
    monkeypatch.setattr(Disk, "of", lambda _: ROOMY)
    await scene.until(lambda: scene.heard("Kafka is back") == 1)


@pytest.mark.parametrize(
    ("free", "total", "low"),
    [
        (ROOM - 1, 300 * MB, True),
        (ROOM, 300 * MB, False),
        (99 * MB, 1000 * MB, True),
        (101 * MB, 1000 * MB, False),
        (2047 * MB, 10_000_000 * MB, True),
        (2049 * MB, 10_000_000 * MB, False),
    ],
)
def test_low_is_a_tenth_but_never_more_than_two_gigabytes(free: int, total: int, low: bool) -> None:
    assert Disk(free, total).low is low


@pytest.mark.parametrize("end", ["stop", "kill"])
@pytest.mark.parametrize("kind", ["postgres", "kafka"])
async def test_who_is_told_to_end_never_looks_dead(own_home: Home, kind: str, end: str) -> None:
    """Else the keeper brings back what somebody stops."""
    server: Postgres | Kafka
    if kind == "kafka":
        server = broker(own_home, for_tests=True)
    else:
        server = Postgres(own_home, own_home.ports(["postgres"])["postgres"], for_tests=True)
    await server.start()
    ending = asyncio.create_task(getattr(server, end)())
    while not ending.done():
        assert not server.died
        await asyncio.sleep(0)
    await ending
    assert server.pid is None
    async with running(server):
        assert server.pid is not None
        os.kill(server.pid, signal.SIGKILL)
        async with asyncio.timeout(20):
            while not server.died:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
