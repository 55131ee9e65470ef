"""One service inside a process: its parts, built in order and taken down in the reverse order."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, TypeVar

from shared.bus import waking
from shared.bus.kafka import KafkaAccess
from shared.bus.relay import Relay
from shared.bus.runner import Runner
from shared.db.migrate import SchemaError, check_schema
from shared.db.pool import Pool, is_transient, open_pool
from shared.runtime import metrics
from shared.runtime.background import JobLocks, JobRunner, cancelled, keep_running
from shared.runtime.clock import Clock, SystemClock
from shared.runtime.internal import InternalClient
from shared.runtime.logs import SERVICE
from shared.runtime.service import Context, Parts, Role, Sealing, Service, Tokens
from shared.runtime.settings import Settings
from shared.runtime.tokens import Signer, Verifier
from shared.sealed import Keyring, LocalCipher, PublicKeys, token_key

log = logging.getLogger(__name__)

T = TypeVar("T")
_RETRY_SECONDS = 1.0


class Running:
    """A service's parts and its background work."""

    def __init__(self, service: Service[Any], context: Context[Any], parts: Parts) -> None:
        self.service, self.context, self.parts = service, context, parts
        self._relay: Relay | None = None
        self._runner: Runner | None = None
        self._jobs: JobRunner | None = None
        self._tasks: dict[str, asyncio.Task[None]] = {}

    @property
    def name(self) -> str:
        return self.service.name

    def start(self, roles: Collection[Role]) -> None:
        """Begin the background work of these roles."""
        settings = self.context.settings
        kafka = kafka_of(settings)
        if "worker" in roles:
            self._relay = Relay(self.name, settings.database_url, kafka)
            self._spawn("relay", self._relay.run)
            locks = JobLocks(settings.database_url, self.name)
            self._jobs = JobRunner(self.name, self.parts.jobs, locks)
            self._jobs.start()
        else:
            self._spawn("notifier", waking.Notifier(self.name, self.context.pool).run)
        if "consumer" in roles and self.parts.handlers:
            self._runner = Runner(self.name, self.context.pool, kafka, self.parts.handlers)
            self._spawn("runner", self._runner.run)

    def _spawn(self, what: str, run: Callable[[], Awaitable[None]]) -> None:
        work = keep_running(self.name, what, run)
        self._tasks[what] = asyncio.create_task(work, name=f"{self.name}:{what}")

    async def stop(self) -> None:
        """End consuming, then jobs, then sending; what waits in the outbox waits there."""
        runner = self._tasks.pop("runner", None)
        await cancelled({runner} if runner else set())
        if self._jobs is not None:
            await self._jobs.stop()
        await cancelled(set(self._tasks.values()))

    def healthy(self) -> bool:
        parts = (self._relay, self._runner)
        return all(part is None or part.healthy() for part in parts)

    async def ready(self) -> bool:
        async with self.context.pool.acquire(timeout=1) as connection:
            await connection.fetchval("SELECT 1")
        if self._runner is not None and not self._runner.ready():
            return False
        for check in self.parts.ready:
            if not await check():
                return False
        return True

    def observe(self) -> None:
        pool = self.context.pool
        idle = pool.get_idle_size()
        metrics.POOL_CONNECTIONS.labels(self.name, "idle").set(idle)
        metrics.POOL_CONNECTIONS.labels(self.name, "busy").set(pool.get_size() - idle)


@asynccontextmanager
async def opened(
    service: Service[Any], environ: Mapping[str, str], clock: Clock | None = None
) -> AsyncIterator[Running]:
    """Build a service; its parts are closed when the block ends.

    Waits for the database and for the migrations; raises SchemaError when the schema stays too old
    or is too new for this code; SettingsError and missing keys at once.
    """
    SERVICE.set(service.name)
    settings = service.settings.load(environ, service.name)
    async with AsyncExitStack() as stack:
        pool = await _patient(settings, lambda: _checked_pool(service.name, settings))
        stack.push_async_callback(_closed, pool)
        context = _context(service, settings, pool, clock or SystemClock())
        stack.push_async_callback(context.internal.close)
        parts = await stack.enter_async_context(service.build(context))
        yield Running(service, context, parts)


def _context(
    service: Service[Any], settings: Settings, pool: Pool, clock: Clock
) -> Context[Settings]:
    name, keys = service.name, settings.keys_dir
    kid, key = token_key(keys / name)
    signer = Signer(name, key, kid, clock)
    return Context(
        name=name,
        settings=settings,
        pool=pool,
        clock=clock,
        sealing=Sealing(Keyring.load(keys / name), PublicKeys(keys / "public")),
        cipher=LocalCipher.load(keys / name),
        tokens=Tokens(signer, Verifier(keys / "public", name, clock)),
        internal=InternalClient(settings.internal_urls, signer),
        wake_outbox=waking.waker(name),
    )


async def _checked_pool(name: str, settings: Settings) -> Pool:
    pool = await open_pool(
        settings.database_url, name=f"muster:{name}", max_size=settings.pool_size
    )
    try:
        await check_schema(pool, name)
    except BaseException:
        await pool.close()
        raise
    return pool


async def _patient(settings: Settings, attempt: Callable[[], Awaitable[T]]) -> T:
    """Try until the database answers and its schema is there."""
    deadline = time.monotonic() + settings.schema_wait_seconds
    said = ""
    while True:
        try:
            return await attempt()
        except Exception as error:
            if not (isinstance(error, SchemaError) or is_transient(error)):
                raise
            if time.monotonic() >= deadline:
                raise
            why = f"{type(error).__name__}: {error}"
            if why != said:
                log.warning("The database is not ready; waiting", extra={"why": why})
            said = why
        await asyncio.sleep(_RETRY_SECONDS)


async def _closed(pool: Pool) -> None:
    """Close gently, but not for ever: a stuck query must not hold up the end."""
    try:
        async with asyncio.timeout(5):
            await pool.close()
    except TimeoutError:
        pool.terminate()


def kafka_of(settings: Settings) -> KafkaAccess:
    return KafkaAccess(
        bootstrap=settings.kafka_bootstrap,
        username=settings.kafka_username,
        password=settings.kafka_password,
    )
