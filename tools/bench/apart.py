"""`python -m tools.bench.apart SERVICE jobs|relay`: half of the role `worker`, as a process.

The shipped role runs jobs and relay in one process, whose CPU is one figure. Expanding commands is
part of what a command costs, sending its event to Kafka is told apart: so here they are two.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import sys
from collections.abc import Awaitable, Callable
from typing import Any

import uvloop

from shared.bus.ending import ended
from shared.bus.relay import Relay
from shared.runtime import logs
from shared.runtime.background import JobLocks, JobRunner
from shared.runtime.boot import serving
from shared.runtime.priority import give_way
from shared.runtime.running import Running, kafka_of
from shared.runtime.service import Service
from tools.cli import services

PARTS = ("jobs", "relay")


async def _jobs(running: Running, stop: asyncio.Event) -> None:
    locks = JobLocks(running.context.settings.database_url, running.name)
    runner = JobRunner(running.name, running.parts.jobs, locks)
    runner.start()
    await stop.wait()
    await runner.stop()


async def _relay(running: Running, stop: asyncio.Event) -> None:
    settings = running.context.settings
    relay = Relay(running.name, settings.database_url, kafka_of(settings))
    task = asyncio.create_task(relay.run())
    await stop.wait()
    await ended({task}, grace=5)


_RUN: dict[str, Callable[[Running, asyncio.Event], Awaitable[None]]] = {
    "jobs": _jobs,
    "relay": _relay,
}


async def _run(service: Service[Any], part: str) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    logs.set_up("INFO", None)
    # Without a role it opens the probes, and passes wake-ups on to the relay's process.
    async with serving([service], os.environ, roles=()) as process:
        await _RUN[part](process.services[service.name], stop)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("service")
    parser.add_argument("part", choices=PARTS)
    arguments = parser.parse_args()
    service = services.load(arguments.service)
    give_way((), service.settings.load(os.environ, service.name))
    uvloop.run(_run(service, arguments.part))
    return 0


if __name__ == "__main__":
    sys.exit(main())
