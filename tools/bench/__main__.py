"""`make bench`: what enrollments, polls and commands cost; a JSON line for each on stdout."""

from __future__ import annotations

import argparse
import asyncio
import json
import shutil
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import Final

from tools.bench import (
    bench,
    events,
    fanout,
    history,
    machine,
    open_pages,
    ratios,
    results,
    signing,
    soak,
    stopping,
    throughput,
)
from tools.bench.bench import Bench, JsonLine, Options, Scenario
from tools.bench.fleet import prepare
from tools.bench.generator import Generator
from tools.bench.muster import Muster
from tools.bench.scenarios import Ground
from tools.embedded.cluster import REPOSITORY
from tools.embedded.progress import Progress

CACHE: Final = REPOSITORY / ".muster" / "cache"
ROOT: Final = REPOSITORY / ".muster" / "bench"

# Else some device in every scenario would be asked for its inventory in between.
_NO_DAILY_ROUND: Final = {"MUSTER_INVENTORY_REFRESH_HOURS": str(30 * 24)}

# In the order in which they run.
SCENARIOS: Final[Mapping[str, Scenario]] = {
    "poll": bench.poll,
    "poll-wal": bench.poll_wal,
    "storm": bench.storm,
    "tls": bench.tls,
    "enqueue": bench.enqueue,
    "drain": bench.drain,
    "events": events.latency,
    "pages": open_pages.shown,
    "relay": throughput.relay,
    "consumers": throughput.consumers,
    "enroll": bench.enroll,
    "fanout": fanout.fanout,
    "history": history.history,
    "soak": soak.soak,
}
# Its hour would be too long for everybody.
_ONLY_WHEN_NAMED: Final = frozenset({"soak"})


def _arguments(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("--devices", type=int, default=2000, help="of the fleet (2000)")
    parser.add_argument("--seconds", type=float, default=5.0, help="of each poll (5)")
    parser.add_argument("--commands", type=int, default=5, help="a device (5)")
    parser.add_argument("--rates", type=float, nargs="*", default=[50, 500], help="(50 500)")
    parser.add_argument("--finished", type=int, default=1_000_000, help="history's rows (1000000)")
    parser.add_argument("--targets", type=int, default=100_000, help="fanout's devices (100000)")
    parser.add_argument("--minutes", type=float, default=60, help="of the soak (60)")
    parser.add_argument("--runs", type=int, default=1, help="repetitions of everything (1)")
    parser.add_argument("--only", choices=SCENARIOS, nargs="+", help="these")
    parser.add_argument("--processes", type=int, default=1, help="of each http role (1)")
    parser.add_argument("--save", type=Path, help="write the lines to this file, too")
    return parser.parse_args(argv)


async def _run(arguments: argparse.Namespace, progress: Progress) -> AsyncIterator[JsonLine]:
    """One repetition on fresh databases."""
    shutil.rmtree(ROOT / "state", ignore_errors=True)
    with progress.step(f"keys and certificates of {2 * arguments.devices} devices"):
        fleet = await asyncio.to_thread(prepare, CACHE / "bench", 2 * arguments.devices)
    options = Options(
        arguments.seconds,
        arguments.commands,
        arguments.rates,
        arguments.finished,
        arguments.targets,
        arguments.minutes,
    )
    devices, newcomers = (
        fleet.devices[: arguments.devices],
        fleet.devices[arguments.devices :],
    )
    muster = Muster(
        ROOT, CACHE, inventory=True, processes=arguments.processes, settings=_NO_DAILY_ROUND
    )
    usual = SCENARIOS.keys() - _ONLY_WHEN_NAMED
    wanted = [name for name in SCENARIOS if name in (arguments.only or usual)]
    async with muster, Generator() as generator:
        ground = Ground(muster, generator, CACHE / "bench" / "signatures")
        at = Bench(muster, ground, devices, newcomers, options, progress)
        with progress.step("the fleet is imported"):
            await muster.serve_pushes()
            await muster.adopt(devices)
        for name in wanted:
            await at.calm()
            with progress.step(name):
                async for line in SCENARIOS[name](at):
                    yield line
        yield {"memory_megabytes": results.memory(muster.everything())}
        if (size := await muster.outcome_bytes()) is not None:
            yield {"outcome_bytes": size}


async def _all(arguments: argparse.Namespace) -> list[JsonLine]:
    progress = Progress()
    signing.forget_old(CACHE / "bench" / "signatures")
    lines: list[JsonLine] = []
    for run in range(arguments.runs):
        begun: JsonLine = {"machine": machine.facts()}
        print(json.dumps(begun), flush=True)
        lines.append(begun)
        async for line in _run(arguments, progress):
            print(json.dumps({**line, "run": run + 1}), flush=True)
            lines.append(line)
    return lines


def main() -> int:
    stopping.like_an_interrupt()
    arguments = _arguments(sys.argv[1:])
    try:
        lines = asyncio.run(_all(arguments))
    except KeyboardInterrupt:
        return 130
    if arguments.save:
        arguments.save.write_text("".join(json.dumps(line) + "\n" for line in lines), "utf-8")
    if arguments.runs > 1:
        print(ratios.plain(results.overview(lines)), file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
