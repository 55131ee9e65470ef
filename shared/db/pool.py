"""Connections to the service's own schema."""

from __future__ import annotations

import contextlib
import time
from collections.abc import AsyncIterator, Callable
from typing import Any, TypeAlias

import asyncpg
import orjson
from asyncpg.pool import PoolConnectionProxy

from shared.db import metrics
from shared.db.errors import TRANSIENT, describe, is_data_error, is_transient

__all__ = [
    "TRANSIENT",
    "Connection",
    "Pool",
    "Record",
    "after_commit",
    "describe",
    "is_data_error",
    "is_transient",
    "open_pool",
    "transaction",
]

Record: TypeAlias = asyncpg.Record
Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record] | PoolConnectionProxy[asyncpg.Record]"
Pool: TypeAlias = "asyncpg.Pool[asyncpg.Record]"

ACQUIRE_SECONDS = 5.0
_IDLE_SECONDS = 240.0  # below the idle limit of the usual load balancers

_after: dict[int, list[Callable[[], None]]] = {}


async def open_pool(dsn: str, *, name: str, min_size: int = 1, max_size: int = 10) -> Pool:
    """Open connections as the dsn's role; `name` is what PostgreSQL shows for them.

    json and jsonb are Python values both ways. Connections go back without the usual reset round
    trip: never SET, LISTEN or take session locks on one.
    """
    return await asyncpg.create_pool(
        dsn,
        min_size=min_size,
        max_size=max_size,
        max_queries=1_000_000,
        max_inactive_connection_lifetime=_IDLE_SECONDS,
        timeout=ACQUIRE_SECONDS,
        init=prepare,
        reset=_reset,
        server_settings={"application_name": name},
    )


async def prepare(connection: Any) -> None:
    """Teach a new connection that json columns hold Python values."""
    await connection.set_type_codec(
        "jsonb",
        schema="pg_catalog",
        encoder=lambda value: b"\x01" + orjson.dumps(value),
        decoder=lambda data: orjson.loads(data[1:]),
        format="binary",
    )
    await connection.set_type_codec(
        "json",
        schema="pg_catalog",
        encoder=orjson.dumps,
        decoder=orjson.loads,
        format="binary",
    )


async def _reset(connection: Any) -> None:
    if connection.is_in_transaction():
        await connection.reset()


@contextlib.asynccontextmanager
async def transaction(pool: Pool) -> AsyncIterator[Connection]:
    """One transaction on one connection of the pool; raises TimeoutError when none gets free."""
    begun = time.monotonic()
    async with pool.acquire(timeout=ACQUIRE_SECONDS) as connection:
        metrics.POOL_WAIT.observe(time.monotonic() - begun)
        waiting: list[Callable[[], None]] = []
        _after[id(connection)] = waiting
        try:
            async with connection.transaction():
                yield connection
        finally:
            del _after[id(connection)]
    for call in waiting:
        call()


def after_commit(tx: Connection, call: Callable[[], None]) -> None:
    """Have `call` run once the `transaction` block of `tx` has committed; the same one only once.

    Outside of such a block nothing happens: whoever commits there wakes whom it likes.
    """
    waiting = _after.get(id(tx))
    if waiting is not None and call not in waiting:
        waiting.append(call)
