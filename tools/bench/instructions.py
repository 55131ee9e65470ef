"""Instructions that processes executed, from the processor's counters: `perf stat -p`.

They do not depend on what else runs. Virtual machines often offer no counters, and not every
machine has `perf`: then there are none, and the facts of the machine say so once.
"""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import signal
import subprocess
from collections.abc import Mapping
from functools import cache
from types import TracebackType
from typing import Self

_EVENT = "instructions:u"
_SETTLE_SECONDS = 0.1
_COLUMNS = 3


@cache
def offered() -> bool:
    """Whether this machine counts instructions for us."""
    if shutil.which("perf") is None:
        return False
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        command = ["perf", "stat", "-x,", "-e", _EVENT, "true"]
        said = subprocess.run(command, capture_output=True, text=True, check=False, timeout=10)
        return said.returncode == 0 and read(said.stderr) is not None
    return False


def read(said: str) -> int | None:
    """The count in what `perf stat -x,` wrote; None when it counted nothing."""
    for line in said.splitlines():
        columns = line.split(",")
        if len(columns) >= _COLUMNS and columns[2].startswith("instructions"):
            return int(columns[0]) if columns[0].isdigit() else None
    return None


class Counter:
    """Counts for the length of a block; `counted` is None where the machine offers nothing."""

    def __init__(self, pids: Mapping[str, int]) -> None:
        self._pids = pids if offered() else {}
        self._running: dict[str, asyncio.subprocess.Process] = {}
        self.counted: dict[str, int] | None = None

    async def __aenter__(self) -> Self:
        for name, pid in self._pids.items():
            self._running[name] = await asyncio.create_subprocess_exec(
                "perf", "stat", "-x,", "-e", _EVENT, "-p", str(pid),
                stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE,
            )  # fmt: skip
        if self._running:
            await asyncio.sleep(_SETTLE_SECONDS)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        found: dict[str, int] = {}
        for name, process in self._running.items():
            process.send_signal(signal.SIGINT)
            _, said = await process.communicate()
            if (count := read(said.decode())) is not None:
                found[name] = count
        if found:
            self.counted = found
