from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Sequence
from typing import NamedTuple
from urllib.parse import urlsplit

import asyncpg
import pytest

from shared.db.batcher import Batcher, Overloaded
from shared.db.pool import Connection, Pool

INSERT = """
INSERT INTO entry (key, value)
SELECT key, value FROM unnest($1::text[], $2::int[]) WITH ORDINALITY AS e (key, value, at)
ORDER BY at RETURNING value
"""


class Entry(NamedTuple):
    key: str
    value: int


def key_of(entry: Entry) -> str:
    return entry.key


async def insert(tx: Connection, entries: Sequence[Entry]) -> list[int]:
    rows = await tx.fetch(INSERT, [e.key for e in entries], [e.value for e in entries])
    return [row["value"] for row in rows]


def batcher(pool: Pool, **options: object) -> Batcher[Entry, int]:
    return Batcher("test", pool, insert, key=key_of, **options)  # type: ignore[arg-type]


async def written(pool: Pool) -> list[Entry]:
    rows = await pool.fetch("SELECT key, value FROM entry ORDER BY place")
    return [Entry(*row) for row in rows]


async def test_each_caller_gets_its_own_result(pool: Pool) -> None:
    batches = batcher(pool)
    numbers = range(1000)
    results = await asyncio.gather(*(batches.put(Entry(f"k{n}", n)) for n in numbers))
    assert results == list(numbers)
    assert len(await written(pool)) == 1000


@pytest.mark.parametrize("turn", [False, True])
async def test_a_caller_may_put_again_as_soon_as_it_is_answered(pool: Pool, turn: bool) -> None:
    batches = batcher(pool, turn=turn)
    async with asyncio.timeout(20):
        for n in range(20):
            assert await batches.put(Entry("k", n)) == n


@pytest.mark.parametrize(("turn", "sizes"), [(False, [1, 2]), (True, [3])])
async def test_who_is_being_read_joins_a_batch_that_waits_a_turn(
    pool: Pool,
    turn: bool,
    sizes: list[int],
) -> None:
    batches: list[int] = []

    async def counted(tx: Connection, entries: Sequence[Entry]) -> list[int]:
        batches.append(len(entries))
        return await insert(tx, entries)

    batcher: Batcher[Entry, int] = Batcher("test", pool, counted, key=key_of, turn=turn)
    first = asyncio.create_task(batcher.put(Entry("a", 1)))
    await asyncio.sleep(0)  # it is put, and the batch is about to leave
    others = [asyncio.create_task(batcher.put(Entry(key, 2))) for key in "bc"]
    await asyncio.gather(first, *others)
    assert batches == sizes


async def test_a_poisoned_row_hurts_only_its_caller(pool: Pool) -> None:
    batches = batcher(pool)
    puts = [batches.put(Entry(f"k{n}", -1 if n in (17, 18, 99) else n)) for n in range(200)]
    results = await asyncio.gather(*puts, return_exceptions=True)
    failed = [n for n, result in enumerate(results) if isinstance(result, BaseException)]
    assert failed == [17, 18, 99]
    assert all(isinstance(results[n], asyncpg.CheckViolationError) for n in failed)
    assert sorted(entry.value for entry in await written(pool)) == sorted(
        set(range(200)) - set(failed)
    )


async def test_a_value_that_cannot_be_encoded_hurts_only_its_caller(pool: Pool) -> None:
    batches = batcher(pool)
    puts = [batches.put(Entry("a", 1)), batches.put(Entry("b", 2**40)), batches.put(Entry("c", 3))]
    results = await asyncio.gather(*puts, return_exceptions=True)
    assert results[0] == 1
    assert isinstance(results[1], asyncpg.DataError)
    assert results[2] == 3


async def test_an_error_of_the_code_fails_the_batch_without_splitting(pool: Pool) -> None:
    calls = []

    async def broken(tx: Connection, entries: Sequence[Entry]) -> list[int]:
        calls.append(len(entries))
        await tx.execute("SELECT * FROM no_such_table")
        return []

    batches: Batcher[Entry, int] = Batcher("test", pool, broken, key=key_of)
    puts = [batches.put(Entry(str(n), n)) for n in range(10)]
    results = await asyncio.gather(*puts, return_exceptions=True)
    assert {type(result) for result in results} == {asyncpg.UndefinedTableError}
    assert calls == [10]


async def test_a_result_that_is_an_exception_is_raised_to_its_caller(pool: Pool) -> None:
    async def judge(tx: Connection, entries: Sequence[Entry]) -> list[int | Exception]:
        return [LookupError("no") if e.value == 1 else e.value for e in entries]

    batches: Batcher[Entry, int] = Batcher("test", pool, judge, key=key_of)
    results = await asyncio.gather(
        *(batches.put(Entry(str(n), n)) for n in range(3)), return_exceptions=True
    )
    assert results[0] == 0
    assert isinstance(results[1], LookupError)
    assert results[2] == 2


async def test_a_wrong_number_of_results_writes_nothing(pool: Pool) -> None:
    async def forgetful(tx: Connection, entries: Sequence[Entry]) -> list[int]:
        return (await insert(tx, entries))[:-1]

    batches: Batcher[Entry, int] = Batcher("test", pool, forgetful, key=key_of)
    with pytest.raises(RuntimeError, match="0 results for 1 items"):
        await batches.put(Entry("a", 1))
    assert await written(pool) == []


@pytest.mark.parametrize("parallel", [1, 4])
async def test_a_key_is_in_a_batch_once_and_keeps_its_order(pool: Pool, parallel: int) -> None:
    on_their_way: set[str] = set()

    async def careful(tx: Connection, entries: Sequence[Entry]) -> list[int]:
        keys = [entry.key for entry in entries]
        assert len(set(keys)) == len(keys)
        assert on_their_way.isdisjoint(keys)
        on_their_way.update(keys)
        try:
            return await insert(tx, entries)
        finally:
            on_their_way.difference_update(keys)

    batches: Batcher[Entry, int] = Batcher(
        "test", pool, careful, key=key_of, max_batch=7, parallel=parallel
    )
    puts = [batches.put(Entry(f"k{n % 11}", n)) for n in range(300)]
    await asyncio.gather(*puts)
    for key in {f"k{n}" for n in range(11)}:
        values = [entry.value for entry in await written(pool) if entry.key == key]
        assert values == sorted(values)


async def lock_backwards(tx: Connection, first: str, second: str) -> None:
    await tx.execute("SELECT FROM counter WHERE key = $1 FOR UPDATE", first)
    await tx.execute("SELECT FROM counter WHERE key = $1 FOR UPDATE", second)


async def somebody_waits(connection: Connection) -> None:
    waits = "SELECT EXISTS (SELECT FROM pg_locks WHERE NOT granted)"
    while not await connection.fetchval(waits):  # noqa: ASYNC110 - the database sends no event
        await asyncio.sleep(0.01)


@pytest.fixture
async def stubborn(postgres_admin: str, dsn: str) -> AsyncIterator[Connection]:
    """A connection that PostgreSQL's deadlock detector never picks: only a superuser may say so."""
    connection = await asyncpg.connect(postgres_admin, database=urlsplit(dsn).path.strip("/"))
    await connection.execute("SET deadlock_timeout = '1h'")
    await connection.execute("SET search_path = muster_inventory")
    yield connection
    await connection.close()


async def test_a_deadlock_is_tried_again(pool: Pool, stubborn: Connection) -> None:
    await pool.execute("INSERT INTO counter (key) VALUES ('a'), ('b')")
    tries = 0

    async def lock(tx: Connection, keys: Sequence[str]) -> None:
        nonlocal tries
        tries += 1
        await lock_backwards(tx, "b", "a")

    batches = batcher(pool, lock=lock)
    async with stubborn.transaction():
        await stubborn.execute("SELECT FROM counter WHERE key = 'a' FOR UPDATE")
        put = asyncio.create_task(batches.put(Entry("a", 1)))
        await somebody_waits(stubborn)
        await stubborn.execute("SELECT FROM counter WHERE key = 'b' FOR UPDATE")
    assert await put == 1
    assert tries > 1
    assert await written(pool) == [Entry("a", 1)]


async def test_a_lost_connection_is_tried_again(pool: Pool) -> None:
    tries = 0

    async def interrupted(tx: Connection, entries: Sequence[Entry]) -> list[int]:
        nonlocal tries
        tries += 1
        results = await insert(tx, entries)
        if tries == 1:
            await pool.execute("SELECT pg_terminate_backend($1)", tx.get_server_pid())
        return results

    batches: Batcher[Entry, int] = Batcher("test", pool, interrupted, key=key_of)
    puts = [batches.put(Entry(str(n), n)) for n in range(20)]
    assert await asyncio.gather(*puts) == list(range(20))
    assert tries == 2
    assert len(await written(pool)) == 20


async def test_a_database_that_stays_away_is_overload(pool: Pool) -> None:
    async def away(tx: Connection, entries: Sequence[Entry]) -> list[int]:
        raise asyncpg.CannotConnectNowError

    batches: Batcher[Entry, int] = Batcher("test", pool, away, key=key_of, patience=0.05)
    with pytest.raises(Overloaded, match="does not answer"):
        await batches.put(Entry("a", 1))


class Gate:
    """A flush that waits to be let through."""

    def __init__(self) -> None:
        self.reached = asyncio.Event()
        self.open = asyncio.Event()

    async def flush(self, tx: Connection, entries: Sequence[Entry]) -> list[int]:
        self.reached.set()
        await self.open.wait()
        return await insert(tx, entries)


async def test_too_many_waiting_items_are_refused(pool: Pool) -> None:
    gate = Gate()
    batches: Batcher[Entry, int] = Batcher("test", pool, gate.flush, key=key_of, max_waiting=5)
    puts = [asyncio.create_task(batches.put(Entry("first", 0)))]
    await gate.reached.wait()
    puts += [asyncio.create_task(batches.put(Entry(f"k{n}", n))) for n in range(5)]
    await asyncio.sleep(0)
    with pytest.raises(Overloaded, match="5 items wait"):
        await batches.put(Entry("one too many", 9))
    gate.open.set()
    assert await asyncio.gather(*puts) == [0, 0, 1, 2, 3, 4]
    assert await batches.put(Entry("later", 7)) == 7


async def test_nobody_waits_for_ever_for_a_database_that_hangs(pool: Pool) -> None:
    """Neither those whose batch is out nor those who wait for the next; then all is as before."""
    gate = Gate()
    batches: Batcher[Entry, int] = Batcher(
        "test", pool, gate.flush, key=key_of, max_batch=2, longest=0.2
    )
    puts = [asyncio.create_task(batches.put(Entry(f"k{n}", n))) for n in range(5)]
    await asyncio.wait(puts, timeout=30)
    assert all(isinstance(put.exception(), Overloaded) for put in puts)
    gate.open.set()
    assert await batches.put(Entry("later", 7)) == 7
    # Nobody asked for the others any more: only what was out was written.
    assert [entry.key for entry in await written(pool)] == ["k0", "k1", "later"]


async def test_a_caller_that_leaves_hurts_nobody(pool: Pool) -> None:
    gate = Gate()
    batches: Batcher[Entry, int] = Batcher("test", pool, gate.flush, key=key_of, max_batch=2)
    on_its_way = [asyncio.create_task(batches.put(Entry(f"a{n}", n))) for n in range(2)]
    await gate.reached.wait()
    waiting = [asyncio.create_task(batches.put(Entry(f"b{n}", n))) for n in range(4)]
    await asyncio.sleep(0)
    on_its_way[0].cancel()
    waiting[1].cancel()
    gate.open.set()
    results = await asyncio.gather(*on_its_way, *waiting, return_exceptions=True)
    assert [type(r) for r in (results[0], results[3])] == [asyncio.CancelledError] * 2
    assert [results[n] for n in (1, 2, 4, 5)] == [1, 0, 2, 3]
    assert {"a0", "a1", "b0", "b2", "b3"} == {entry.key for entry in await written(pool)}


async def test_closing_answers_everybody_who_was_taken(pool: Pool) -> None:
    gate = Gate()
    batches: Batcher[Entry, int] = Batcher("test", pool, gate.flush, key=key_of, max_batch=3)
    puts = [asyncio.create_task(batches.put(Entry(f"k{n}", n))) for n in range(20)]
    await gate.reached.wait()
    closing = asyncio.create_task(batches.close())
    await asyncio.sleep(0)
    with pytest.raises(Overloaded):
        await batches.put(Entry("too late", 1))
    gate.open.set()
    await closing
    assert all(put.done() for put in puts)
    assert [put.result() for put in puts] == list(range(20))
    assert len(await written(pool)) == 20


async def test_under_stress_every_answer_is_the_truth(pool: Pool) -> None:
    """Poison, hot keys, cancelled callers, killed connections: what was promised is there."""
    chance = random.Random(7)
    flushes = 0

    async def shaky(tx: Connection, entries: Sequence[Entry]) -> list[int]:
        nonlocal flushes
        flushes += 1
        results = await insert(tx, entries)
        if flushes % 9 == 0:
            await pool.execute("SELECT pg_terminate_backend($1)", tx.get_server_pid())
        return results

    batches: Batcher[Entry, int] = Batcher(
        "test", pool, shaky, key=key_of, max_batch=32, parallel=3, patience=60
    )
    promised, refused, left = set(), set(), set()

    async def caller(number: int) -> None:
        poisoned = chance.random() < 0.02
        entry = Entry(f"k{number % 97}", -number if poisoned else number)
        put = asyncio.create_task(batches.put(entry))
        if chance.random() < 0.05:
            await asyncio.sleep(0)
            put.cancel()
        try:
            assert await put == number
            promised.add(number)
        except asyncpg.CheckViolationError:
            refused.add(number)
        except asyncio.CancelledError:
            left.add(number)

    await asyncio.gather(*(caller(number) for number in range(1, 1500)))
    await batches.close()
    there = [entry.value for entry in await written(pool)]
    assert len(there) == len(set(there))
    assert promised <= set(there) <= promised | left
    assert refused.isdisjoint(there)
    assert promised
    assert refused
    assert left
    for key in {f"k{n}" for n in range(97)}:
        values = [entry.value for entry in await written(pool) if entry.key == key]
        assert values == sorted(values)
