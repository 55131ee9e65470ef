"""Peers that trickle, flood or talk nonsense, on the wire."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiohttp import web

from shared.db.batcher import Overloaded
from shared.runtime import metrics
from shared.runtime.connections import Gate, LimitedSite
from shared.runtime.http import read_body
from shared.runtime.settings import Listener

Dial = Callable[[], Awaitable[tuple[asyncio.StreamReader, asyncio.StreamWriter]]]
GET = b"GET / HTTP/1.1\r\nHost: x\r\n"


async def _hello(_request: web.Request) -> web.Response:
    return web.Response(text="hello")


async def _swallow(request: web.Request) -> web.Response:
    try:
        size = len(await read_body(request, limit=10_000_000))
    except Overloaded:
        return web.Response(status=503)
    return web.Response(text=str(size))


async def _slow(request: web.Request) -> web.Response:
    await asyncio.sleep(0.02)
    return await _swallow(request)


async def _large(_request: web.Request) -> web.Response:
    return web.Response(body=b"x" * 20_000_000)


@asynccontextmanager
async def _site(
    *, limit: int = 10, header_seconds: float = 60, **bounds: Any
) -> AsyncIterator[Dial]:
    application = web.Application()
    application.router.add_get("/", _hello)
    application.router.add_get("/large", _large)
    application.router.add_post("/", _swallow)
    application.router.add_post("/slow", _slow)
    runner = web.AppRunner(application)
    await runner.setup()
    gate = Gate("api", limit, header_seconds, **bounds)
    site = LimitedSite(runner, Listener("api", "127.0.0.1", 0), gate)
    await site.start()
    open_writers: list[asyncio.StreamWriter] = []

    async def dial() -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        reader, writer = await asyncio.open_connection("127.0.0.1", site.port)
        open_writers.append(writer)
        return reader, writer

    try:
        yield dial
    finally:
        for writer in open_writers:
            writer.close()
        await runner.cleanup()


async def _ask(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, request: bytes = GET + b"\r\n"
) -> bytes:
    writer.write(request)
    head, _ = await _read_answer(reader)
    return head.split(b"\r\n")[0]


async def _answer(reader: asyncio.StreamReader) -> bytes:
    return (await _read_answer(reader))[1]


async def _read_answer(reader: asyncio.StreamReader) -> tuple[bytes, bytes]:
    head = await reader.readuntil(b"\r\n\r\n")
    length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
    return head, await reader.readexactly(length)


async def test_a_header_that_never_ends_is_cut_off() -> None:
    async with _site(header_seconds=0.1) as dial:
        reader, writer = await dial()
        writer.write(GET)
        assert await reader.read() == b""


async def test_a_connection_that_says_nothing_is_cut_off() -> None:
    async with _site(header_seconds=0.1) as dial:
        reader, _ = await dial()
        assert await reader.read() == b""


async def test_the_second_request_is_timed_too_but_a_pause_is_not() -> None:
    async with _site(header_seconds=0.1) as dial:
        reader, writer = await dial()
        assert await _ask(reader, writer) == b"HTTP/1.1 200 OK"
        await asyncio.sleep(0.3)  # idle between requests: that is keep-alive's business
        assert await _ask(reader, writer) == b"HTTP/1.1 200 OK"
        writer.write(GET)
        assert await reader.read() == b""


async def test_a_slow_body_is_not_the_headers_business() -> None:
    async with _site(header_seconds=0.1) as dial:
        reader, writer = await dial()
        writer.write(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\nab")
        await asyncio.sleep(0.3)
        assert await _ask(reader, writer, b"cd") == b"HTTP/1.1 200 OK"


async def test_a_full_listener_turns_away_and_recovers() -> None:
    async with _site(limit=2) as dial:
        first, second, third = await dial(), await dial(), await dial()
        for reader, writer in (first, second):
            assert await _ask(reader, writer) == b"HTTP/1.1 200 OK"
        third[1].write(GET + b"\r\n")
        with pytest.raises((ConnectionResetError, asyncio.IncompleteReadError)):
            await third[0].readexactly(1)
        first[1].close()
        await first[1].wait_closed()
        for _ in range(100):
            reader, writer = await dial()
            try:
                assert await _ask(reader, writer) == b"HTTP/1.1 200 OK"
                break
            except (ConnectionResetError, asyncio.IncompleteReadError):
                await asyncio.sleep(0.02)
        else:
            pytest.fail("the place of a closed connection was not given to another")


def _post(size: int, sent: int) -> bytes:
    head = f"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: {size}\r\n\r\n"
    return head.encode() + b"b" * sent


def _chunked(chunks: int) -> bytes:
    head = b"POST /slow HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
    return head + b"1\r\nb\r\n" * chunks + b"0\r\n\r\n"


@pytest.mark.parametrize("piece", [1_000, 100_000, 10_000_000])
async def test_bodies_larger_than_their_buffer_and_what_follows_them_arrive_whole(
    piece: int,
) -> None:
    """A body that nobody reads yet pauses its connection, the next request behind it."""
    sizes = [3, 100_000, 70_000, 2_000_000, 0, 100_000]
    requests = [_post(size, size).replace(b"POST /", b"POST /slow") for size in sizes]
    requests += [_chunked(50_000), GET + b"\r\n", _chunked(20_000), _chunked(1)]
    everything = b"".join(requests * 2)
    async with _site() as dial, asyncio.timeout(30):
        reader, writer = await dial()

        async def send() -> None:
            for start in range(0, len(everything), piece):
                writer.write(everything[start : start + piece])
                await writer.drain()

        sending = asyncio.create_task(send())
        answers = [await _answer(reader) for _ in requests * 2]
        await sending
    expected = [str(size).encode() for size in sizes] + [b"50000", b"hello", b"20000", b"1"]
    assert answers == expected * 2


async def test_bodies_that_arrive_slowly_cannot_fill_the_memory() -> None:
    """Each of them is small enough; together they are not. Who is answered makes room."""
    async with _site(most_bodies=100_000) as dial:
        first, second, third = await dial(), await dial(), await dial()
        for _, writer in (first, second):
            writer.write(_post(50_000, 45_000))
        await asyncio.sleep(0.1)
        assert await _ask(*third, _post(20_000, 20_000)) == b"HTTP/1.1 503 Service Unavailable"
        assert await _ask(*third, _post(1_000, 1_000)) == b"HTTP/1.1 200 OK"
        assert await _ask(*first, b"b" * 5_000) == b"HTTP/1.1 200 OK"
        second[1].close()  # one who leaves makes room, too
        await asyncio.sleep(0.1)
        again = await dial()
        assert await _ask(*again, _post(95_000, 95_000)) == b"HTTP/1.1 200 OK"


async def test_a_peer_that_does_not_read_its_answer_is_cut_off() -> None:
    cut_off = metrics.CONNECTIONS_REFUSED.labels("api", "slow_reader")._value
    before = cut_off.get()
    async with _site(read_seconds=0.3) as dial:
        reader, writer = await dial()
        writer.transport.pause_reading()  # type: ignore[attr-defined]
        writer.write(GET.replace(b" / ", b" /large ") + b"\r\n")
        async with asyncio.timeout(30):
            while cut_off.get() == before:  # noqa: ASYNC110
                await asyncio.sleep(0.05)
        writer.transport.resume_reading()  # type: ignore[attr-defined]
        with pytest.raises((ConnectionResetError, asyncio.IncompleteReadError)):
            await reader.readexactly(20_000_000)


async def test_a_peer_that_reads_slowly_but_reads_is_served() -> None:
    async with _site(read_seconds=0.3) as dial:
        reader, writer = await dial()
        writer.write(GET.replace(b" / ", b" /large ") + b"\r\n")
        await reader.readuntil(b"\r\n\r\n")
        began, left = asyncio.get_running_loop().time(), 20_000_000
        while left:
            left -= len(await reader.readexactly(min(left, 100_000)))
            await asyncio.sleep(0.005)
        assert asyncio.get_running_loop().time() - began > 2 * 0.3
        assert await _ask(reader, writer) == b"HTTP/1.1 200 OK"


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03 <script>",
        b"GET / HTTP/9.9\r\n<script>\r\n\r\n",
        GET + b"X: " + b"a" * 9000 + b"\r\n\r\n",
        b"GET /" + b"a" * 9000 + b" HTTP/1.1\r\n\r\n",
        GET + b"Content-Length: -1\r\n\r\n",
        GET + b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"".join([GET, *(b"X%d: 1\r\n" % number for number in range(500)), b"\r\n"]),
    ],
)
async def test_what_is_no_http_gets_a_short_answer_that_repeats_nothing(
    request_bytes: bytes,
) -> None:
    async with _site() as dial:
        reader, writer = await dial()
        writer.write(request_bytes)
        answer = await reader.read()
        assert answer.split(b" ")[1] == b"400"
        assert answer.endswith(b"\r\n\r\nBad Request\n")
        assert b"script" not in answer
