"""How a process parts with its peers: nobody who speaks runs into the end."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from shared.runtime.health import Health
from shared.runtime.listening import Listening
from shared.runtime.settings import Settings
from tools.cli import local_tls

Peer = tuple[asyncio.StreamReader, asyncio.StreamWriter]
Dial = Callable[[], Awaitable[Peer]]
ASK = b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n"


@asynccontextmanager
async def _listening(tls: ssl.SSLContext | None = None, **settings: object) -> AsyncIterator[Dial]:
    """A listener; `dial.listening` is what holds it."""
    listening = Listening(Settings.model_validate({"api_port": 0, "devices_port": 0, **settings}))
    name = "devices" if tls else "api"
    await listening.open(name, [], Health())  # type: ignore[arg-type]
    port = int((listening.address(name) or "").rpartition(":")[2])  # type: ignore[arg-type]
    writers: list[asyncio.StreamWriter] = []

    async def dial() -> Peer:
        host = "localhost" if tls else None
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", port, ssl=tls, server_hostname=host
        )
        writers.append(writer)
        return reader, writer

    dial.listening, dial.port = listening, port  # type: ignore[attr-defined]
    try:
        yield dial
    finally:
        for writer in writers:
            writer.close()
        await listening.close(name)  # type: ignore[arg-type]


async def _ask(peer: Peer) -> bytes:
    """The head of an answer."""
    reader, writer = peer
    writer.write(ASK)
    head = await reader.readuntil(b"\r\n\r\n")
    await reader.readexactly(3)
    return head


def _drain(dial: Dial) -> asyncio.Task[None]:
    return asyncio.create_task(dial.listening.drain())  # type: ignore[attr-defined]


async def test_a_peer_that_speaks_is_answered_and_told_to_go() -> None:
    async with _listening(linger_seconds=30) as dial:
        speaks = await dial()
        assert b"Connection: close" not in await _ask(speaks)
        draining = _drain(dial)
        await asyncio.sleep(0.05)
        assert b"Connection: close" in await _ask(speaks)
        assert await speaks[0].read() == b""
        # Nobody is left: there is nothing to wait for.
        await asyncio.wait_for(draining, 25)
        with pytest.raises(ConnectionRefusedError):
            await dial()


async def test_a_silent_peer_is_waited_for_and_no_longer() -> None:
    async with _listening(linger_seconds=0.3) as dial:
        silent = await dial()
        await _ask(silent)
        began = asyncio.get_running_loop().time()
        await asyncio.wait_for(_drain(dial), 25)
        assert asyncio.get_running_loop().time() - began >= 0.3
        await dial.listening.close("api")  # type: ignore[attr-defined]
        assert await silent[0].read() == b""


async def test_new_peers_are_taken_until_a_load_balancer_has_noticed() -> None:
    async with _listening(drain_seconds=0.5, linger_seconds=5) as dial:
        draining = _drain(dial)
        await asyncio.sleep(0.05)
        late = await dial()
        assert b"Connection: close" in await _ask(late)
        await asyncio.wait_for(draining, 25)


async def test_a_peer_in_its_handshake_is_served(tmp_path: Path) -> None:
    tls = local_tls.ensure(tmp_path)
    trust = ssl.create_default_context(cafile=str(tls.authority))
    files = {"devices_tls_cert": tls.cert, "devices_tls_key": tls.key}
    async with _listening(trust, linger_seconds=30, **files) as dial:
        raw = socket.create_connection(("127.0.0.1", dial.port))  # type: ignore[attr-defined]
        raw.setblocking(False)
        await asyncio.sleep(0.05)  # accepted, and no further
        draining = _drain(dial)
        await asyncio.sleep(0.05)
        shaken = await asyncio.open_connection(sock=raw, ssl=trust, server_hostname="localhost")
        await asyncio.sleep(0.5)
        assert not draining.done()
        assert b"Connection: close" in await _ask(shaken)
        await asyncio.wait_for(draining, 25)
        shaken[1].close()
