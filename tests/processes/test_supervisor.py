"""The parent of several processes: one queue of peers, children that come back, one end for all."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from shared.runtime.listening import ListenerTaken
from shared.runtime.settings import Listener
from shared.runtime.supervisor import bound, die_with
from tests.processes.family import ROOT, Family, family_ports
from tools.embedded.home import Home

pytestmark = pytest.mark.timeout(300)  # starting processes is what a busy machine is slow at

PARENT = """
import asyncio, os, sys
from shared.runtime import logs
from shared.runtime.settings import Settings
from shared.runtime.supervisor import Supervisor

logs.set_up("INFO")
settings = Settings.load(os.environ, "inventory")
command = [sys.executable, "-c", os.environ["CHILD"]]
asyncio.run(Supervisor("inventory", command, os.environ, settings, ["api"], 3).run())
"""
# As little as a child can be: it takes turns with its siblings and tells who it is.
CHILD = """
import json, os, selectors, signal, socket, sys

if os.environ.get("SICK"):
    sys.exit(3)
over = []
signal.signal(signal.SIGTERM, lambda *_: over.append(True))
[fd] = json.loads(os.environ["MUSTER_INVENTORY_LISTEN_FDS"])["api"]
shared = socket.socket(fileno=fd)
shared.setblocking(False)
own = socket.create_server(("127.0.0.1", int(os.environ["MUSTER_INVENTORY_INTERNAL_PORT"])))
own.setblocking(False)
waiting = selectors.DefaultSelector()
waiting.register(shared, selectors.EVENT_READ)
waiting.register(own, selectors.EVENT_READ)
while not over:
    for key, _ in waiting.select(0.02):
        try:
            peer, _ = key.fileobj.accept()
        except BlockingIOError:
            continue
        peer.setblocking(True)
        peer.recv(1000)
        peer.sendall(b"HTTP/1.1 200 OK\\r\\n\\r\\n%d" % os.getpid())
        peer.close()
"""
Start = Callable[..., Awaitable[Family]]


@pytest.fixture
async def start(tmp_path: Path, muster_home: Home) -> AsyncIterator[Start]:
    made: list[Family] = []

    async def begin(**environ: str) -> Family:
        ports = family_ports(muster_home, 3)
        log = tmp_path / f"parent-{len(made)}.log"
        with log.open("ab") as output:
            parent = await asyncio.create_subprocess_exec(
                *(sys.executable, "-c", PARENT),
                env={
                    **os.environ,
                    **{f"MUSTER_{name.upper()}_PORT": str(port) for name, port in ports.items()},
                    "CHILD": CHILD,
                    "PYTHONPATH": str(ROOT),
                    **environ,
                },
                stdout=output,
                stderr=output,
                preexec_fn=die_with(os.getpid()),
            )
        made.append(Family(parent, ports, 3, log))
        return made[-1]

    yield begin
    for each in made:
        await each.stop()


async def _ask(family: Family) -> int:
    """Who answers a new connection."""
    reader, writer = await asyncio.open_connection("127.0.0.1", family.ports["api"])
    writer.write(b"hello")
    answer = await reader.read()
    writer.close()
    return int(answer.rpartition(b"\n")[2])


async def _until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not true():  # noqa: ASYNC110 - other processes tell nobody
            await asyncio.sleep(0.02)


def _gone(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return True
    return state == "Z"


@asynccontextmanager
async def _callers(family: Family, count: int = 8) -> AsyncIterator[list[int]]:
    """Peers that connect one after the other all the while; none is ever turned away."""
    answers: list[int] = []
    over = asyncio.Event()

    async def call() -> None:
        while not over.is_set():
            answers.append(await _ask(family))

    async with asyncio.TaskGroup() as group:
        for _ in range(count):
            group.create_task(call())
        yield answers
        over.set()


async def test_all_answer_at_one_address(start: Start) -> None:
    family = await start()
    await family.until_ready()
    children = set(family.children())
    assert len(children) == 3
    async with _callers(family) as answers:
        await _until(lambda: set(answers) == children)
    assert await family.stop() == 0
    assert all(_gone(pid) for pid in children)
    with pytest.raises(ConnectionRefusedError):
        await _ask(family)


async def test_a_child_that_dies_comes_back_and_nobody_is_turned_away(start: Start) -> None:
    family = await start()
    await family.until_ready()
    first = family.children()
    os.kill(first[0], signal.SIGKILL)
    async with _callers(family) as answers:
        await _until(lambda: len(family.children()) == 3 and first[0] not in family.children())
        await family.until_ready()
        fresh = (set(family.children()) - set(first)).pop()
        await _until(lambda: fresh in answers)
    assert "A process died; it is started again" in family.said()


async def test_sighup_replaces_all_without_turning_anybody_away(start: Start) -> None:
    family = await start()
    await family.until_ready()
    first = set(family.children())
    async with _callers(family) as answers:
        family.parent.send_signal(signal.SIGHUP)
        await _until(lambda: "All processes are replaced" in family.said())
        fresh = set(family.children())
        assert not fresh & first
        await _until(lambda: fresh <= set(answers))


async def test_children_die_with_their_parent(start: Start) -> None:
    family = await start()
    await family.until_ready()
    children = family.children()
    await family.stop(signal.SIGKILL)
    await _until(lambda: all(_gone(pid) for pid in children))
    heir = await start()
    await heir.until_ready()


async def test_a_child_that_cannot_start_is_tried_again_with_growing_pauses(start: Start) -> None:
    family = await start(SICK="1")
    await _until(lambda: family.said().count('"seconds":2.0') == 3)
    assert family.said().count('"seconds":1.0') == 3
    assert await family.stop() == 0


async def test_an_address_that_is_taken_is_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(ListenerTaken, match=f"{port}.*set MUSTER_API_PORT"):
            bound(Listener("api", "127.0.0.1", port))


def test_a_name_may_stand_for_several_addresses() -> None:
    sockets = bound(Listener("api", "localhost", 0))
    try:
        assert {one.getsockname()[0] for one in sockets} <= {"127.0.0.1", "::1"}
    finally:
        for one in sockets:
            one.close()
