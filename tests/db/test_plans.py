"""A plan that reads all of an index for a row is refused, by every test of a service."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from shared.db import testing
from shared.db.pool import Pool, open_pool

TABLES = """
CREATE TABLE thing (thing_id uuid PRIMARY KEY, size int NOT NULL, name text NOT NULL);
CREATE INDEX thing_by_size ON thing (size, thing_id) WHERE size > 0;
CREATE INDEX thing_by_name ON thing (lower(name), size);
"""
BY_KEY = "SELECT name FROM thing WHERE thing_id = ANY($1::uuid[]) AND size <> 0"
TEMPTED = "SELECT name FROM thing WHERE thing_id = ANY($1::uuid[]) AND size > 0"
BY_EXPRESSION = "SELECT size FROM thing WHERE lower(name) = $1"


@pytest.fixture
async def road(dsn: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Pool]:
    monkeypatch.setattr(testing, "_looked_at", set())
    async with await open_pool(dsn, name="road", max_size=1, road=True) as pool:
        await pool.execute(TABLES)
        yield pool


async def test_what_is_looked_up_by_a_first_column_is_fine(road: Pool) -> None:
    await road.fetch(BY_KEY, [])
    await road.fetch(BY_EXPRESSION, "a")
    await road.execute("INSERT INTO thing VALUES (gen_random_uuid(), 1, 'a')")
    await road.fetch("SELECT 1")
    await testing.refuse_wide_plans(road)


async def test_what_reads_an_index_whole_for_a_row_is_not(road: Pool) -> None:
    await road.fetch(BY_KEY, [])
    await road.fetch(TEMPTED, [])
    for _ in range(2):
        with pytest.raises(AssertionError, match="thing_by_size is read whole") as refused:
            await testing.refuse_wide_plans(road)
        assert TEMPTED in str(refused.value)
        assert BY_KEY not in str(refused.value)
