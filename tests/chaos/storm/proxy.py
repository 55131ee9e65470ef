"""A TCP proxy between one service and one server, that can be slow, silent, or gone."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Literal

Direction = Literal["to", "from"]
_CHUNK = 65_536


class Link:
    """Listens on `port` and passes everything on to `target` on the same machine.

    A silent direction holds back what is under way until it is healed, or loses it when the
    connections are cut meanwhile: `from` the server it loses answers to what was done.
    """

    def __init__(self, name: str, port: int, target: int) -> None:
        self.name, self.port, self._target = name, port, target
        self.delay = 0.0
        self.refuses = False
        self._open = {"to": asyncio.Event(), "from": asyncio.Event()}
        self._transports: set[asyncio.WriteTransport] = set()
        self._server: asyncio.Server | None = None
        self._trap: asyncio.Event | None = None
        self._trapped_arrive = False
        self.heal()

    async def start(self) -> None:
        if self._server is None:
            self._server = await asyncio.start_server(self._accept, "127.0.0.1", self.port)

    async def stop(self) -> None:
        if self._server is not None:
            self._server.close()
            self.cut()
            self._server = None

    def cut(self) -> int:
        """Reset every connection; returns how many there were."""
        ends = list(self._transports)
        for transport in ends:
            transport.abort()
        return len(ends) // 2

    def silence(self, direction: Direction) -> None:
        self._open[direction].clear()

    async def at_commit(self, seconds: float, *, arrives: bool) -> None:
        """Return when a COMMIT is on its way, which then arrives or does not, and whose answer does
        not come; or after so many seconds without one.
        """
        self._trap = trap = asyncio.Event()
        self._trapped_arrive = arrives
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await trap.wait()
        self._trap = None

    def _spring(self) -> None:
        trap, self._trap = self._trap, None
        if trap is not None:
            self.silence("from")
            if not self._trapped_arrive:
                self.silence("to")
            trap.set()

    def heal(self) -> None:
        self.delay, self.refuses = 0.0, False
        for direction in self._open.values():
            direction.set()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.refuses:
            writer.transport.abort()
            return
        try:
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self._target)
        except OSError:
            writer.transport.abort()
            return
        ends = {writer.transport, far_writer.transport}
        self._transports |= ends
        try:
            async with asyncio.TaskGroup() as both:
                both.create_task(self._pump("to", reader, far_writer))
                both.create_task(self._pump("from", far_reader, writer))
        except* (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            self._transports -= ends
            for transport in ends:
                transport.abort()

    async def _pump(
        self, direction: Direction, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        while data := await reader.read(_CHUNK):
            if self._trap is not None and direction == "to" and b"COMMIT" in data:
                self._spring()
            if self.delay:
                await asyncio.sleep(self.delay)
            await self._open[direction].wait()
            writer.write(data)
            await writer.drain()
        with contextlib.suppress(OSError, RuntimeError):
            writer.write_eof()
