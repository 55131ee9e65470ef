"""Connections to the service's own schema."""

from __future__ import annotations

import contextlib
import os
import socket
import time
from collections.abc import AsyncIterator, Callable
from typing import Any, Final, TypeAlias

import asyncpg
import orjson
from asyncpg.pool import PoolConnectionProxy

from shared.db import metrics
from shared.db.errors import TRANSIENT, describe, is_data_error, is_transient

__all__ = [
    "READING",
    "TRANSIENT",
    "Connection",
    "Pool",
    "Record",
    "after_commit",
    "connected",
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

# What devices and events cause finds its rows by key. Planning such a statement costs several times
# what it does, and a plan made while a table was small must not scan it when it is large: one plan
# for good, and always by index (docs/decisions/0008-one-plan-for-the-road.md).
_ROAD = {
    "plan_cache_mode": "force_generic_plan",
    "enable_seqscan": "off",
    "enable_hashjoin": "off",
    "enable_mergejoin": "off",
    "jit": "off",
}

_SILENCE = {
    "TCP_KEEPIDLE": 10,  # seconds
    "TCP_KEEPINTVL": 5,
    "TCP_KEEPCNT": 3,
    "TCP_USER_TIMEOUT": 30_000,  # milliseconds
}

# One truth for all statements of an answer, each planned for the values it has, by one process: ten
# people ask at once.
READING: Final = (
    "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY;"
    "SET LOCAL plan_cache_mode = force_custom_plan; SET LOCAL jit = off;"
    "SET LOCAL max_parallel_workers_per_gather = 0"
)
"""What a transaction begins with that reads lists for people (`transaction`, first)."""

_after: dict[int, list[Callable[[], None]]] = {}


async def open_pool(
    dsn: str, *, name: str, min_size: int = 1, max_size: int = 10, road: bool = False
) -> Pool:
    """Open connections as the dsn's role; `name` is what PostgreSQL shows for them.

    json and jsonb are Python values both ways. Connections go back without the usual reset round
    trip: never SET, LISTEN or take session locks on one. `road`: for statements that look rows up
    by key, as batches of devices and of events do; people's lists and searches are planned anew.
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
        server_settings={"application_name": name, **(_ROAD if road else {})},
    )


async def prepare(connection: Any) -> None:
    """Teach a new connection that json columns hold Python values, and to notice a dead server."""
    _notice_silence(connection)
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


def _notice_silence(connection: Any) -> None:
    """Have the system break the connection to a machine that is gone within half a minute.

    Else a statement would wait for its answer for ever, and a batch with it. A server that only
    stands still keeps its connections.
    """
    transport = connection._transport  # noqa: SLF001 - asyncpg shows it nowhere else
    handle = transport.get_extra_info("socket").fileno()
    with socket.socket(fileno=os.dup(handle)) as same:  # uvloop's own stands for no options
        if same.family == socket.AF_UNIX:
            return
        same.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for name, value in _SILENCE.items():
            if option := getattr(socket, name, None):  # macOS has not all of them
                same.setsockopt(socket.IPPROTO_TCP, option, value)


async def _reset(connection: Any) -> None:
    if connection.is_in_transaction():
        await connection.reset()


@contextlib.asynccontextmanager
async def connected(pool: Pool) -> AsyncIterator[Connection]:
    """A connection for one statement that only reads; raises TimeoutError when none gets free."""
    begun = time.monotonic()
    try:
        connection = await pool.acquire(timeout=ACQUIRE_SECONDS)
    except TimeoutError:
        metrics.POOL_TIMEOUTS.inc()
        raise
    finally:
        metrics.POOL_WAIT.observe(time.monotonic() - begun)
    try:
        yield connection
    finally:
        await pool.release(connection)


@contextlib.asynccontextmanager
async def transaction(pool: Pool, first: str = "") -> AsyncIterator[Connection]:
    """One transaction on one connection of the pool; raises TimeoutError when none gets free.

    `first` is a statement without parameters that goes in BEGIN's own round trip.
    """
    async with connected(pool) as connection:
        waiting: list[Callable[[], None]] = []
        _after[id(connection)] = waiting
        try:
            await connection.execute(f"BEGIN; {first}")
            try:
                yield connection
            except BaseException:
                await _roll_back(connection)
                raise
            await connection.execute("COMMIT")
        finally:
            del _after[id(connection)]
    for call in waiting:
        call()


async def _roll_back(connection: Connection) -> None:
    """What ended the transaction is what the caller must hear, not that its connection is gone."""
    with contextlib.suppress(OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
        await connection.execute("ROLLBACK")


def after_commit(tx: Connection, call: Callable[[], None]) -> None:
    """Have `call` run once the `transaction` block of `tx` has committed; the same one only once.

    Outside of such a block nothing happens: whoever commits there wakes whom it likes.
    """
    waiting = _after.get(id(tx))
    if waiting is not None and call not in waiting:
        waiting.append(call)
