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


@dataclass(frozen=True)
class Bench:
    """Muster runs and the whole fleet has enrolled (not yet, for the scenario `enroll`)."""

    muster: Muster
    ground: Ground
    devices: Sequence[Device]
    options: Options
    progress: Progress

    async def calm(self) -> None:
        """Wait until nothing of an earlier scenario is being worked off."""
        await calm(self.muster.everything())


Scenario = Callable[[Bench], AsyncIterator[JsonLine]]


async def enroll(bench: Bench) -> AsyncIterator[JsonLine]:
    """The whole fleet enrolls; every other scenario needs it done."""
    yield (await scenarios.enroll(bench.ground, bench.devices)).json()


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


async def storm(bench: Bench) -> AsyncIterator[JsonLine]:
    """Every device at once, a new connection each."""
    yield (await scenarios.storm(bench.ground, bench.devices)).json()


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
