"""`python -m tools.bench.history`: do polls and drains cost more after 35 million commands?

Two installations stand side by side, the same but for their past: one has none, the other's is
loaded once and kept. Each round measures polls and drains on both, the first one first in turn.
Printed are a JSON line for each measurement, the ratio of the medians of CPU, and whether all
statements of the road are planned alike. It fails when a ratio is above 1.1 or a plan differs.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
import os
import shutil
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import asyncpg

from shared.db.migrate import folders_of, migrate
from tools.bench import machine, past, plans, results, scenarios, stopping
from tools.bench import ratios as tables
from tools.bench.bench import Bench, JsonLine
from tools.bench.fleet import Device, prepare
from tools.bench.generator import Generator
from tools.bench.meter import calm
from tools.bench.muster import Muster
from tools.bench.scenarios import Ground
from tools.embedded import databases
from tools.embedded.cluster import REPOSITORY
from tools.embedded.home import Home
from tools.embedded.postgres import Postgres
from tools.embedded.progress import Progress

CACHE: Final = REPOSITORY / ".muster" / "cache"
ROOT: Final = REPOSITORY / ".muster" / "bench-history"
LIMIT: Final = 1.1
_SERVICE: Final = "command_queue"
_LOADED: Final = "loaded.json"


async def history(bench: Bench) -> AsyncIterator[JsonLine]:
    """Polls and drains before and after a history is loaded beside them: a quick look.

    `python -m tools.bench.history` compares two installations, turn about.
    """
    side, options = Side(bench.muster, bench.ground), bench.options
    for when in ("before", "after"):
        async for line in _measure(side, bench.devices, options.seconds, options.commands):
            yield line | {"scenario": f"{line['scenario']} {when} history"}
        if when == "before":
            queue = bench.muster.cluster.running.services[_SERVICE]
            await past.fill(queue.database_url, options.finished)
    yield {"history": await past.sizes(bench.muster.queue)}


@dataclass(frozen=True)
class Side:
    """One of the two installations, running."""

    muster: Muster
    ground: Ground


def _arguments(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--finished", type=int, default=35_000_000, help="outcomes (35000000)")
    parser.add_argument("--runs", type=int, default=5, help="interleaved rounds (5)")
    parser.add_argument("--devices", type=int, default=500, help="that poll and answer (500)")
    parser.add_argument("--seconds", type=float, default=10.0, help="of each poll (10)")
    parser.add_argument("--commands", type=int, default=5, help="a device, in each drain (5)")
    parser.add_argument("--load-only", action="store_true", help="load the history and stop")
    parser.add_argument("--save", type=Path, help="write the lines to this file, too")
    return parser.parse_args(argv)


async def load(root: Path, finished: int, progress: Progress) -> None:
    """Bring the database under `root` up to its history, unless an earlier run has done it.

    Of an earlier run nothing but the history stays: no fleet, no other service, no topics.
    """
    marker, wanted = root / _LOADED, {"finished": finished, "schema": _schema()}
    kept = marker.exists() and json.loads(marker.read_text()) == wanted
    if not kept:
        shutil.rmtree(root, ignore_errors=True)
    home = Home.at(root, cache=CACHE)
    shutil.rmtree(home.state / "kafka", ignore_errors=True)
    server = Postgres(home, home.ports(["postgres"])["postgres"])
    with progress.step(f"{finished} finished commands"):
        await server.start()
        try:
            if kept:
                await _as_admin(server, past.forget_others)
            else:
                await _filled(server, home, finished)
        finally:
            await server.stop()
    with progress.step("all of it on disk"):
        await asyncio.to_thread(os.sync)
    marker.write_text(json.dumps(wanted))


def _schema() -> str:
    """What command_queue's tables look like: a history of other tables is of no use."""
    digest = hashlib.sha256()
    for folder in folders_of(_SERVICE).values():
        for path in sorted(folder.glob("*.sql")):
            digest.update(path.read_bytes())
    return digest.hexdigest()


async def _filled(server: Postgres, home: Home, finished: int) -> None:
    passwords = {_SERVICE: home.password(f"postgres-{_SERVICE}")}
    dsn = (await databases.provision(server.admin_dsn, passwords))[_SERVICE]
    await migrate(dsn, _SERVICE)
    await _as_admin(server, past.hasten)
    await server.stop()
    await server.start()
    await past.fill(dsn, finished)
    await _as_admin(server, past.calm_down)


async def _as_admin(server: Postgres, change: Any) -> None:
    admin = await asyncpg.connect(server.admin_dsn, database=databases.DATABASE)
    try:
        await change(admin)
    finally:
        await admin.close()


async def _side(
    stack: AsyncExitStack, name: str, devices: Sequence[Device], generator: Generator
) -> Side:
    """Start one installation and let the measured devices enroll."""
    muster = await stack.enter_async_context(Muster(ROOT / name, CACHE))
    muster.name = name
    await past.settle_in(muster.queue)
    ground = Ground(muster, generator, CACHE / "bench" / "signatures")
    await scenarios.enroll(ground, devices)
    return Side(muster, ground)


async def _measure(
    side: Side, devices: Sequence[Device], seconds: float, commands: int
) -> AsyncIterator[dict[str, Any]]:
    """Poll and drain, each a line."""
    await calm(side.muster.everything())
    yield (await scenarios.poll(side.ground, devices, seconds=seconds)).json()
    _, asked = await scenarios.enqueue(side.ground, devices, commands=commands)
    await calm(side.muster.everything())
    yield (await scenarios.drain(side.ground, asked)).json()


async def _run(arguments: argparse.Namespace) -> int:
    progress = Progress()
    lines: list[dict[str, Any]] = []
    _print(lines, {"machine": machine.facts()})
    await load(ROOT / "full", arguments.finished, progress)
    if arguments.load_only:
        return 0
    shutil.rmtree(ROOT / "empty", ignore_errors=True)
    fleet = await asyncio.to_thread(prepare, CACHE / "bench", arguments.devices)
    async with AsyncExitStack() as stack:
        generator = await stack.enter_async_context(Generator())
        with progress.step("two installations start"):
            sides = [
                await _side(stack, name, fleet.devices, generator) for name in ("empty", "full")
            ]
        _print(lines, {"history": await past.sizes(sides[1].muster.queue)})
        for run in range(arguments.runs):
            for side in sides if run % 2 == 0 else reversed(sides):
                with progress.step(f"round {run + 1}, {side.muster.name}"):
                    measured = _measure(side, fleet.devices, arguments.seconds, arguments.commands)
                    _print(lines, *[line | {"run": run + 1} async for line in measured])
        _print(lines, {"updates_in_place": await past.updates_in_place(sides[1].muster.admin)})
        same = await _plans(sides, fleet.devices)
    ratios = {name: _ratio(lines, name) for name in ("poll", "drain")}
    _print(lines, {"scenario": "history", "cpu_full_to_empty": ratios, "plans_alike": same})
    if arguments.save:
        text = "".join(json.dumps(line) + "\n" for line in lines)
        await asyncio.to_thread(arguments.save.write_text, text, "utf-8")
    print(tables.plain(results.overview(lines)), file=sys.stderr)
    return 0 if same and max(ratios.values()) <= LIMIT else 1


async def _plans(sides: Sequence[Side], devices: Sequence[Device]) -> bool:
    """Compare the plans of both while work waits in their queues; what differs is printed."""
    found = []
    for side in sides:
        await scenarios.enqueue(side.ground, devices)
        await side.muster.queue.execute(past.ANALYZE)
        connection = await asyncpg.connect(
            side.muster.cluster.running.services[_SERVICE].database_url
        )
        try:
            found.append(await plans.shapes(connection))
        finally:
            await connection.close()
    alike = True
    for name, shape in found[0].items():
        if plans.lookups(found[1][name]) != plans.lookups(shape):
            alike = False
            print(f"{name}\nempty:\n{shape}\nfull:\n{found[1][name]}", file=sys.stderr)
    return alike


def _ratio(lines: Sequence[dict[str, Any]], scenario: str) -> float:
    of = [line for line in lines if line.get("scenario") == scenario]
    full, empty = (
        results.summary([line for line in of if line["system"] == name], "cpu_us")
        for name in ("full", "empty")
    )
    return round(full.median / empty.median, 3) if full and empty else 0.0


def _print(lines: list[dict[str, Any]], *more: dict[str, Any]) -> None:
    """Print each line when it is there: a run that is broken off has not measured in vain."""
    lines += more
    for line in more:
        print(json.dumps(line), flush=True)


def main() -> int:
    stopping.like_an_interrupt()
    try:
        return asyncio.run(_run(_arguments(sys.argv[1:])))
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
