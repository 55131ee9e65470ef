"""What was done before does not change how anything is done now."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import asyncpg
import pytest

from services.command_queue.store import outcomes
from shared.db import partitions, plans
from shared.db.pool import transaction
from shared.events import uuid7
from tests.command_queue.fleet import Fleet
from tools.bench import past
from tools.bench.plans import STATEMENTS, scans_all, scans_history, shapes
from tools.embedded.testing import MakeDatabase

ROWS = int(os.environ.get("MUSTER_TEST_HISTORY", "60000"))
"""`MUSTER_TEST_HISTORY=1000000` for the long form; partitions are as many in both."""
TOUCH_HISTORY = {"answers to nothing that is open"}


async def _shapes(dsn: str) -> dict[str, str]:
    connection = await asyncpg.connect(dsn)
    try:
        return await shapes(connection)
    finally:
        await connection.close()


@pytest.fixture
async def dsn(make_database: MakeDatabase) -> str:
    return await make_database("command_queue")


@pytest.fixture
async def connection(dsn: str) -> AsyncIterator[asyncpg.Connection[asyncpg.Record]]:
    found = await asyncpg.connect(dsn, server_settings={"statement_timeout": "0"})
    yield found
    await found.close()


async def test_plans_are_the_same_with_and_without_a_history(
    dsn: str, connection: asyncpg.Connection[asyncpg.Record]
) -> None:
    await past.settle_in(connection)
    await connection.execute("VACUUM ANALYZE")
    before = await _shapes(dsn)
    await past.fill(dsn, ROWS)
    assert await connection.fetchval("SELECT count(*) FROM outcome") >= ROWS * 0.99
    assert await connection.fetchval("SELECT count(*) FROM outcome_default") == 0
    after = await _shapes(dsn)
    assert set(before) == set(STATEMENTS)
    for name, shape in before.items():
        assert after[name] == shape, name
        assert not scans_history(shape), name
    await _check_lookup(connection)


async def _check_lookup(connection: asyncpg.Connection[asyncpg.Record]) -> None:
    """Answers to what is long done are found, and all partitions but one are left out."""
    old = await connection.fetch("SELECT channel_id, command_id, state FROM outcome LIMIT 3")
    channels, ids = [row["channel_id"] for row in old], [row["command_id"] for row in old]
    assert len(await outcomes.find(connection, list(zip(channels, ids, strict=True)))) == len(old)
    await connection.execute("SET plan_cache_mode = force_generic_plan")
    await connection.execute(f"PREPARE found AS {outcomes.FIND}")
    lists = ", ".join(
        "ARRAY[{}]::uuid[]".format(", ".join(f"'{one}'" for one in values))
        for values in (channels, ids)
    )
    lines = await connection.fetch(
        f"EXPLAIN (COSTS OFF) EXECUTE found ({lists}, '{min(ids)}', '{max(ids)}')"
    )
    plan = "\n".join(line["QUERY PLAN"] for line in lines)
    all_of_them = await connection.fetchval(
        "SELECT count(*) FROM pg_inherits WHERE inhparent = 'outcome'::regclass"
    )
    assert all_of_them > 55
    assert f"Subplans Removed: {all_of_them - 1}" in plan, plan
    assert plan.count("Index Scan") == 1, plan


async def test_a_fresh_database_is_read_by_key_at_once(dsn: str) -> None:
    """Nothing was analysed yet: tables and indexes that look alike must not be confused."""
    for name, shape in (await _shapes(dsn)).items():
        assert not scans_history(shape), name
        for line in shape.splitlines():
            words = line.strip().split(", ")
            if words[0] in {"Index Scan", "Bitmap Index Scan"}:
                by_order = words[-1] in {"target_next", "outbox_pkey"}
                assert "(" in line or by_order, f"{name}: {line}"


async def test_the_poll_is_planned_by_key_also_where_tables_are_known_to_be_empty(
    dsn: str, connection: asyncpg.Connection[asyncpg.Record]
) -> None:
    """Such a plan stays until the next statistics come."""
    await connection.execute("VACUUM ANALYZE")
    shape = (await _shapes(dsn))["poll: who speaks, and is there work"]
    for index in ("pin_pkey", "enrollment_pkey", "pending_queue", "command_pkey"):
        assert f"{index}, (" in shape, shape
    assert scans_all(shape) == ("command_freeze" in shape)


async def test_tables_that_have_grown_are_analysed(
    connection: asyncpg.Connection[asyncpg.Record],
) -> None:
    await connection.execute("VACUUM ANALYZE")
    assert await plans.analyze_grown(connection) == []
    await connection.execute(
        "INSERT INTO presence SELECT gen_random_uuid(), now() FROM generate_series(1, 20000)"
    )
    assert await plans.analyze_grown(connection) == ["presence"]
    assert await plans.analyze_grown(connection) == []


async def test_a_command_that_is_over_leaves_the_table_that_polls_read(fleet: Fleet) -> None:
    phone, other = await fleet.enroll(2)
    done = await fleet.ask(phone)
    half = await fleet.ask(phone, other)
    await phone.drain()
    before = await fleet.show(done["command_id"])
    fleet.clock.advance(timedelta(minutes=3))
    await fleet.job("sweep ended commands")
    [left] = await fleet.rows("SELECT command_id, sweep_at FROM command")
    assert str(left["command_id"]) == half["command_id"]
    # The sweeper comes to what is not done when it is twice as old.
    assert left["sweep_at"] >= fleet.clock.now() + timedelta(minutes=2)
    after = await fleet.show(done["command_id"])
    assert after.pop("state") == "finished"
    assert after.pop("ended_at") is not None
    assert after == {key: value for key, value in before.items() if key in after}
    assert after["progress"] == {"acknowledged": 1}
    listed = await fleet.trial.call("GET", "/api/v1/commands")
    ids = [one["command_id"] for one in listed.json["items"]]
    # Newest first by their ids; of the same millisecond, either may be the newer one.
    assert ids == sorted((half["command_id"], done["command_id"]), reverse=True)
    history = await fleet.trial.call("GET", f"/api/v1/commands/devices/{phone.device_id}")
    assert {(one["command_id"], one["kind"]) for one in history.json["items"]} == {
        (done["command_id"], "inventory.refresh"),
        (half["command_id"], "inventory.refresh"),
    }


async def test_a_repeat_finds_its_command_also_when_it_is_over(fleet: Fleet) -> None:
    phone = await fleet.enroll()
    done = await fleet.ask(phone, idempotency_key="once")
    await phone.drain()
    fleet.clock.advance(timedelta(minutes=3))
    await fleet.job("sweep ended commands")
    assert await fleet.rows("SELECT FROM command") == []
    again = await fleet.ask(phone, idempotency_key="once", status=200)
    assert (again["command_id"], again["state"]) == (done["command_id"], "finished")
    other = await fleet.ask(phone, idempotency_key="once", reason="another", status=409)
    assert other["code"] == "idempotency_key_taken"
    assert await fleet.rows("SELECT FROM command") == []


async def test_keys_are_forgotten_before_their_commands(fleet: Fleet) -> None:
    phone = await fleet.enroll()
    first = await fleet.ask(phone, idempotency_key="once")
    await phone.drain()
    fleet.clock.advance(timedelta(days=101))
    await fleet.job("sweep ended commands")
    await fleet.job("tidy history")
    assert await fleet.rows("SELECT FROM request_key") == []
    assert (await fleet.show(first["command_id"]))["state"] == "finished"


async def test_upkeep_gives_way_to_whoever_reads(fleet: Fleet) -> None:
    """A long reader of the table holds up neither the traffic nor, once it is done, the upkeep."""
    pool = fleet.trial.context.pool
    now = datetime.now(UTC)
    async with transaction(pool) as tx:
        await partitions.ensure(tx, "outcome", days_behind=30)
    async with transaction(pool) as reader:
        await reader.fetch("SELECT FROM outcome")
        async with transaction(pool, "SET LOCAL lock_timeout = '50ms'") as tx:
            with pytest.raises(asyncpg.LockNotAvailableError):
                await partitions.drop_before(tx, "outcome", now - timedelta(days=14))
        phone: Any = await fleet.enroll()
        await fleet.ask(phone)
        assert len(await phone.drain()) == 1
    dropped = await partitions.drop_old(pool, "outcome", now - timedelta(days=14))
    assert 2 <= len(dropped) <= 3
    names = await fleet.rows(
        "SELECT relname FROM pg_inherits JOIN pg_class ON oid = inhrelid"
        " WHERE inhparent = 'outcome'::regclass"
    )
    assert not set(dropped) & {row["relname"] for row in names}


async def test_only_one_partition_takes_what_is_done_now(fleet: Fleet) -> None:
    phones = await fleet.enroll(3)
    await fleet.ask(*phones)
    for phone in phones:
        await phone.drain()
    places = await fleet.rows("SELECT DISTINCT tableoid::regclass::text AS name FROM outcome")
    low = partitions.bound(datetime.now(UTC) - timedelta(days=7))
    assert len(places) == 1
    assert places[0]["name"].startswith("outcome_p")
    found: list[UUID] = [row["command_id"] for row in await fleet.rows("TABLE outcome")]
    assert all(low < one < uuid7() for one in found)
