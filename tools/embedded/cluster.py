"""Every service as processes of its own on this machine, on real servers: for load and faults.

`make up` runs all services in one process; on Kubernetes each is its own. Here they are apart, so
that one can be killed, and so that the CPU of each can be read.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import ssl
import sys
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import aiohttp
import asyncpg

from shared.db.migrate import migrate
from shared.events.registry import SERVICES
from shared.runtime.clock import SystemClock
from shared.runtime.supervisor import die_with
from shared.runtime.tokens import Signer
from shared.sealed import ensure_service_keys, token_key
from tools.cli import local_tls
from tools.embedded.apns import ApnsStandIn
from tools.embedded.home import Home, free_row
from tools.embedded.ingress import Ingress
from tools.embedded.opened import Opened
from tools.embedded.stack import Embedded, Running

ALL_ROLES = ("http", "consumer", "worker")
APART: Mapping[str, Sequence[Sequence[str]]] = {service: [ALL_ROLES] for service in SERVICES}
"""Which processes run: for each service a list of role sets."""
REPOSITORY = Path(__file__).resolve().parents[2]
_READY_SECONDS = 120.0


@dataclass
class Part:
    """One process: a service in some roles."""

    name: str
    service: str
    roles: Sequence[str]
    ports: Mapping[str, int]
    environ: Mapping[str, str]
    log: Path
    processes: int = 1
    """More than one: `process` is their parent."""
    process: asyncio.subprocess.Process | None = None

    @property
    def pid(self) -> int:
        if self.process is None:
            raise RuntimeError(f"{self.name} does not run")
        return self.process.pid

    @property
    def internal_url(self) -> str:
        return f"http://127.0.0.1:{self.ports['internal']}"

    @property
    def own_urls(self) -> list[str]:
        """Where each process is asked how it is."""
        port, more = self.ports["internal"], self.processes > 1
        return [f"http://127.0.0.1:{port + more + number}" for number in range(self.processes)]


@dataclass
class Cluster(Opened):
    """`async with Cluster(home) as cluster`: servers, services and an ingress in front of them."""

    home: Home
    layout: Mapping[str, Sequence[Sequence[str]]] = field(default_factory=lambda: APART)
    settings: Mapping[str, str] = field(default_factory=dict)
    """More environment for all services."""
    processes: int = 1
    """How many processes share each part's addresses."""
    parts: dict[str, Part] = field(default_factory=dict, init=False)
    embedded: Embedded = field(init=False)
    apns: ApnsStandIn = field(init=False)
    running: Running = field(init=False)
    _stack: AsyncExitStack = field(default_factory=AsyncExitStack, init=False)

    async def _start(self) -> None:
        self.embedded = Embedded(self.home)
        self.running = await self._stack.enter_async_context(self.embedded)
        for service in SERVICES:
            ensure_service_keys(self.home.keys, service)
        for service, access in self.running.services.items():
            await migrate(access.database_url, service)
        self.apns = ApnsStandIn(self.home.state / "apns")
        await self.apns.start()
        self._stack.push_async_callback(self.apns.stop)
        ports = self.home.ports(["ingress-devices", "ingress-api"])
        self.tls = local_tls.ensure(self.home.state / "tls")
        self.devices_url = f"https://localhost:{ports['ingress-devices']}"
        self.api_url = f"http://127.0.0.1:{ports['ingress-api']}"
        self._plan()
        devices = Ingress(ports["ingress-devices"], self._upstreams("devices"), tls=self.tls)
        for ingress in (devices, Ingress(ports["ingress-api"], self._upstreams("api"))):
            await ingress.start()
            self._stack.push_async_callback(ingress.stop)
        self._stack.push_async_callback(self._stop_parts)
        await asyncio.gather(*(self.launch(name) for name in self.parts))
        await asyncio.gather(*(self.until_ready(name) for name in self.parts))

    def _plan(self) -> None:
        for service, sets in self.layout.items():
            for roles in sets:
                name = service if len(sets) == 1 else f"{service}-{'-'.join(roles)}"
                wanted = [f"{name}-{listener}" for listener in ("devices", "api", "internal")]
                ports = self.home.ports(wanted)
                by_listener = {full.rpartition("-")[2]: port for full, port in ports.items()}
                if self.processes > 1:
                    by_listener["internal"] = free_row(self.processes + 1)
                log = self.home.logs / f"{name}.log"
                self.parts[name] = Part(name, service, roles, by_listener, {}, log, self.processes)
        for part in self.parts.values():
            part.environ = self.environment(part)

    def environment(self, part: Part) -> dict[str, str]:
        """What a process is told."""
        internal = {p.service: p.internal_url for p in self._serving()}
        return {
            **os.environ,
            **self.running.services[part.service].environment(part.service),
            "MUSTER_KEYS_DIR": str(self.home.keys),
            "MUSTER_PUBLIC_URL": self.devices_url,
            "MUSTER_API_URL": self.api_url,
            "MUSTER_CONSOLE_URL": self.console_url,
            "MUSTER_COMMAND_QUEUE_CONSOLE_URL": self.console_url,
            "MUSTER_ENROLLMENT_SERVER_ROOTS": str(self.tls.authority),
            "MUSTER_INTERNAL_URLS": json.dumps(internal),
            **{f"MUSTER_{name.upper()}_PORT": str(port) for name, port in part.ports.items()},
            "MUSTER_PUSH_NOTIFIER_APNS_HOST": self.apns.host,
            "MUSTER_PUSH_NOTIFIER_APNS_PORT": str(self.apns.port),
            "MUSTER_PUSH_NOTIFIER_APNS_TRUST": str(self.apns.trust),
            "MUSTER_PUSH_NOTIFIER_APNS_PORTAL_URL": f"{self.apns.side_url}/portal/certificate",
            **self.settings,
        }

    @property
    def console_url(self) -> str:
        """Where browsers open the console: by a name, as keys answer for no bare address."""
        return f"http://localhost:{self.serving('console').ports['api']}"

    def _serving(self) -> list[Part]:
        return [part for part in self.parts.values() if "http" in part.roles]

    def _upstreams(self, listener: str) -> dict[str, str]:
        return {p.service: f"http://127.0.0.1:{p.ports[listener]}" for p in self._serving()}

    def serving(self, service: str) -> Part:
        """The process that answers requests of this service."""
        return next(part for part in self._serving() if part.service == service)

    async def launch(self, name: str) -> None:
        """Start a process; its output goes to the log folder."""
        part = self.parts[name]
        with part.log.open("ab") as log:
            part.process = await asyncio.create_subprocess_exec(
                *self.command(part), cwd=REPOSITORY, env=dict(part.environ), stdout=log,
                stderr=log, stdin=asyncio.subprocess.DEVNULL, start_new_session=True,
                preexec_fn=die_with(os.getpid()),
            )  # fmt: skip

    def command(self, part: Part) -> list[str]:
        """What starts a process, environment aside."""
        roles = [argument for role in part.roles for argument in ("--role", role)]
        several = ["--processes", str(part.processes)] if part.processes > 1 else []
        return [sys.executable, "-m", "tools.cli", "run", part.service, *roles, *several]

    async def until_ready(self, name: str) -> None:
        """Wait for /readyz of all its processes. Raises RuntimeError with the log's end when the
        process is gone.
        """
        part = self.parts[name]
        async with aiohttp.ClientSession() as session, asyncio.timeout(_READY_SECONDS):
            waiting = part.own_urls
            while waiting:
                if part.process is None or part.process.returncode is not None:
                    raise RuntimeError(f"{name} ended:\n{part.log.read_text()[-3000:]}")
                try:
                    async with session.get(f"{waiting[0]}/readyz") as answer:
                        if answer.status == 200:  # noqa: PLR2004
                            del waiting[0]
                            continue
                except aiohttp.ClientError:
                    pass  # it does not listen yet
                await asyncio.sleep(0.1)

    async def kill(self, name: str, number: signal.Signals = signal.SIGKILL) -> None:
        """End a process, by default without a warning, and see it gone."""
        part = self.parts[name]
        if part.process and part.process.returncode is None:
            part.process.send_signal(number)
            await part.process.wait()

    async def restart(self, name: str, number: signal.Signals = signal.SIGKILL) -> None:
        await self.kill(name, number)
        await self.launch(name)
        await self.until_ready(name)

    async def stop_kafka(self) -> None:
        await self.embedded.stop_kafka()

    async def start_kafka(self) -> None:
        await self.embedded.start_kafka()

    async def restart_postgres(self) -> None:
        await self.embedded.restart_postgres()

    async def query(self, service: str, statement: str, *arguments: Any) -> list[asyncpg.Record]:
        """Look into (or hurt) a service's schema, as that service."""
        connection = await asyncpg.connect(self.running.services[service].database_url)
        try:
            return list(await connection.fetch(statement, *arguments))
        finally:
            await connection.close()

    async def _stop_parts(self) -> None:
        await asyncio.gather(*(self.kill(name, signal.SIGTERM) for name in self.parts))

    def session(self) -> aiohttp.ClientSession:
        """A session that trusts the devices' address, for people and for simulated devices."""
        context = ssl.create_default_context(cafile=str(self.tls.authority))
        return aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=context, limit=200))

    def token(self, service: str) -> str:
        """An owner's access token for one service, for a quarter of an hour."""
        kid, key = token_key(self.home.keys / "console")
        signer = Signer("console", key, kid, SystemClock())
        return signer.access("user:test", service, ["*"], timedelta(minutes=15))

    async def call(
        self,
        session: aiohttp.ClientSession,
        service: str,
        method: str,
        path: str,
        *,
        trace: str | None = None,
        **more: Any,
    ) -> Any:
        """Ask a service's API as an owner, inside a `trace` (its traceparent) if one is given.

        Returns the JSON of a 2xx; raises RuntimeError otherwise.
        """
        headers = {"Authorization": f"Bearer {self.token(service)}"}
        if trace is not None:
            headers["traceparent"] = trace
        url = self.api_url + path
        async with session.request(method, url, headers=headers, **more) as answer:
            if not answer.ok:
                raise RuntimeError(f"{method} {path}: {answer.status} {await answer.text()}")
            return await answer.json() if answer.content_length else None
