"""One service inside a process: its parts, built in order and taken down in the reverse order."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from shared.bus import revoked, waking
from shared.bus.handlers import Handlers
from shared.bus.kafka import KafkaAccess
from shared.db.migrate import SchemaError, SchemaTooNewError, check_schema
from shared.db.pool import Pool, is_transient, open_pool
from shared.events.access import ViaRevoked
from shared.runtime import metrics
from shared.runtime.clock import Clock, SystemClock
from shared.runtime.internal import InternalClient
from shared.runtime.logs import SERVICE
from shared.runtime.revocations import Revocations
from shared.runtime.service import Context, Parts, Sealing, Service, Tokens
from shared.runtime.settings import Settings
from shared.runtime.tokens import Signer, Verifier
from shared.sealed import Keyring, LocalCipher, PublicKeys, token_key

log = logging.getLogger(__name__)

T = TypeVar("T")
_RETRY_SECONDS = 1.0


@dataclass(frozen=True)
class Running:
    """A service's parts, open and ready to be used."""

    service: Service[Any]
    context: Context[Any]
    parts: Parts
    """With the handlers that every service has."""
    revocations: Revocations

    @property
    def name(self) -> str:
        return self.service.name

    async def ready(self) -> bool:
        """Whether its database answers and its own checks pass."""
        async with self.context.pool.acquire(timeout=1) as connection:
            await connection.fetchval("SELECT 1")
        for check in self.parts.ready:
            if not await check():
                return False
        return True

    def observe(self) -> None:
        """Bring gauges up to date before they are scraped."""
        pools = (self.context.pool, self.context.road)
        idle = sum(pool.get_idle_size() for pool in pools)
        metrics.POOL_CONNECTIONS.labels(self.name, "idle").set(idle)
        busy = sum(pool.get_size() for pool in pools) - idle
        metrics.POOL_CONNECTIONS.labels(self.name, "busy").set(busy)


@asynccontextmanager
async def opened(
    service: Service[Any],
    environ: Mapping[str, str],
    *,
    clock: Clock | None = None,
    internal: InternalClient | None = None,
) -> AsyncIterator[Running]:
    """Build a service; its parts are closed when the block ends.

    Waits for the database and for the migrations; raises SchemaError when the schema stays too old
    or is too new for this code; SettingsError and missing keys at once.
    """
    token = SERVICE.set(service.name)
    settings = service.settings.load(environ, service.name)
    async with AsyncExitStack() as stack:
        pool = await _patient(settings, lambda: _checked_pool(service.name, settings))
        stack.push_async_callback(_closed, pool)
        road = await _patient(settings, lambda: _road_pool(service.name, settings))
        stack.push_async_callback(_closed, road)
        context = _context(service, settings, (pool, road), clock or SystemClock(), internal)
        stack.push_async_callback(context.internal.close)
        # It may write at its first start: the database may go away meanwhile, too.
        parts = await _patient(settings, lambda: stack.enter_async_context(service.build(context)))
        SERVICE.reset(token)
        handlers: Handlers = {**parts.handlers, ViaRevoked: revoked.keep}
        parts = replace(parts, handlers=handlers)
        yield Running(service, context, parts, Revocations(pool, context.clock))


def _context(
    service: Service[Any],
    settings: Settings,
    pools: tuple[Pool, Pool],
    clock: Clock,
    internal: InternalClient | None,
) -> Context[Settings]:
    name, keys = service.name, settings.keys_dir
    own = keys / (service.keys or name)
    kid, key = _nobody() if service.jobs_only else token_key(own)
    signer = Signer(name, key, kid, clock)
    return Context(
        name=name,
        settings=settings,
        pool=pools[0],
        road=pools[1],
        clock=clock,
        sealing=Sealing(
            Keyring({}) if service.jobs_only else Keyring.load(own), PublicKeys(keys / "public")
        ),
        cipher=LocalCipher.load(own),
        tokens=Tokens(signer, Verifier(keys / "public", name, clock)),
        internal=internal or InternalClient(settings.internal_urls, signer),
        wake_outbox=waking.waker(name),
    )


def _nobody() -> tuple[str, Ed25519PrivateKey]:
    """A key of this process alone, for one that must be able to sign nothing."""
    return "nobody", Ed25519PrivateKey.generate()


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


async def _road_pool(name: str, settings: Settings) -> Pool:
    return await open_pool(
        settings.database_url, name=f"muster:{name}:road", max_size=settings.road_size, road=True
    )


async def _patient(settings: Settings, attempt: Callable[[], Awaitable[T]]) -> T:
    """Try until the database answers and its schema is there."""
    deadline = time.monotonic() + settings.schema_wait_seconds
    said = ""
    while True:
        try:
            return await attempt()
        except Exception as error:
            passes = isinstance(error, SchemaError) or is_transient(error)
            hopeless = isinstance(error, SchemaTooNewError) or time.monotonic() >= deadline
            if hopeless or not passes:
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
        ca_file=settings.kafka_ca_file,
    )
