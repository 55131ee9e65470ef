from __future__ import annotations

import asyncpg
import pytest
from aiokafka import AIOKafkaProducer

from tools.embedded.testing import MakeDatabase, MakeTopic


async def test_a_made_database_belongs_to_its_service(make_empty_database: MakeDatabase) -> None:
    dsn = await make_empty_database("inventory")
    connection = await asyncpg.connect(dsn)
    await connection.execute("CREATE TABLE thing (id int)")
    owner = await connection.fetchrow(
        "SELECT schemaname, tableowner FROM pg_tables WHERE tablename = 'thing'"
    )
    await connection.close()
    assert owner is not None
    assert tuple(owner) == ("muster_inventory", "muster_inventory")


async def test_made_databases_share_nothing(make_empty_database: MakeDatabase) -> None:
    first, second = [await make_empty_database("inventory") for _ in range(2)]
    connection = await asyncpg.connect(first)
    await connection.execute("CREATE TABLE only_here (id int)")
    await connection.close()
    connection = await asyncpg.connect(second)
    assert await connection.fetchval("SELECT to_regclass('only_here')") is None
    await connection.close()


async def test_a_service_cannot_enter_anothers_database(make_empty_database: MakeDatabase) -> None:
    await make_empty_database("compliance")
    dsn = await make_empty_database("inventory")
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await asyncpg.connect(dsn, user="muster_compliance")


async def test_a_made_topic_takes_and_gives_events(
    kafka_bootstrap: str, make_topic: MakeTopic
) -> None:
    topic = await make_topic("sample", partitions=3)
    producer = AIOKafkaProducer(bootstrap_servers=kafka_bootstrap)
    await producer.start()
    try:
        assert await producer.partitions_for(topic) == {0, 1, 2}
        assert (await producer.send_and_wait(topic, b"x", partition=2)).offset == 0
    finally:
        await producer.stop()
