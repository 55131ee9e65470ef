"""What `tests/conftest.py` is made of: servers and databases that live for one pytest run."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import importlib
import os
import shutil
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, TypeVar

import asyncpg

from shared.events import registry
from tools.embedded import databases, topics
from tools.embedded.errors import AlreadyRunningError
from tools.embedded.home import Home, locked
from tools.embedded.kafka import Kafka
from tools.embedded.kafka import survivor as left_broker
from tools.embedded.kafka_config import ADMIN, Ports
from tools.embedded.postgres import Postgres
from tools.embedded.postgres import survivor as left_postmaster
from tools.embedded.processes import Process

MakeDatabase = Callable[[str], Awaitable[str]]
S = TypeVar("S", bound="Server")


class Server(Protocol):
    async def start(self) -> None: ...

    async def stop(self) -> None: ...


@contextlib.asynccontextmanager
async def running(server: S) -> AsyncIterator[S]:
    """Hold a server up for the length of a block."""
    try:
        await server.start()
        yield server
    finally:
        await server.stop()


@contextlib.contextmanager
def home(muster: Path) -> Iterator[Home]:
    """Yield a folder of this process's own below `.muster/test`, and remove it afterwards.

    The lock inside tells the living from the dead: a folder whose lock nobody holds belongs to a
    run that was killed.
    """
    folder = muster / "test" / str(os.getpid())
    folder.mkdir(parents=True, exist_ok=True)
    with locked(folder / "lock"):
        _sweep(folder.parent)
        try:
            yield Home.at(folder, cache=muster / "cache")
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def _sweep(folders: Path) -> None:
    for folder in folders.iterdir():
        with contextlib.suppress(AlreadyRunningError, FileNotFoundError):
            if not (folder / "lock").exists():
                continue
            with locked(folder / "lock"):
                for data in folder.rglob("postmaster.pid"):
                    if left := left_postmaster(data.parent):
                        Process(left.pid).signal(signal.SIGQUIT)
                for state in folder.rglob("kafka.json"):
                    if broker := left_broker(state.parent):
                        Process(broker[0]).signal(signal.SIGKILL)
                shutil.rmtree(folder, ignore_errors=True)


class Databases:
    """Fresh databases on one server, cloned from a migrated template for each service.

    Names carry our process id: several runs may share an outside server.
    """

    def __init__(self, admin_dsn: str) -> None:
        self._admin_dsn = admin_dsn
        self._prefix = f"muster_test_{os.getpid()}"
        self._templates: dict[tuple[str, bool], str] = {}
        self._made = 0
        self._lock = asyncio.Lock()
        # Roles belong to the whole server, so every run that uses it must arrive at the same
        # password.
        self._password = hashlib.sha256(admin_dsn.encode()).hexdigest()

    @contextlib.asynccontextmanager
    async def lent(self, *, migrated: bool = True) -> AsyncIterator[MakeDatabase]:
        """Yield a function that makes databases; they are dropped when the block ends."""
        made: list[str] = []

        async def make(service: str) -> str:
            template = await self._template(service, migrated=migrated)
            self._made += 1
            name = f"{self._prefix}_{self._made}"
            async with self._admin() as admin:
                await admin.execute(f'CREATE DATABASE "{name}" TEMPLATE "{template}"')
                made.append(name)
                # A clone takes over everything but who may connect.
                await databases.admit(admin, name, databases.with_workers([service]))
            return self._dsn(service, name)

        try:
            yield make
        finally:
            await self._drop(made)

    async def drop_all(self) -> None:
        await self._drop(self._templates.values())

    async def _template(self, service: str, *, migrated: bool) -> str:
        async with self._lock:
            known = self._templates.get((service, migrated))
            if known:
                return known
            name = f"{self._prefix}_{service}_{'migrated' if migrated else 'empty'}"
            passwords = dict.fromkeys(databases.with_workers([service]), self._password)
            await databases.provision(self._admin_dsn, passwords, database=name)
            if migrated:
                await self._migrate(service, name)
            self._templates[service, migrated] = name
            return name

    async def _migrate(self, service: str, database: str) -> None:
        # Imported here: the servers must be of use in a checkout whose services do not import.
        migrate = importlib.import_module("shared.db.migrate").migrate
        try:
            await migrate(self._dsn(service, database), service)
        except BaseException:
            await self._drop([database])
            raise

    def _dsn(self, service: str, database: str) -> str:
        return databases.dsn_of(self._admin_dsn, service, self._password, database)

    async def _drop(self, names: Iterable[str]) -> None:
        async with self._admin() as admin:
            for name in names:
                await admin.execute(f'DROP DATABASE "{name}" WITH (FORCE)')

    @contextlib.asynccontextmanager
    async def _admin(self) -> AsyncIterator[databases.Connection]:
        admin = await asyncpg.connect(self._admin_dsn)
        try:
            yield admin
        finally:
            await admin.close()


class Topics:
    """Topics for tests on a broker that asks nobody who he is; names are never used twice."""

    def __init__(self, bootstrap: str) -> None:
        self._login = topics.Login(bootstrap)
        self._made = 0

    async def make(
        self,
        stem: str = "topic",
        *,
        name: str | None = None,
        partitions: int = 1,
        compacted: bool = False,
        settings: Mapping[str, str] | None = None,
    ) -> str:
        """Create a topic and return its name: `stem` and a suffix, or exactly `name`."""
        self._made += 1
        chosen = name or f"{stem}-{os.getpid()}-{self._made}"
        plan = topics.TopicPlan(
            chosen, writer="", compacted=compacted, partitions=partitions, extra=settings or {}
        )
        await topics.provision(self._login, [plan], {})
        return chosen


MakeTopic = Callable[..., Awaitable[str]]


def broker(home: Home, *, for_tests: bool) -> Kafka:
    """Return a broker on ports that nobody else uses."""
    ports = home.ports(["kafka", "kafka-controller"])
    return Kafka(home, Ports(ports["kafka"], ports["kafka-controller"]), for_tests=for_tests)


@dataclass(frozen=True)
class SecurePostgres:
    """The embedded default: scram, fsync on, all services' roles and schemas in one database."""

    server: Postgres
    dsns: Mapping[str, str] = field(repr=False)

    def dsn(self, service: str) -> str:
        return self.dsns[service]


@dataclass(frozen=True)
class SecureKafka:
    """The embedded default: identities and rights a service, the registry's topics."""

    server: Kafka
    bootstrap: str
    passwords: Mapping[str, str] = field(repr=False)

    def login(self, service: str) -> topics.Login:
        """Return where and as whom a service signs in; `admin` may do everything."""
        return topics.Login(self.bootstrap, service, self.passwords[service])


@contextlib.asynccontextmanager
async def secure_postgres(parent: Home) -> AsyncIterator[SecurePostgres]:
    """Run a server beside the quick one, set up as `make up` does."""
    home = _apart(parent)
    server = Postgres(home, home.ports(["postgres"])["postgres"])
    async with running(server):
        roles = databases.with_workers(registry.SERVICES)
        passwords = {name: home.password(f"postgres-{name}") for name in roles}
        yield SecurePostgres(server, await databases.provision(server.admin_dsn, passwords))


@contextlib.asynccontextmanager
async def secure_kafka(parent: Home) -> AsyncIterator[SecureKafka]:
    """Run a broker beside the open one, set up as `make up` does."""
    home = _apart(parent)
    async with running(broker(home, for_tests=False)) as server:
        passwords = {name: home.password(f"kafka-{name}") for name in (*registry.SERVICES, ADMIN)}
        secure = SecureKafka(server, server.bootstrap, passwords)
        services = {name: passwords[name] for name in registry.SERVICES}
        await topics.provision(secure.login(ADMIN), topics.declared(), services)
        yield secure


def _apart(parent: Home) -> Home:
    return Home.at(parent.root / "secure", cache=parent.cache)
