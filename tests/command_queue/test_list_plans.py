"""Every list of commands is read along an index, beside years of history."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import asyncpg
import orjson
import pytest

from services.command_queue.store import lists
from services.command_queue.store.lists import Filters
from shared.db import partitions
from shared.db.pool import READING
from shared.events import uuid7
from tools.bench import past
from tools.embedded.testing import MakeDatabase

ROWS = 20_000
COMMANDS = 120_000
"""Without outcomes: enough a week that reading all of one is worse than to follow an index."""
NOW = datetime.now(UTC)
_AGO = partitions.bound(NOW - timedelta(days=200))
_THEN = partitions.bound(NOW - timedelta(days=199))
RARE = """
UPDATE past_command SET state = 'cancelled', kind = 'device.lock', actor = 'account:1'
WHERE command_id = (SELECT command_id FROM past_command ORDER BY command_id LIMIT 1)
"""


@pytest.fixture
async def connection(
    make_database: MakeDatabase,
) -> AsyncIterator[asyncpg.Connection[asyncpg.Record]]:
    dsn = await make_database("command_queue")
    found = await asyncpg.connect(dsn, server_settings={"statement_timeout": "0"})
    await past.settle_in(found)
    await past.fill(dsn, ROWS)
    days = timedelta(days=past.DAYS - 1)
    commands = past.PAST_COMMANDS.format(table="past_command")
    await found.execute(commands, NOW - days, NOW, COMMANDS)
    await found.execute(RARE)
    await found.execute("VACUUM ANALYZE")
    yield found
    await found.close()


def _all(plan: dict[str, Any]) -> list[dict[str, Any]]:
    return [plan, *(one for inner in plan.get("Plans", []) for one in _all(inner))]


async def _read(
    connection: asyncpg.Connection[asyncpg.Record], filters: Filters, reach: list[UUID] | None
) -> float:
    """Rows that a page of fifty looks at."""
    text, values = lists.statement(filters, reach)
    async with connection.transaction():
        await connection.execute(READING)
        found = await connection.fetchval(f"EXPLAIN (ANALYZE, FORMAT JSON) {text}", *values, 51)
    nodes = [one for one in _all(orjson.loads(found)[0]["Plan"]) if "Relation Name" in one]
    assert nodes
    return float(
        sum(
            (one["Actual Rows"] + one.get("Rows Removed by Filter", 0)) * one["Actual Loops"]
            for one in nodes
        )
    )


async def test_a_page_is_read_along_an_index(
    connection: asyncpg.Connection[asyncpg.Record],
) -> None:
    device_id = await connection.fetchval("SELECT device_id FROM outcome LIMIT 1")
    rare = Filters(state="cancelled"), Filters(kind="device.lock"), Filters(actor="account:1")
    few = Filters(state="held"), Filters(kind="device.erase"), Filters(actor="account:nobody")
    times = Filters(before=_AGO), Filters(since=_AGO, before=_THEN, kind="inventory.refresh")
    of_device = Filters(device_id=device_id), Filters(device_id=device_id, since=_AGO, before=_THEN)
    for filters in (Filters(), Filters(state="finished"), *rare, *few, *times, *of_device):
        assert await _read(connection, filters, None) < 1500, filters
    assert await _read(connection, Filters(), [uuid7()]) < 1500
    for filters in rare:
        assert len(await lists.newest(connection, filters, None, 51)) == 1, filters
    assert await lists.newest(connection, Filters(device_id=device_id), None, 51)
