"""Start and ordered stop of a process that runs one service, or all of them."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import signal
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any, TextIO

from shared.bus.ending import ended
from shared.runtime import logs, traces
from shared.runtime.background import watch_loop_lag
from shared.runtime.health import Health
from shared.runtime.listening import Listening
from shared.runtime.running import Running, opened
from shared.runtime.service import ROLES, Role, Service
from shared.runtime.settings import ListenerName
from shared.runtime.working import Work

log = logging.getLogger(__name__)

KILLED = 137
_COLLECT_AFTER = (10_000, 20, 20)
"""Young containers, then rounds of the generation before (default: 700, 10, 10)."""


@dataclass(frozen=True)
class Process:
    """What runs, for tests and for the supervisor of `make up`."""

    services: Mapping[str, Running]
    listening: Listening

    def address(self, listener: ListenerName) -> str | None:
        return self.listening.address(listener)


async def run_service(
    service: Service[Any], roles: Collection[Role], environ: Mapping[str, str]
) -> None:
    """Run one service in these roles until SIGTERM or SIGINT; a second signal ends it at once."""
    stop = _stop_on_signals()
    await run_all([service], environ, roles=roles, stop=stop, started=_spare_the_collector)


def _spare_the_collector(_: Process) -> None:
    """Code, models and routes stay until the end: looking for cycles among them again and again
    took a twentieth of a request. What requests leave behind is counted, not searched for, nearly
    always.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(*_COLLECT_AFTER)


async def run_all(
    services: Sequence[Service[Any]],
    environ: Mapping[str, str],
    *,
    roles: Collection[Role] = ROLES,
    stop: asyncio.Event | None = None,
    started: Callable[[Process], None] | None = None,
    log_to: TextIO | None = None,
) -> None:
    """Run services in this process, on shared listeners, until `stop` is set.

    Without `stop` the process's signals are taken. `started` is called once all of them serve.
    """
    stop = stop or _stop_on_signals()
    settings = services[0].settings.load(environ, services[0].name)
    logs.set_up(settings.log_level, log_to)
    traces.set_up(settings.otlp_endpoint, share=settings.trace_share)
    try:
        async with serving(services, environ, roles=roles) as process:
            if started is not None:
                started(process)
            await stop.wait()
            log.info("Stopping")
    finally:
        traces.shut_down()
    log.info("Stopped")


@asynccontextmanager
async def serving(
    services: Sequence[Service[Any]],
    environ: Mapping[str, str],
    *,
    roles: Collection[Role] = ROLES,
) -> AsyncIterator[Process]:
    """Services that serve for the length of the block.

    Probes answer from the first moment, requests are taken last. At the end the reverse: unready,
    peers are parted with, no more requests, then consumers, jobs and relay, then the parts, the
    probes at the very end.
    """
    settings = services[0].settings.load(environ, services[0].name)
    health, listening = Health(), Listening(settings)
    async with AsyncExitStack() as stack:
        lag = asyncio.create_task(watch_loop_lag())
        stack.push_async_callback(ended, {lag})
        # Probes need a listener before the parts exist, internal routes need the parts: so the
        # internal listener opens twice, first with the probes alone.
        await listening.open("internal", [], health)
        stack.push_async_callback(listening.close, "internal")
        running = [await stack.enter_async_context(opened(s, environ)) for s in services]
        await listening.close("internal")
        await listening.open("internal", running, health)
        work = [Work(each) for each in running]
        for each in work:
            each.start(roles)
            stack.push_async_callback(each.stop)
        if "http" in roles:
            for name in ("devices", "api"):
                await listening.open(name, running)
                stack.push_async_callback(listening.close, name)
        health.watched.extend(work)
        health.started = True
        try:
            yield Process({each.name: each for each in running}, listening)
        finally:
            health.draining = True
            await listening.drain()


def _stop_on_signals() -> asyncio.Event:
    """An event set by the first SIGTERM or SIGINT; the second ends the process where it stands.

    Any process of ours may be killed at any instant, so that is safe; it only is not polite.
    """
    stop = asyncio.Event()

    def received(number: int) -> None:
        if stop.is_set():
            log.warning("A second signal: ending at once", extra={"signal": number})
            logging.shutdown()
            os._exit(KILLED)
        stop.set()

    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, received, number)
    return stop
