"""A service of the smallest kind: the bus's own tables and a device table."""

from __future__ import annotations

from collections.abc import AsyncIterator
from uuid import uuid4

import pytest

from shared.bus.kafka import KafkaAccess, stop
from shared.db.migrate import Folders, folders_of, migrate
from shared.db.pool import Pool, open_pool
from shared.events.commands import DeviceSeen
from shared.events.registry import topics_read
from tests.bus.small import SERVICE, TABLES, Publisher, Tap
from tools.embedded import topics
from tools.embedded.testing import MakeDatabase


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


@pytest.fixture(scope="session")
async def kafka(kafka_bootstrap: str) -> KafkaAccess:
    """The registry's topics, on a broker that all tests of this run share: look for your own
    devices in them.
    """
    await topics.provision(topics.Login(kafka_bootstrap), topics.declared(), {})
    return KafkaAccess(bootstrap=kafka_bootstrap, heartbeat_ms=500)


@pytest.fixture
async def tap(kafka: KafkaAccess) -> AsyncIterator[Tap]:
    """What arrives on the topics of the small service."""
    tap = Tap(kafka, ["muster.inventory.v1"])
    await tap.open()
    yield tap
    await tap.close()


@pytest.fixture
async def publisher(kafka: KafkaAccess) -> AsyncIterator[Publisher]:
    publisher = Publisher(kafka)
    await publisher.start()
    yield publisher
    await publisher.stop()


@pytest.fixture
async def group(kafka: KafkaAccess) -> str:
    """A consumer group that begins where the topics end now."""
    name = f"muster-inventory-{uuid4()}"
    everything = kafka.consumer(None, topics_read({DeviceSeen}))
    await everything.start()
    ends = await everything.end_offsets(everything.assignment())
    await stop(everything)
    consumer = kafka.consumer(name)
    consumer.assign(list(ends))
    await consumer.start()
    await consumer.commit(ends)
    await stop(consumer)
    return name
