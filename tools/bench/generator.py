"""The driver in a process of its own: its CPU is counted apart, and it shares no lock with us."""

from __future__ import annotations

import asyncio
import gc
import multiprocessing
from multiprocessing.connection import Connection
from types import TracebackType
from typing import Self

import uvloop

from tools.bench.driver import Manner, Measured, Target, drive
from tools.bench.scripts import Script


class Generator:
    """`async with Generator() as generator: await generator.run(...)`; one run at a time."""

    def __init__(self) -> None:
        spawning = multiprocessing.get_context("spawn")
        self._ours, self._theirs = spawning.Pipe()
        self._process = spawning.Process(target=serve, args=(self._theirs,), daemon=True)

    @property
    def pid(self) -> int:
        return self._process.pid or 0

    async def __aenter__(self) -> Self:
        await asyncio.to_thread(self._process.start)
        self._theirs.close()  # else a generator that died would be waited for
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._ours.close()  # the other side ends by it
        await asyncio.to_thread(self._process.join, 5)
        if self._process.is_alive():
            self._process.kill()

    async def load(self, script: Script) -> None:
        """Bring a script over, so that its copying is not part of what is measured."""
        await asyncio.to_thread(self._ask, script)

    async def run(self, target: Target, manner: Manner) -> Measured:
        """Send the loaded script; it stays loaded."""
        answer = await asyncio.to_thread(self._ask, (target, manner))
        if not isinstance(answer, Measured):
            raise RuntimeError(f"the load generator failed: {answer}")  # noqa: TRY004 - its own words
        return answer

    def _ask(self, what: object) -> object:
        self._ours.send(what)
        return self._ours.recv()


def serve(connection: Connection) -> None:
    """The other side: load scripts and send them until the pipe closes."""
    gc.disable()  # a run allocates no cycles, and a pause would look like the server's
    script: Script | None = None
    while True:
        try:
            asked = connection.recv()
        except (EOFError, KeyboardInterrupt):
            return
        try:
            if isinstance(asked, tuple) and script is not None:
                connection.send(uvloop.run(drive(asked[0], script, asked[1])))
            else:
                script = asked
                gc.collect()
                connection.send(None)
        except Exception as error:  # noqa: BLE001 - it is told to who asked
            connection.send(repr(error))
