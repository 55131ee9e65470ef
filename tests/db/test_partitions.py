from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from shared.db import partitions
from shared.db.pool import Pool, transaction
from shared.events import uuid7

TABLE = """
CREATE TABLE log (key uuid NOT NULL, channel int NOT NULL, note text, PRIMARY KEY (key, channel))
    PARTITION BY RANGE (key);
CREATE TABLE log_default PARTITION OF log DEFAULT;
"""


@pytest.fixture
async def log(pool: Pool) -> Pool:
    await pool.execute(TABLE)
    return pool


async def put(pool: Pool, at: datetime) -> None:
    await pool.execute("INSERT INTO log VALUES ($1, 1, 'x')", uuid7(at))


async def count(pool: Pool, table: str) -> int:
    number: int = await pool.fetchval(f"SELECT count(*) FROM {table}")
    return number


async def test_rows_find_partitions_made_ahead(log: Pool) -> None:
    async with transaction(log) as tx:
        made = await partitions.ensure(tx, "log", days_ahead=14, span_days=7)
    assert len(made) == 3
    for days in range(15):
        await put(log, datetime.now(UTC) + timedelta(days=days))
    assert await count(log, "log") == 15
    assert await count(log, "log_default") == 0


async def test_making_them_again_changes_nothing(log: Pool) -> None:
    for expected in (3, 0):
        async with transaction(log) as tx:
            assert len(await partitions.ensure(tx, "log")) == expected


async def test_rows_of_the_default_partition_move(log: Pool) -> None:
    now = datetime.now(UTC)
    for at in (now, now - timedelta(days=300), now + timedelta(days=3)):
        await put(log, at)
    async with transaction(log) as tx:
        await partitions.ensure(tx, "log")
        assert await partitions.watch_default(tx, "log") == 1
    assert await count(log, "log") == 3


async def test_old_partitions_go_and_new_rows_stay(log: Pool) -> None:
    now = datetime.now(UTC)
    async with transaction(log) as tx:
        await partitions.ensure(tx, "log", days_behind=40)
    for days in (400, 39, 20, 1, 0):
        await put(log, now - timedelta(days=days))
    async with transaction(log) as tx:
        dropped = await partitions.drop_before(tx, "log", now - timedelta(days=25))
    assert dropped
    assert all(name.startswith("log_p") for name in dropped)
    assert await count(log, "log") == 3
    assert await count(log, "log_default") == 0


async def test_a_partition_that_holds_one_young_row_stays(log: Pool) -> None:
    now = datetime.now(UTC)
    async with transaction(log) as tx:
        await partitions.ensure(tx, "log")
        assert await partitions.drop_before(tx, "log", now) == []


async def test_a_bound_is_below_every_id_of_its_instant() -> None:
    instant = datetime.now(UTC)
    assert all(partitions.bound(instant) <= uuid7(instant) for _ in range(100))
    assert uuid7(instant - timedelta(milliseconds=2)) < partitions.bound(instant)
