from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable
from typing import Any

import asyncpg
import pytest
from prometheus_client import REGISTRY
from pydantic import BaseModel, ValidationError

from shared.db import pool as pools
from shared.db.errors import describe, is_data_error, is_transient
from shared.db.locks import lock_devices
from shared.db.pool import Pool, after_commit, open_pool, transaction
from shared.events import uuid7


async def test_json_columns_hold_python_values(pool: Pool) -> None:
    value = {"a": [1, None, "ü"], "b": {"c": 1.5}}
    for kind in ("json", "jsonb"):
        assert await pool.fetchval(f"SELECT $1::{kind}", value) == value
        assert await pool.fetchval(f"SELECT $1::{kind}[]", [value, "x", 3]) == [value, "x", 3]
        assert await pool.fetchval(f"SELECT $1::{kind}", None) is None


async def test_what_waits_for_the_commit_runs_after_it_and_once(pool: Pool) -> None:
    calls: list[str] = []

    def call() -> None:
        calls.append("called")

    async with transaction(pool) as tx:
        after_commit(tx, call)
        after_commit(tx, call)
        assert calls == []
    assert calls == ["called"]


async def test_a_rollback_calls_nobody(pool: Pool) -> None:
    calls: list[str] = []

    async def work() -> None:
        async with transaction(pool) as tx:
            after_commit(tx, lambda: calls.append("called"))
            raise LookupError

    with pytest.raises(LookupError):
        await work()
    assert calls == []


async def test_a_cancelled_transaction_gives_its_connection_back_clean(pool: Pool) -> None:
    async def work() -> None:
        async with transaction(pool) as tx:
            await tx.execute("INSERT INTO entry (key, value) VALUES ('a', 1)")
            await tx.execute("SELECT pg_sleep(60)")

    for _ in range(20):
        task = asyncio.create_task(work())
        await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert await pool.fetchval("SELECT count(*) FROM entry") == 0
    async with transaction(pool) as tx:
        await tx.execute("INSERT INTO entry (key, value) VALUES ('a', 1)")
    assert await pool.fetchval("SELECT count(*) FROM entry") == 1


async def test_a_server_that_is_gone_is_noticed(pool: Pool) -> None:
    """Without these a statement sent to a machine that vanished would wait for ever."""
    async with pool.acquire() as connection:
        held: Any = connection
        handle = held._transport.get_extra_info("socket").fileno()
        with socket.socket(fileno=os.dup(handle)) as same:
            assert same.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
            assert same.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == 10
            assert same.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 30_000


async def test_devices_are_locked_and_made_when_missing(pool: Pool) -> None:
    devices = [uuid7() for _ in range(5)]
    async with transaction(pool) as tx:
        await lock_devices(tx, [*devices, *devices])
        free = await pool.fetch("SELECT FROM device FOR NO KEY UPDATE SKIP LOCKED")
        assert free == []
    assert await pool.fetchval("SELECT count(*) FROM device") == 5


async def test_many_lockers_in_any_order_never_deadlock(pool: Pool) -> None:
    devices = [uuid7() for _ in range(12)]

    async def lock(part: list[Any]) -> None:
        async with transaction(pool) as tx:
            await lock_devices(tx, part)
            await asyncio.sleep(0.002)

    parts = [devices[n % 5 :: (n % 3) + 1][:: -1 if n % 2 else 1] for n in range(60)]
    await asyncio.gather(*(lock(part) for part in parts))
    assert await pool.fetchval("SELECT count(*) FROM device") == 12


@pytest.mark.parametrize(
    "error",
    [
        asyncpg.DeadlockDetectedError("x"),
        asyncpg.SerializationError("x"),
        asyncpg.LockNotAvailableError("x"),
        asyncpg.TooManyConnectionsError("x"),
        asyncpg.AdminShutdownError("x"),
        asyncpg.CannotConnectNowError("x"),
        asyncpg.QueryCanceledError("x"),
        asyncpg.ConnectionDoesNotExistError("x"),
        asyncpg.InterfaceError("connection is closed"),
        asyncpg.InvalidCachedStatementError("x"),
        asyncpg.ReadOnlySQLTransactionError("x"),
        ConnectionRefusedError(),
        TimeoutError(),
    ],
)
def test_what_passes_by_itself(error: Exception) -> None:
    assert is_transient(error)
    assert not is_data_error(error)


@pytest.mark.parametrize(
    "error",
    [
        asyncpg.CheckViolationError("x"),
        asyncpg.UniqueViolationError("x"),
        asyncpg.CharacterNotInRepertoireError("x"),
        asyncpg.DataError("invalid input for query argument"),
        asyncpg.CardinalityViolationError("x"),
        ValueError(),
        KeyError(),
    ],
)
def test_what_comes_from_the_data(error: Exception) -> None:
    assert is_data_error(error)
    assert not is_transient(error)


@pytest.mark.parametrize(
    "error", [asyncpg.UndefinedTableError("x"), asyncpg.InsufficientPrivilegeError("x")]
)
def test_what_is_neither(error: Exception) -> None:
    assert not is_data_error(error)
    assert not is_transient(error)


async def test_who_gets_no_connection_is_counted_with_the_wait(
    dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pools, "ACQUIRE_SECONDS", 0.2)
    waits, timeouts = "muster_db_pool_wait_seconds_sum", "muster_db_pool_timeouts_total"
    before = [REGISTRY.get_sample_value(name) or 0 for name in (waits, timeouts)]
    small = await open_pool(dsn, name="tests", max_size=1)
    try:
        async with transaction(small):
            with pytest.raises(TimeoutError):
                async with transaction(small):
                    pytest.fail("there was no second connection")
    finally:
        await small.close()
    waited, given_up = (
        (REGISTRY.get_sample_value(name) or 0) - was
        for name, was in zip((waits, timeouts), before, strict=True)
    )
    assert waited >= 0.2
    assert given_up == 1


class Person(BaseModel):
    pin: int


async def test_a_described_error_does_not_tell_the_value(pool: Pool) -> None:
    def refuse() -> None:
        Person.model_validate({"pin": "secret-value"})

    assert "secret" not in described(refuse, ValidationError)
    assert "pin: int_parsing" in described(refuse, ValidationError)
    with pytest.raises(asyncpg.PostgresError) as caught:
        await pool.execute("INSERT INTO counter (key, value) SELECT 'a', 'secret-value'::int")
    assert "secret" not in describe(caught.value)
    assert "22P02" in describe(caught.value)


def described(call: Callable[[], None], kind: type[Exception]) -> str:
    with pytest.raises(kind) as caught:
        call()
    return describe(caught.value)
