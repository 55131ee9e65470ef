"""A service as several processes of one `muster run`, and a look at each of them."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import aiohttp

from shared.runtime.supervisor import die_with, is_ready
from tools.embedded.home import Home, free_row

ROOT = Path(__file__).resolve().parents[2]
_PATIENCE = 150.0


@dataclass
class Family:
    """A running `muster run SERVICE --processes N`."""

    parent: asyncio.subprocess.Process
    ports: Mapping[str, int]
    processes: int
    log: Path

    def url(self, listener: str) -> str:
        return f"http://127.0.0.1:{self.ports[listener]}"

    @property
    def own_ports(self) -> list[int]:
        """The internal address of each process."""
        return [self.ports["internal"] + 1 + number for number in range(self.processes)]

    def children(self) -> list[int]:
        """The ids of the processes, oldest first (proc(5))."""
        path = Path(f"/proc/{self.parent.pid}/task/{self.parent.pid}/children")
        return [int(pid) for pid in path.read_text().split()]

    async def until_ready(self) -> None:
        """Wait for all processes; raises TimeoutError with the log's end."""
        try:
            async with asyncio.timeout(_PATIENCE):
                while not all([await is_ready(port) for port in self.own_ports]):
                    if self.parent.returncode is not None:
                        raise RuntimeError(f"it ended:\n{self.said()[-3000:]}")
                    await asyncio.sleep(0.05)
        except TimeoutError:
            raise TimeoutError(self.said()[-3000:]) from None

    async def measured(self, metric: str) -> list[float]:
        """The sum of a metric's samples in each process."""
        found = []
        async with aiohttp.ClientSession() as session:
            for port in self.own_ports:
                async with session.get(f"http://127.0.0.1:{port}/metrics") as answer:
                    text = await answer.text()
                lines = re.findall(rf"^{metric}(?:\{{[^}}]*\}})? (\S+)$", text, re.MULTILINE)
                found.append(sum(float(value) for value in lines))
        return found

    def said(self) -> str:
        return self.log.read_text(errors="replace")

    async def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Signal the parent and see it end; its status."""
        if self.parent.returncode is None:
            self.parent.send_signal(number)
        return await asyncio.wait_for(self.parent.wait(), _PATIENCE)


def family_ports(home: Home, processes: int) -> dict[str, int]:
    """Free ports: devices, api, and a row for the internal addresses."""
    ports = home.ports(["family-devices", "family-api"])
    return {
        "devices": ports["family-devices"],
        "api": ports["family-api"],
        "internal": free_row(processes + 1),
    }


@asynccontextmanager
async def family(
    service: str,
    environ: Mapping[str, str],
    home: Home,
    log: Path,
    *,
    processes: int = 2,
    roles: Sequence[str] = ("http",),
) -> AsyncIterator[Family]:
    """Run it for the length of a block; all of it is gone afterwards."""
    ports = family_ports(home, processes)
    words = [word for role in roles for word in ("--role", role)]
    with log.open("ab") as output:
        parent = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "tools.cli", "run", service),
            *("--processes", str(processes), *words),
            cwd=ROOT,
            env={
                **os.environ,
                **environ,
                **{f"MUSTER_{name.upper()}_PORT": str(port) for name, port in ports.items()},
            },
            stdout=output,
            stderr=output,
            stdin=asyncio.subprocess.DEVNULL,
            preexec_fn=die_with(os.getpid()),
        )
    found = Family(parent, ports, processes, log)
    try:
        await found.until_ready()
        yield found
    finally:
        await found.stop()
