"""`make bench-peers`: Muster and NanoMDM, the same load from the same generator, turn about.

One follows the other at once in every round, so that whatever else the machine does meets both.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import shutil
import sys
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from tools.bench import machine, ratios, results, scenarios, signing, stopping
from tools.bench.driver import Manner
from tools.bench.fleet import Device, Fleet, prepare
from tools.bench.generator import Generator
from tools.bench.meter import calm
from tools.bench.muster import Muster
from tools.bench.nanomdm import VERSION, NanoMdm, install
from tools.bench.results import Line
from tools.bench.scenarios import Ground
from tools.embedded.cluster import REPOSITORY
from tools.embedded.errors import EmbeddedError
from tools.embedded.progress import Progress

CACHE: Final = REPOSITORY / ".muster" / "cache"
ROOT: Final = REPOSITORY / ".muster" / "bench"
_ENQUEUED: Final = 10
"""Commands a device in the scenario `enqueue`: one would be too short to measure."""


@dataclass(frozen=True)
class Turn:
    """What one system does when it is its turn."""

    devices: Sequence[Device]
    """All that are enrolled."""
    joining: Sequence[Device]
    """Those that enroll in this round."""
    connections: int
    seconds: float


Work = Callable[[Ground, Turn], Awaitable[Line]]


async def _enroll(ground: Ground, turn: Turn) -> Line:
    return await scenarios.enroll(ground, turn.joining, connections=turn.connections)


async def _poll(ground: Ground, turn: Turn) -> Line:
    manner = Manner(turn.connections)
    return await scenarios.poll(ground, turn.devices, seconds=turn.seconds, manner=manner)


async def _drain(ground: Ground, turn: Turn) -> Line:
    _, asked = await scenarios.enqueue(ground, turn.devices)
    return await scenarios.drain(ground, asked, connections=turn.connections)


async def _enqueue(ground: Ground, turn: Turn) -> Line:
    line, _ = await scenarios.enqueue(
        ground, turn.devices, commands=_ENQUEUED, connections=turn.connections
    )
    await ground.system.forget()
    return line


WORKS: Final[dict[str, Work]] = {
    "enroll": _enroll,
    "poll": _poll,
    "drain": _drain,
    "enqueue": _enqueue,
}


# The goal at 16 connections, set from measurements of NanoMDM and of a sketch of this design.
WANTED: Final = {
    "poll": ratios.Wanted(0.11, 6),
    "drain": ratios.Wanted(0.15, 4),
    "enroll": ratios.Wanted(0.15, 4),
    "enqueue": ratios.Wanted(0.4),
}


def _arguments(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make bench-peers", description=__doc__)
    parser.add_argument("--devices", type=int, default=10_000, help="of the fleet (10000)")
    parser.add_argument("--rounds", type=int, default=3, help="turns of each system (3)")
    parser.add_argument("--runs", type=int, default=1, help="on fresh databases (1)")
    parser.add_argument("--seconds", type=float, default=5.0, help="of each poll (5)")
    parser.add_argument("--connections", type=int, nargs="+", default=[16, 2], help="(16 and 2)")
    parser.add_argument("--only", choices=WORKS, nargs="+", help="only these (and enroll)")
    parser.add_argument("--save", type=Path, help="write the JSON lines to this file")
    parser.add_argument("--from", dest="saved", type=Path, help="the table of a saved run")
    parser.add_argument("--markdown", action="store_true", help="the table as in docs/")
    return parser.parse_args(argv)


def turns(arguments: argparse.Namespace, devices: Sequence[Device]) -> Iterator[tuple[str, Turn]]:
    """Which work is done with which devices, in order; everybody has enrolled before the polls.

    Enrollments are one window for each number of connections: a wave, not its first third of a
    second, and what a fleet costs that grows meanwhile is in it for both.
    """
    levels: list[int] = arguments.connections
    size = len(devices) // len(levels)
    enrolled = devices[: size * len(levels)]
    for place, connections in enumerate(levels):
        joining = enrolled[place * size : (place + 1) * size]
        yield "enroll", Turn(enrolled, joining, connections, arguments.seconds)
    for name in WORKS:
        if name != "enroll" and name in (arguments.only or WORKS):
            for connections in levels:
                turn = Turn(enrolled, (), connections, arguments.seconds)
                yield from [(name, turn)] * arguments.rounds


async def _run(arguments: argparse.Namespace) -> list[dict[str, Any]]:
    progress = Progress()
    lines: list[dict[str, Any]] = [{"machine": machine.facts(), "peer": f"NanoMDM {VERSION}"}]
    with progress.step(f"NanoMDM {VERSION}"):
        await asyncio.to_thread(install, CACHE)
    with progress.step(f"keys and certificates of {arguments.devices} devices"):
        fleet = await asyncio.to_thread(prepare, CACHE / "bench", arguments.devices)
    signing.forget_old(CACHE / "bench" / "signatures")
    for _ in range(arguments.runs):
        lines += await _measured(arguments, fleet, progress)
    return lines


async def _measured(
    arguments: argparse.Namespace, fleet: Fleet, progress: Progress
) -> list[dict[str, Any]]:
    """One run on fresh databases."""
    lines: list[dict[str, Any]] = []
    async with AsyncExitStack() as stack:
        grounds = await _grounds(stack, fleet)
        everything = {
            f"{ground.system.name}:{name}": pid
            for ground in grounds
            for name, pid in ground.system.everything().items()
        }
        for name, turn in turns(arguments, fleet.devices):
            for ground in grounds:
                await calm(everything)
                title = f"{name} over {turn.connections} connections, {ground.system.name}"
                with progress.step(title) as step:
                    line = (await WORKS[name](ground, turn)).json()
                    step.note(f"{line['cpu_us']} µs CPU, {line['per_second']}/s")
                lines.append(line)
        lines += [{"memory_megabytes": results.memory(g.system.everything())} for g in grounds]
    return lines


async def _grounds(stack: AsyncExitStack, fleet: Fleet) -> list[Ground]:
    """Both systems with empty databases, and one generator for both."""
    for name in ("peers-muster", "peers-nanomdm"):
        shutil.rmtree(ROOT / name / "state", ignore_errors=True)
    muster = Muster(ROOT / "peers-muster", CACHE)
    peer = NanoMdm(ROOT / "peers-nanomdm", CACHE, fleet.authority)
    generator = await stack.enter_async_context(Generator())
    kept = CACHE / "bench" / "signatures"
    return [
        Ground(await stack.enter_async_context(muster), generator, kept),
        Ground(await stack.enter_async_context(peer), generator, kept),
    ]


def main() -> int:
    stopping.like_an_interrupt()
    arguments = _arguments(sys.argv[1:])
    try:
        saved = arguments.saved
        lines = results.read(saved) if saved else asyncio.run(_run(arguments))
    except KeyboardInterrupt:
        return 130
    except (EmbeddedError, OSError, ValueError) as error:
        print(f"bench-peers: {error}", file=sys.stderr)
        return 1
    if arguments.save:
        text = "".join(json.dumps(line) + "\n" for line in lines)
        arguments.save.write_text(text, "utf-8")
    table = ratios.table(lines, mine="muster", other="nanomdm", wanted=WANTED)
    print(ratios.markdown(table) if arguments.markdown else ratios.plain(table))
    return 0


if __name__ == "__main__":
    sys.exit(main())
