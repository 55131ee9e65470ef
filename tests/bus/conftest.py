"""A service of the smallest kind: the bus's own tables and a device table."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from shared.db.migrate import Folders, folders_of, migrate
from shared.db.pool import Pool, open_pool
from tools.embedded.testing import MakeDatabase

SERVICE = "inventory"
TABLES = """
CREATE TABLE device (device_id uuid PRIMARY KEY, name text, sequence bigint NOT NULL DEFAULT 0);
CREATE TABLE effect (
    place bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    device_id uuid NOT NULL,
    type text NOT NULL,
    note text
);
"""


@pytest.fixture(scope="session")
def small_folders(tmp_path_factory: pytest.TempPathFactory) -> Folders:
    folder = tmp_path_factory.mktemp("migrations")
    (folder / "0001_pre_start.sql").write_text(TABLES)
    return {"bus": folders_of(SERVICE)["bus"], SERVICE: folder}


@pytest.fixture
async def dsn(make_empty_database: MakeDatabase, small_folders: Folders) -> str:
    dsn = await make_empty_database(SERVICE)
    await migrate(dsn, SERVICE, folders=small_folders)
    return dsn


@pytest.fixture
async def pool(dsn: str) -> AsyncIterator[Pool]:
    pool = await open_pool(dsn, name="tests", max_size=8)
    yield pool
    await pool.close()
