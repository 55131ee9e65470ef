"""A schema with one small table."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from shared.db.migrate import Folders, migrate
from shared.db.pool import Pool, open_pool
from tools.embedded.testing import MakeDatabase

SERVICE = "inventory"
TABLES = """
CREATE TABLE device (device_id uuid PRIMARY KEY, name text);
CREATE TABLE entry (
    place bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    key text NOT NULL,
    value integer NOT NULL CHECK (value >= 0)
);
CREATE TABLE counter (key text PRIMARY KEY, value integer NOT NULL DEFAULT 0);
"""


@pytest.fixture(scope="session")
def one_table(tmp_path_factory: pytest.TempPathFactory) -> Folders:
    folder = tmp_path_factory.mktemp("migrations")
    (folder / "0001_pre_start.sql").write_text(TABLES)
    return {SERVICE: folder}


@pytest.fixture
async def dsn(make_empty_database: MakeDatabase, one_table: Folders) -> str:
    dsn = await make_empty_database(SERVICE)
    await migrate(dsn, SERVICE, folders=one_table)
    return dsn


@pytest.fixture
async def pool(dsn: str) -> AsyncIterator[Pool]:
    pool = await open_pool(dsn, name="tests", max_size=8)
    yield pool
    await pool.close()
