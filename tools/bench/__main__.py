"""`make bench`: what enrollments, polls and commands cost. One JSON line a scenario on stdout."""

from __future__ import annotations

import argparse
import asyncio
import json
import platform
import shutil
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tools.bench import scenarios
from tools.bench.cpu import memory_megabytes
from tools.bench.fleet import Member, prepare
from tools.bench.stage import LAYOUT, BenchStage
from tools.embedded.cluster import REPOSITORY, Cluster
from tools.embedded.home import Home
from tools.embedded.progress import Progress

NAMES = ("enroll", "poll", "enqueue", "drain")


def _arguments(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("--devices", type=int, default=400, help="how many devices (400)")
    parser.add_argument("--polls", type=int, default=20, help="polls a device (20)")
    parser.add_argument("--commands", type=int, default=5, help="commands a device (5)")
    parser.add_argument("--only", choices=NAMES, action="append", help="print only these")
    return parser.parse_args(argv)


def machine() -> dict[str, Any]:
    """What a reader must know before comparing two runs."""
    model = next(
        (
            line.partition(":")[2].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if line.startswith("model name")
        ),
        platform.processor(),
    )
    return {"cpu": model, "cores": len(_cores()), "python": platform.python_version()}


def _cores() -> list[int]:
    import os  # noqa: PLC0415 - only for this

    return sorted(os.sched_getaffinity(0))


async def _run(arguments: argparse.Namespace) -> None:
    progress = Progress()
    root = REPOSITORY / ".muster" / "bench"
    shutil.rmtree(root / "state", ignore_errors=True)
    home = Home.at(root, cache=REPOSITORY / ".muster" / "cache")
    wanted = arguments.only or NAMES
    async with Cluster(home, LAYOUT) as cluster, cluster.session() as session:
        stage = BenchStage(cluster, session)
        with progress.step(f"{arguments.devices} devices get their certificates"):
            url = await stage.enroll_url(arguments.devices)
            fleet = await prepare(arguments.devices, url, root / "device-keys", "bench", session)
        for line in [line async for line in _scenarios(stage, fleet, arguments, progress)]:
            if line.scenario in wanted:
                print(json.dumps(line.json() | {"machine": machine()}), flush=True)
        memory = {name: round(memory_megabytes(pid), 1) for name, pid in stage.roots.items()}
        print(json.dumps({"scenario": "memory", "megabytes_pss": memory}), flush=True)


async def _scenarios(
    stage: BenchStage, fleet: list[Member], arguments: argparse.Namespace, progress: Progress
) -> Any:
    run = f"{time.time():.0f}"
    with progress.step("enroll"):
        yield await scenarios.enroll(stage, fleet)
    device_ids = await stage.device_ids(len(fleet))
    with progress.step("poll"):
        yield await scenarios.poll(stage, fleet, arguments.polls)
    with progress.step("enqueue"):
        yield await scenarios.enqueue(stage, device_ids, arguments.commands, run)
    await stage.empty_queues()
    with progress.step("drain"):
        commands = [
            await stage.send_commands(device_ids, f"drain-{run}-{n}")
            for n in range(arguments.commands)
        ]
        await stage.until_expanded()
        yield await scenarios.drain(stage, fleet, commands)


def main() -> int:
    try:
        asyncio.run(_run(_arguments(sys.argv[1:])))
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
