"""Both servers, set up and running, behind one object: what `make up` stands on."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncIterator, Awaitable, Mapping, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from urllib.parse import unquote

from shared.events import registry
from tools.embedded import databases, kafka, postgres, topics
from tools.embedded.errors import EmbeddedError
from tools.embedded.home import Home, write_private
from tools.embedded.kafka_config import ADMIN, Ports
from tools.embedded.keeping import Keeper, Kept, Say
from tools.embedded.processes import Process
from tools.embedded.progress import Progress

# Servers of the reader's own instead of embedded ones. PostgreSQL: the dsn of a superuser.
# Kafka: `user:password@host:port` of a super user (SCRAM-SHA-512), or `host:port` without sign-in.
OUTSIDE_POSTGRES = "MUSTER_OUTSIDE_POSTGRES"
OUTSIDE_KAFKA = "MUSTER_OUTSIDE_KAFKA"


@dataclass(frozen=True)
class Access:
    """How one service reaches the servers, as itself."""

    database_url: str = field(repr=False)
    kafka: topics.Login

    def environment(self, service: str) -> dict[str, str]:
        """Return the settings that carry this, named for the service alone."""
        prefix = f"MUSTER_{service.upper()}"
        values = {
            f"{prefix}_DATABASE_URL": self.database_url,
            f"{prefix}_KAFKA_BOOTSTRAP": self.kafka.bootstrap,
        }
        if self.kafka.username and self.kafka.password:
            values[f"{prefix}_KAFKA_USERNAME"] = self.kafka.username
            values[f"{prefix}_KAFKA_PASSWORD"] = self.kafka.password
        return values


@dataclass(frozen=True)
class Running:
    """What is up: each service's access, and the administrators' for the tools."""

    services: Mapping[str, Access]
    postgres_admin: str = field(repr=False)
    kafka_admin: topics.Login
    workers: Mapping[str, str] = field(default_factory=dict, repr=False)
    """The dsn of each worker that has a role of its own."""

    def environment(self) -> dict[str, str]:
        """Return the settings of all services together."""
        return {
            name: value
            for service, access in self.services.items()
            for name, value in access.environment(service).items()
        }


class Embedded:
    """PostgreSQL and Kafka of one checkout: `async with Embedded(home, progress) as running`.

    One process at a time: the checkout's lock is held from start to stop. Servers that outlived a
    killed process of ours are taken over.
    """

    def __init__(
        self,
        home: Home,
        progress: Progress | None = None,
        *,
        services: Sequence[str] = registry.SERVICES,
        environ: Mapping[str, str] | None = None,
    ) -> None:
        self.home = home
        self._progress = progress or Progress()
        self._services = services
        given = os.environ if environ is None else environ
        self._outside_postgres = given.get(OUTSIDE_POSTGRES)
        self._outside_kafka = given.get(OUTSIDE_KAFKA)
        self._postgres: postgres.Postgres | None = None
        self._kafka: kafka.Kafka | None = None
        self._held = contextlib.ExitStack()

    async def __aenter__(self) -> Running:
        return await self.start()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.stop()

    async def start(self) -> Running:
        """Start and set up both servers side by side; whatever fails, nothing is left running."""
        self._held.enter_context(self.home.lock())
        try:
            running = await self._start_both(self._ports())
        except BaseException:
            await self.stop()
            raise
        self._write_environments(running)
        return running

    async def stop(self) -> None:
        """Stop what runs, in order; safe to call again."""
        servers = [server for server in (self._kafka, self._postgres) if server]
        if any(server.running() for server in servers):
            with self._progress.step("PostgreSQL and Kafka stop"):
                await asyncio.gather(*(server.stop() for server in servers))
        self._kafka = self._postgres = None
        self._held.close()

    def pids(self) -> dict[str, int]:
        """Return the process id of each embedded server that runs, for meters and fault tests."""
        servers = {"postgres": self._postgres, "kafka": self._kafka}
        return {name: server.pid for name, server in servers.items() if server and server.pid}

    async def stop_kafka(self) -> None:
        """Take the broker away, for fault tests; `start_kafka` brings the same one back."""
        if self._kafka:
            await self._kafka.stop()

    async def kill_kafka(self) -> None:
        """As `stop_kafka`, by kill -9."""
        if self._kafka:
            await self._kafka.kill()

    async def start_kafka(self) -> None:
        if self._kafka:
            await self._kafka.start()

    async def crash_postgres(self) -> None:
        """Immediate shutdown: as after a power cut, for fault tests; `start_postgres` recovers."""
        if self._postgres:
            await self._postgres.stop(signal.SIGQUIT)

    async def start_postgres(self) -> None:
        if self._postgres:
            await self._postgres.start()

    async def restart_postgres(self) -> None:
        """Stop and start the database under its clients, for fault tests."""
        if self._postgres:
            await self._postgres.stop()
            await self._postgres.start()

    def servers_running(self) -> bool:
        """Tell whether both are still there: false means that one died under us."""
        servers = [server for server in (self._kafka, self._postgres) if server]
        return all(server.running() for server in servers)

    @contextlib.asynccontextmanager
    async def kept(self, say: Say) -> AsyncIterator[None]:
        """Start again what dies, and tell of a disk that fills, for the length of a block."""
        keeper = asyncio.create_task(Keeper(self._keeps(), say).run(), name="keeper")
        try:
            yield
        finally:
            keeper.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await keeper

    def _keeps(self) -> list[Kept]:
        """The embedded ones; outside servers have keepers of their own."""
        state, kept = self.home.state, []
        if self._postgres:
            meanwhile = "devices and people are asked to come again (503)."
            kept.append(Kept("PostgreSQL", self._postgres, state / "postgres", meanwhile))
        if self._kafka:
            meanwhile = "devices are served, events wait in the outbox."
            kept.append(Kept("Kafka", self._kafka, state / "kafka", meanwhile))
        return kept

    def _ports(self) -> dict[str, int]:
        alive = []
        if postgres.survivor(self.home.state / "postgres" / "data"):
            alive.append("postgres")
        if kafka.survivor(self.home.run):
            alive += ["kafka", "kafka-controller"]
        return self.home.ports(["postgres", "kafka", "kafka-controller"], running=alive)

    async def _start_both(self, ports: Mapping[str, int]) -> Running:
        kafka_ports = Ports(ports["kafka"], ports["kafka-controller"])
        try:
            async with asyncio.TaskGroup() as group:
                database = group.create_task(self._start_postgres(ports["postgres"]))
                broker = group.create_task(self._start_kafka(kafka_ports))
        except BaseExceptionGroup as several:
            # One of them failed and the other was called off: one plain error says what to do.
            raise several.exceptions[0] from None
        return self._running(*database.result(), *broker.result())

    async def _start_postgres(self, port: int) -> tuple[str, dict[str, str]]:
        with self._progress.step("PostgreSQL") as step:
            admin = self._outside_postgres
            if admin is None:
                self._postgres = postgres.Postgres(self.home, port)
                await self._postgres.start()
                admin = self._postgres.admin_dsn
            step.note("schemas and roles")
            roles = databases.with_workers(self._services)
            passwords = {name: self.home.password(f"postgres-{name}") for name in roles}
            dsns = await _reached(databases.provision(admin, passwords))
            step.note("ready")
        return admin, dsns

    async def _start_kafka(self, ports: Ports) -> tuple[topics.Login, dict[str, str]]:
        with self._progress.step("Kafka") as step:
            if self._outside_kafka is not None:
                admin = login_of(self._outside_kafka)
            else:
                self._kafka = kafka.Kafka(self.home, ports)
                await self._kafka.start(step)
                secret = self.home.password(f"kafka-{ADMIN}")
                admin = topics.Login(self._kafka.bootstrap, ADMIN, secret)
            step.note("topics and rights")
            passwords = {name: self.home.password(f"kafka-{name}") for name in self._services}
            await topics.provision(admin, topics.declared(), passwords)
            step.note("ready")
        return admin, passwords

    def _running(
        self,
        postgres_admin: str,
        dsns: Mapping[str, str],
        kafka_admin: topics.Login,
        passwords: Mapping[str, str],
    ) -> Running:
        def login(service: str) -> topics.Login:
            if kafka_admin.username is None:
                return topics.Login(kafka_admin.bootstrap)
            return topics.Login(kafka_admin.bootstrap, service, passwords[service])

        services = {name: Access(dsns[name], login(name)) for name in self._services}
        workers = {name: dsn for name, dsn in dsns.items() if name not in services}
        return Running(services, postgres_admin, kafka_admin, workers)

    def _write_environments(self, running: Running) -> None:
        """Leave each service's settings where a process of its own can read them."""
        for service, access in running.services.items():
            lines = [f"{name}={value}" for name, value in access.environment(service).items()]
            write_private(self.home.secrets / f"{service}.env", "\n".join(lines) + "\n")
        for worker, dsn in running.workers.items():
            service = databases.WORKERS[worker].upper()
            line = f"MUSTER_{service}_DATABASE_URL={dsn}\n"
            write_private(self.home.secrets / f"{worker}.env", line)


async def _reached(provision: Awaitable[dict[str, str]]) -> dict[str, str]:
    try:
        return await provision
    except OSError as error:
        raise EmbeddedError(f"PostgreSQL cannot be reached: {error}") from error


def login_of(address: str) -> topics.Login:
    """Read `host:port` or `user:password@host:port` (user and password percent-encoded)."""
    credentials, _, bootstrap = address.rpartition("@")
    if not credentials:
        return topics.Login(bootstrap)
    username, _, password = credentials.partition(":")
    return topics.Login(bootstrap, unquote(username), unquote(password))


async def stop_leftovers(home: Home) -> list[str]:
    """Stop servers that outlived a killed `make up`; return their names."""
    stopped = []
    with home.lock():
        if left := postgres.survivor(home.state / "postgres" / "data"):
            await Process(left.pid).stop(signal.SIGINT)
            stopped.append("PostgreSQL")
        if broker := kafka.survivor(home.run):
            await Process(broker[0]).stop(signal.SIGTERM)
            stopped.append("Kafka")
    return stopped
