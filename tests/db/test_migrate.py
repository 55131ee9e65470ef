from __future__ import annotations

import asyncio
from pathlib import Path

import asyncpg
import pytest

from shared.db.migrate import SchemaError, check_schema, folders_of, migrate, status
from shared.db.pool import open_pool
from shared.events.registry import SERVICES
from tools.embedded.testing import MakeDatabase

SERVICE = "inventory"


class Release:
    """A folder of migrations that grows."""

    def __init__(self, folder: Path) -> None:
        self.folders = {SERVICE: folder}
        self._folder = folder

    def write(self, name: str, sql: str) -> None:
        (self._folder / name).write_text(sql)


@pytest.fixture
def release(tmp_path: Path) -> Release:
    made = Release(tmp_path)
    made.write("0001_pre_start.sql", "CREATE TABLE a (x int);")
    return made


async def check(dsn: str, release: Release) -> None:
    pool = await open_pool(dsn, name="tests", max_size=1)
    try:
        await check_schema(pool, SERVICE, folders=release.folders)
    finally:
        await pool.close()


async def test_each_file_is_applied_once_and_in_order(
    make_empty_database: MakeDatabase, release: Release
) -> None:
    dsn = await make_empty_database(SERVICE)
    release.write("0002_pre_more.sql", "ALTER TABLE a ADD y int;")
    assert await migrate(dsn, SERVICE, folders=release.folders) == [
        "inventory/0001_pre_start.sql",
        "inventory/0002_pre_more.sql",
    ]
    assert await migrate(dsn, SERVICE, folders=release.folders) == []
    assert [m.applied for m in await status(dsn, SERVICE, folders=release.folders)] == [True, True]


async def test_two_at_once_take_turns(make_empty_database: MakeDatabase, release: Release) -> None:
    dsn = await make_empty_database(SERVICE)
    done = await asyncio.gather(*(migrate(dsn, SERVICE, folders=release.folders) for _ in range(3)))
    assert sorted(map(len, done)) == [0, 0, 1]


async def test_a_file_that_fails_leaves_nothing_behind(
    make_empty_database: MakeDatabase, release: Release
) -> None:
    dsn = await make_empty_database(SERVICE)
    release.write("0002_pre_broken.sql", "CREATE TABLE b (x int); SELECT 1 / 0;")
    with pytest.raises(asyncpg.DivisionByZeroError):
        await migrate(dsn, SERVICE, folders=release.folders)
    release.write("0002_pre_broken.sql", "CREATE TABLE b (x int);")
    assert await migrate(dsn, SERVICE, folders=release.folders) == ["inventory/0002_pre_broken.sql"]


async def test_a_changed_file_is_refused(
    make_empty_database: MakeDatabase, release: Release
) -> None:
    dsn = await make_empty_database(SERVICE)
    await migrate(dsn, SERVICE, folders=release.folders)
    release.write("0001_pre_start.sql", "CREATE TABLE a (x bigint);")
    with pytest.raises(SchemaError, match="changed after it was applied"):
        await migrate(dsn, SERVICE, folders=release.folders)


async def test_an_index_can_be_built_without_a_transaction(
    make_empty_database: MakeDatabase, release: Release
) -> None:
    dsn = await make_empty_database(SERVICE)
    release.write(
        "0002_post_index.sql", "-- no-transaction\nCREATE INDEX CONCURRENTLY a_x ON a (x)"
    )
    assert len(await migrate(dsn, SERVICE, folders=release.folders)) == 2


async def test_a_rolling_upgrade_and_a_rollback_keep_old_code_running(
    make_empty_database: MakeDatabase, release: Release, tmp_path: Path
) -> None:
    dsn = await make_empty_database(SERVICE)
    await migrate(dsn, SERVICE, folders=release.folders)
    newer_folder = tmp_path / "newer"
    newer_folder.mkdir()
    newer = Release(newer_folder)
    newer.write("0001_pre_start.sql", "CREATE TABLE a (x int);")
    newer.write("0002_pre_add.sql", "ALTER TABLE a ADD y int;")
    newer.write("0003_post_drop.sql", "ALTER TABLE a DROP x;")

    with pytest.raises(SchemaError, match="needs migration 2"):
        await check(dsn, newer)
    await migrate(dsn, SERVICE, "pre", folders=newer.folders)
    await check(dsn, newer)
    await check(dsn, release)

    await migrate(dsn, SERVICE, "post", folders=newer.folders)
    await check(dsn, newer)
    with pytest.raises(SchemaError, match="run the newer release"):
        await check(dsn, release)


async def test_an_empty_schema_is_not_ready(
    make_empty_database: MakeDatabase, release: Release
) -> None:
    with pytest.raises(SchemaError, match="muster db migrate inventory"):
        await check(await make_empty_database(SERVICE), release)


async def test_a_file_with_a_wrong_name_is_not_overlooked(
    make_empty_database: MakeDatabase, release: Release
) -> None:
    release.write("2_more.sql", "SELECT 1")
    with pytest.raises(SchemaError, match="name it NNNN_pre"):
        await migrate(await make_empty_database(SERVICE), SERVICE, folders=release.folders)


@pytest.mark.parametrize("service", SERVICES)
async def test_every_service_starts_from_an_empty_database(
    make_empty_database: MakeDatabase, service: str
) -> None:
    dsn = await make_empty_database(service)
    applied = await migrate(dsn, service)
    assert "bus/0001_pre_bus.sql" in applied
    assert await migrate(dsn, service) == []
    pool = await open_pool(dsn, name="tests", max_size=1)
    try:
        await check_schema(pool, service)
        assert await pool.fetchval("SELECT count(*) FROM pg_inherits") > 1
    finally:
        await pool.close()
    assert list(folders_of(service)) == ["bus", service]
