"""What a scenario of `make bench` is given, and the device road's own scenarios."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tools.bench import scenarios
from tools.bench.driver import Manner
from tools.bench.fleet import Device
from tools.bench.meter import calm
from tools.bench.muster import Muster
from tools.bench.scenarios import Ground
from tools.embedded.progress import Progress

PRESENCE = "SELECT count(*), max(last_seen_at), max(told_at) FROM presence"
# It is written every ten seconds: most windows are between.
_WINDOW_SECONDS = 2.0
_WINDOWS = 10

JsonLine = Mapping[str, Any]
"""A result as it is printed: `scenario`, `system`, and its values."""


@dataclass(frozen=True)
class Options:
    """What the command line asked for."""

    seconds: float
    """Of each poll."""
    commands: int
    """Commands a device in enqueue and drain."""
    rates: Sequence[float]
    """Polls a second of the open loop."""
    finished: int
    """Finished commands of the scenario `history`."""
    targets: int = 100_000
    """Devices of the command of the scenario `fanout`."""
    minutes: float = 60.0
    """Of the scenario `soak`."""


@dataclass(frozen=True)
class Bench:
    """Muster runs with all services, and has `devices`; it has never heard of the newcomers."""

    muster: Muster
    ground: Ground
    devices: Sequence[Device]
    newcomers: Sequence[Device]
    options: Options
    progress: Progress

    async def calm(self) -> None:
        """Wait until nothing of an earlier scenario is being worked off."""
        await calm(self.muster.everything())


Scenario = Callable[[Bench], AsyncIterator[JsonLine]]


async def enroll(bench: Bench) -> AsyncIterator[JsonLine]:
    """Devices that were never here enroll. The last scenario: inventory then asks them all."""
    yield (await scenarios.enroll(bench.ground, bench.newcomers)).json()


async def poll(bench: Bench) -> AsyncIterator[JsonLine]:
    """Closed loop with many and with few connections, then at constant rates."""
    ground, seconds = bench.ground, bench.options.seconds
    manners = [Manner(), Manner(2)]
    manners += [Manner(64, rate=rate) for rate in bench.options.rates]
    for manner in manners:
        name = f"poll {manner.rate:g}/s" if manner.rate else None
        line = await scenarios.poll(
            ground, bench.devices, seconds=seconds, manner=manner, name=name
        )
        yield line.json()


async def poll_wal(bench: Bench) -> AsyncIterator[JsonLine]:
    """WAL of empty polls alone: of a window in which the coalesced last-seen was not written.

    PostgreSQL and other services write for reasons of their own, too: the quietest window counts.
    """
    queue = bench.muster.queue
    quietest: Mapping[str, Any] | None = None
    for _ in range(_WINDOWS):
        before = await queue.fetchrow(PRESENCE)
        line = await scenarios.poll(
            bench.ground, bench.devices, seconds=_WINDOW_SECONDS, name="poll between last-seen"
        )
        if await queue.fetchrow(PRESENCE) != before:
            continue
        found = line.json()
        if quietest is None or found["wal_bytes"] < quietest["wal_bytes"]:
            quietest = found
        if not found["wal_bytes"]:
            break
    if quietest is not None:
        yield quietest


async def storm(bench: Bench) -> AsyncIterator[JsonLine]:
    """Every device at once, a new connection each."""
    yield (await scenarios.storm(bench.ground, bench.devices)).json()


async def tls(bench: Bench) -> AsyncIterator[JsonLine]:
    """The same polls with TLS ended by Muster: connections kept, and a handshake for each."""
    ground, target = bench.ground, bench.muster.tls
    seconds = bench.options.seconds
    line = await scenarios.poll(ground, bench.devices, seconds=seconds, name="tls poll", tls=target)
    yield line.json()
    yield (await scenarios.storm(ground, bench.devices, name="tls storm", tls=target)).json()


async def enqueue(bench: Bench) -> AsyncIterator[JsonLine]:
    """Commands to a hundred devices a call."""
    line, _ = await scenarios.enqueue(bench.ground, bench.devices, commands=bench.options.commands)
    await bench.calm()
    await bench.muster.forget()
    yield line.json()


async def drain(bench: Bench) -> AsyncIterator[JsonLine]:
    """From Idle to answered: one command a device, then several."""
    for commands in sorted({1, bench.options.commands}):
        _, asked = await scenarios.enqueue(bench.ground, bench.devices, commands=commands)
        await bench.calm()
        line = (await scenarios.drain(bench.ground, asked)).json()
        if commands > 1:
            line["scenario"] = f"drain of {commands}"
        await bench.calm()
        yield line
