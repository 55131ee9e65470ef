"""`muster up`: PostgreSQL, Kafka and every service on this machine, until Ctrl-C.

Order matters twice: servers, keys, schemas, services, simulators on the way up; the reverse on the
way down. State stays under `.muster/`.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import uvloop

from services.console import setup
from shared.db.migrate import migrate
from shared.db.pool import transaction
from shared.runtime import logs, traces
from shared.runtime.boot import KILLED, Process, serving
from shared.runtime.service import Service
from shared.runtime.settings import Settings
from shared.sealed import ensure_service_keys
from tools.cli import fleet, local_tls, place, services
from tools.cli.place import Addresses
from tools.embedded import assets
from tools.embedded.apns import ApnsStandIn
from tools.embedded.home import Home
from tools.embedded.progress import Progress
from tools.embedded.stack import Embedded, Running

_LOG_BYTES = 50 * 1024 * 1024
_OWN_APNS = "MUSTER_PUSH_NOTIFIER_APNS_HOST"


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser("up", help="start PostgreSQL, Kafka and every service")
    default = int(os.environ.get("SIMULATE") or 0)
    parser.add_argument(
        "--simulate",
        type=int,
        default=default,
        metavar="N",
        help="enroll N simulated iPhones, iPads and Macs (also: SIMULATE=N)",
    )
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    return uvloop.run(Supervisor(place.home(), arguments.simulate).run())


@dataclass(frozen=True)
class Up:
    """What runs, once all of it does."""

    addresses: Addresses
    process: Process
    console: str
    """Where people open it."""
    setup_link: str | None


class Supervisor:
    """Holds everything up until it is told to stop; servers that die are started again."""

    def __init__(self, home: Home, simulate: int = 0) -> None:
        self._home, self._simulate = home, simulate
        self._stop = asyncio.Event()
        self._signals = 0
        self._started = False
        self._progress = Progress()

    async def run(self) -> int:
        main = asyncio.current_task()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self._signalled, main)
        try:
            async with AsyncExitStack() as stack:
                embedded = Embedded(self._home, self._progress)
                running = await stack.enter_async_context(embedded)
                await stack.enter_async_context(embedded.kept(self._say))
                up = await stack.enter_async_context(self._services(running))
                print(announcement(up), flush=True)
                if self._simulate:
                    simulators = fleet.Simulators(up.addresses, self._home, self._simulate)
                    stack.push_async_callback(simulators.stop)
                    await simulators.start()
                self._started = True
                await self._stop.wait()
                print("Stopping…", flush=True)
        except asyncio.CancelledError:
            if not self._stop.is_set():
                raise
            return 0
        print("Stopped. Everything is kept for the next start.")
        return 0

    def _signalled(self, main: asyncio.Task[int] | None) -> None:
        """Once: stop in order, also in the middle of starting. Thrice: end at once."""
        self._signals += 1
        if self._signals > 2:  # noqa: PLR2004 (thrice, as the docstring says)
            os._exit(KILLED)
        if self._signals > 1:
            print("Still stopping; once more ends everything as it is.", flush=True)
            return
        self._stop.set()
        if not self._started and main is not None:
            main.cancel()

    @staticmethod
    def _say(text: str) -> None:
        """A line of its own, also while a line about the simulators moves."""
        print(f"\n{text}", flush=True)

    @asynccontextmanager
    async def _services(self, running: Running) -> AsyncIterator[Up]:
        home, loaded = self._home, services.load_all()
        if assets.is_stale(home):
            with self._progress.step("the console's assets"):
                await asyncio.to_thread(assets.ensure, home)
        with self._progress.step("keys and schemas"):
            await self._prepare(running, loaded)
        async with AsyncExitStack() as stack:
            apns = await self._apns(stack)
            environ = self._environ(running, apns)
            log_to = stack.enter_context(_log_file(home).open("a", encoding="utf-8"))
            settings = Settings.load(environ)
            logs.set_up(settings.log_level, log_to)
            traces.set_up(settings.otlp_endpoint, share=settings.trace_share)
            stack.callback(traces.shut_down)
            with self._progress.step("services"):
                process = await stack.enter_async_context(serving(loaded, environ))
            addresses = _addresses(process, environ, apns)
            addresses.save(home)
            stack.callback(place.forget, home)
            yield Up(addresses, process, environ["MUSTER_CONSOLE_URL"], await _setup_link(process))

    async def _prepare(self, running: Running, loaded: Sequence[Service[Any]]) -> None:
        for service in loaded:
            ensure_service_keys(self._home.keys, service.name)
            await migrate(running.services[service.name].database_url, service.name)

    async def _apns(self, stack: AsyncExitStack) -> ApnsStandIn | None:
        """The stand-in for Apple's push service, unless settings name the real one."""
        if _OWN_APNS in os.environ:
            return None
        ports = self._home.ports(["apns", "apns-side"])
        folder = self._home.state / "apns"
        apns = ApnsStandIn(folder, port=ports["apns"], side_port=ports["apns-side"])
        await apns.start()
        stack.push_async_callback(apns.stop)
        return apns

    def _environ(self, running: Running, apns: ApnsStandIn | None) -> dict[str, str]:
        """Defaults of the embedded installation, below what the environment says."""
        ports = self._home.ports(["devices", "api", "internal"])
        tls = local_tls.ensure(self._home.state / "tls")
        internal = f"http://127.0.0.1:{ports['internal']}"
        console = f"http://localhost:{ports['api']}"
        defaults = {
            "MUSTER_KEYS_DIR": str(self._home.keys),
            "MUSTER_PUBLIC_URL": f"https://localhost:{ports['devices']}",
            "MUSTER_API_URL": f"http://127.0.0.1:{ports['api']}",
            "MUSTER_CONSOLE_URL": console,
            "MUSTER_COMMAND_QUEUE_CONSOLE_URL": console,
            "MUSTER_CONSOLE_ASSETS_DIR": str(assets.folder(self._home)),
            "MUSTER_INTERNAL_URLS": json.dumps(dict.fromkeys(running.services, internal)),
            **{f"MUSTER_{name.upper()}_PORT": str(port) for name, port in ports.items()},
            "MUSTER_DEVICES_TLS_CERT": str(tls.cert),
            "MUSTER_DEVICES_TLS_KEY": str(tls.key),
            "MUSTER_ENROLLMENT_SERVER_ROOTS": str(tls.authority),
            "MUSTER_POOL_SIZE": "6",
            **_apns_settings(apns),
        }
        given = {name: value for name, value in os.environ.items() if name.startswith("MUSTER_")}
        return {**defaults, **given, **running.environment()}


def _apns_settings(apns: ApnsStandIn | None) -> dict[str, str]:
    if apns is None:
        return {}
    return {
        _OWN_APNS: apns.host,
        "MUSTER_PUSH_NOTIFIER_APNS_PORT": str(apns.port),
        "MUSTER_PUSH_NOTIFIER_APNS_TRUST": str(apns.trust),
        "MUSTER_PUSH_NOTIFIER_APNS_PORTAL_URL": f"{apns.side_url}/portal/certificate",
    }


def _log_file(home: Home) -> Path:
    """The services' log; one older file is kept."""
    path = home.logs / "services.log"
    if path.exists() and path.stat().st_size > _LOG_BYTES:
        path.replace(path.with_suffix(".log.1"))
    return path


def _addresses(process: Process, environ: Mapping[str, str], apns: ApnsStandIn | None) -> Addresses:
    return Addresses(
        api=process.address("api") or "",
        devices=environ["MUSTER_PUBLIC_URL"],
        internal=process.address("internal") or "",
        trust=environ["MUSTER_ENROLLMENT_SERVER_ROOTS"],
        apns=apns.side_url if apns else None,
    )


async def _setup_link(process: Process) -> str | None:
    """A new set-up link at each start, until one was used."""
    context = process.services["console"].context
    async with transaction(context.pool) as tx:
        token = await setup.offer(tx, context.clock)
    return setup.link(context.settings.address, token) if token else None


def announcement(up: Up) -> str:
    """The one block that `muster up` ends its start with."""
    lines = [
        "",
        "Muster is up.",
        f"  console      {up.console}",
        f"  API          {up.addresses.api}/api/v1/…",
        f"  devices      {up.addresses.devices}   (CA: {_short(up.addresses.trust)})",
        f"  probes       {up.addresses.internal}/readyz  /metrics",
    ]
    if up.setup_link:
        lines.append(f"  set up       {up.setup_link}   (once, within an hour)")
    else:
        lines.append("  access       .muster/venv/bin/muster token --audience SERVICE")
    lines.append("  Ctrl-C stops everything; the next start keeps it.")
    return "\n".join(lines)


def _short(path: str) -> str:
    with suppress(ValueError):
        return str(Path(path).relative_to(Path.cwd()))
    return path
