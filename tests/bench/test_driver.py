"""The load generator against small servers: what it sends, counts and gives up."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiohttp import web

from tools.bench.driver import Manner, Target, drive, http_request
from tools.bench.generator import Generator
from tools.bench.scripts import Lines, Round, Talks
from tools.cli import local_tls

Reply = Callable[[bytes], bytes]
EMPTY = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
BUSY = b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 2\r\n\r\nno"


def answer(body: bytes) -> bytes:
    return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)


class Served:
    """What a small server has seen."""

    def __init__(self) -> None:
        self.bodies: list[bytes] = []
        self.connections = 0


@asynccontextmanager
async def serving(
    reply: Reply, *, closes_after: int = 0, pause: float = 0.0
) -> AsyncIterator[tuple[Target, Served]]:
    """Answers with what `reply` makes of each body; b"" breaks the connection."""
    served, open_ones = Served(), set[asyncio.Task[None]]()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        served.connections += 1
        if task := asyncio.current_task():
            open_ones.add(task)
        handled = 0
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                size = int(head.partition(b"Content-Length: ")[2].partition(b"\r\n")[0])
                body = await reader.readexactly(size)
                served.bodies.append(body)
                await asyncio.sleep(pause)
                said = reply(body)
                writer.write(said)
                await writer.drain()
                handled += 1
                if not said or (closes_after and handled >= closes_after):
                    break
        except (asyncio.IncompleteReadError, OSError):
            pass  # the client has left
        finally:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield Target("127.0.0.1", server.sockets[0].getsockname()[1]), served
    await asyncio.gather(*open_ones)


def requests(count: int) -> list[bytes]:
    return [http_request("PUT", "/", "here", b"%d" % number, {}) for number in range(count)]


async def test_every_request_is_sent_once_over_kept_connections() -> None:
    async with serving(lambda _: EMPTY) as (target, served):
        measured = await drive(target, Round(requests(100)), Manner(4))
    assert sorted(map(int, served.bodies)) == list(range(100))
    assert served.connections == 4
    assert measured.requests == 100
    assert measured.statuses == {200: 100}
    assert measured.wrong == 0
    assert measured.unfinished is None
    assert all(seconds > 0 for seconds in measured.latencies)


async def test_a_round_begins_again_until_enough_were_sent() -> None:
    async with serving(lambda _: EMPTY) as (target, served):
        measured = await drive(target, Round(requests(3), count=10), Manner(1))
    assert [int(body) for body in served.bodies] == [0, 1, 2, 0, 1, 2, 0, 1, 2, 0]
    assert measured.requests == 10


async def test_without_keeping_alive_each_request_has_its_own_connection() -> None:
    async with serving(lambda _: EMPTY) as (target, served):
        measured = await drive(target, Round(requests(20)), Manner(5, keep_alive=False))
    assert served.connections == 20
    assert len(served.bodies) == measured.requests == 20


async def test_statuses_are_counted_and_bodies_kept_by_place() -> None:
    async with serving(lambda body: BUSY if body == b"3" else answer(b"got " + body)) as (
        target,
        _,
    ):
        measured = await drive(target, Round(requests(5)), Manner(2, keep_bodies=True))
    assert measured.statuses == {200: 4, 503: 1}
    assert measured.wrong == 1
    assert measured.bodies == {0: b"got 0", 1: b"got 1", 2: b"got 2", 3: b"no", 4: b"got 4"}


async def test_a_broken_connection_costs_its_request_and_no_other() -> None:
    async with serving(lambda body: b"" if body == b"2" else EMPTY) as (target, served):
        measured = await drive(target, Round(requests(6)), Manner(1))
    assert measured.statuses == {200: 5, 0: 1}
    assert sorted(served.bodies) == [b"0", b"1", b"2", b"3", b"4", b"5"]
    assert served.connections == 2


async def test_a_server_that_announces_its_close_loses_nothing() -> None:
    last = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
    async with serving(lambda _: last, closes_after=1) as (target, served):
        measured = await drive(target, Round(requests(8)), Manner(2))
    assert measured.statuses == {200: 8}
    assert served.connections == 8


async def test_answers_in_pieces_and_in_chunks_are_understood() -> None:
    chunked = (
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nabcd\r\n1;x=y\r\ne\r\n0\r\n\r\n"
    )

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        for at in range(len(chunked)):
            writer.write(chunked[at : at + 1])
            await writer.drain()
            await asyncio.sleep(0)
        writer.close()
        await writer.wait_closed()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        target = Target("127.0.0.1", server.sockets[0].getsockname()[1])
        once = [http_request("PUT", "/", "here", b"", {})]
        measured = await drive(target, Round(once), Manner(1, keep_bodies=True))
    assert measured.bodies == {0: b"abcde"}


async def test_lines_are_said_in_order_and_a_refused_device_says_no_more() -> None:
    lines = [
        [http_request("PUT", "/", "here", b"%d%d" % (device, line), {}) for line in range(2)]
        for device in range(6)
    ]
    async with serving(lambda body: BUSY if body == b"40" else EMPTY) as (target, served):
        measured = await drive(target, Lines(lines), Manner(3))
    assert b"41" not in served.bodies
    assert measured.statuses == {200: 10, 503: 1}
    for device in (0, 1, 2, 3, 5):
        first, second = served.bodies.index(b"%d0" % device), served.bodies.index(b"%d1" % device)
        assert first < second


async def test_talks_answer_commands_until_there_are_none() -> None:
    waiting = {b"0": [b"A", b"B"], b"1": [], b"2": [b"unknown"]}

    def reply(body: bytes) -> bytes:
        device = body[:1]
        if not waiting[device]:
            return EMPTY
        uuid = waiting[device].pop(0)
        return answer(
            b"<dict><key>Command</key><dict/><key>CommandUUID</key>\n<string>%b</string>" % uuid
        )

    def say(text: bytes) -> bytes:
        return http_request("PUT", "/", "here", text, {})

    prepared = [{b"A": say(b"0 A"), b"B": say(b"0 B")}, {}, {}]
    async with serving(reply) as (target, served):
        measured = await drive(target, Talks(requests(3), prepared), Manner(1))
    assert served.bodies == [b"0", b"0 A", b"0 B", b"1", b"2"]
    assert measured.requests == 5


async def test_an_open_loop_keeps_its_plan_while_the_server_is_slow() -> None:
    async with serving(lambda _: EMPTY, pause=0.2) as (target, _):
        measured = await drive(target, Round(requests(4), count=4), Manner(1, rate=1000.0))
    # One connection and 0.2 s each: the last answer is late by the plan, not by its own sending.
    assert measured.requests == 4
    assert max(measured.latencies) > 0.75
    assert min(measured.latencies) < 0.4


async def test_a_server_that_never_answers_ends_by_the_limit() -> None:
    async with serving(lambda _: EMPTY, pause=1.0) as (target, served):
        measured = await drive(target, Round(requests(4)), Manner(2, limit_seconds=0.2))
    assert measured.unfinished == "stopped after 0.2 s"
    assert measured.requests == 0
    assert len(served.bodies) == 2


async def test_a_closed_port_is_told_and_not_waited_for_ever(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("tools.bench.driver._MOST_REFUSALS", 2)
    server = await asyncio.start_server(lambda _r, _w: None, "127.0.0.1", 0)
    target = Target("127.0.0.1", server.sockets[0].getsockname()[1])
    server.close()
    await server.wait_closed()
    measured = await drive(target, Round(requests(4)), Manner(2))
    assert measured.unfinished is not None
    assert "refused" in measured.unfinished


async def test_over_tls_and_in_a_process_of_its_own(tmp_path: Path) -> None:
    tls = local_tls.ensure(tmp_path)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(tls.cert, tls.key)
    seen: list[str] = []

    async def handle(request: web.Request) -> web.Response:
        seen.append(request.scheme)
        return web.Response(body=await request.read())

    application = web.Application()
    application.router.add_put("/", handle)
    runner = web.AppRunner(application)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context).start()
    target = Target("127.0.0.1", runner.addresses[0][1], tls.authority)
    try:
        async with Generator() as load:
            await load.load(Round(requests(50)))
            measured = await load.run(target, Manner(3, keep_bodies=True))
            assert load.pid > 0
    finally:
        await runner.cleanup()
    assert measured.statuses == {200: 50}
    assert measured.bodies == {place: b"%d" % place for place in range(50)}
    assert measured.cpu_seconds > 0
    assert seen == ["https"] * 50


async def test_what_fails_in_the_generator_is_told() -> None:
    async with Generator() as load:
        await load.load(Round([b""], count=1))
        with pytest.raises(RuntimeError, match="No such file"):
            await load.run(Target("127.0.0.1", 1, Path("/no/such/authority.pem")), Manner(1))
