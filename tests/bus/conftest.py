"""A service of the smallest kind: the bus's own tables and a device table."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence

import pytest

from shared.bus import envelope
from shared.bus.kafka import KafkaAccess, stop
from shared.db.migrate import Folders, folders_of, migrate
from shared.db.pool import Pool, open_pool
from shared.events import Event
from tools.embedded import topics
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


@pytest.fixture(scope="session")
async def kafka(kafka_bootstrap: str) -> KafkaAccess:
    """The registry's topics, on a broker that all tests of this run share: look for your own
    devices in them.
    """
    await topics.provision(topics.Login(kafka_bootstrap), topics.declared(), {})
    return KafkaAccess(bootstrap=kafka_bootstrap, heartbeat_ms=500)


class Tap:
    """Reads what is written to some topics from now on."""

    def __init__(self, kafka: KafkaAccess, names: Sequence[str]) -> None:
        self._consumer = kafka.consumer(None, names)
        self.events: list[Event] = []

    async def open(self) -> None:
        await self._consumer.start()
        ends = await self._consumer.end_offsets(self._consumer.assignment())
        for partition, offset in ends.items():
            self._consumer.seek(partition, offset)

    async def close(self) -> None:
        await stop(self._consumer)

    async def until(self, enough: Callable[[list[Event]], bool]) -> list[Event]:
        """All events since the tap was opened, in the order of their partitions."""
        while not enough(self.events):
            batches = await self._consumer.getmany(timeout_ms=200)
            for records in batches.values():
                self.events += [envelope.decode(record.headers, record.value) for record in records]
        return self.events


@pytest.fixture
async def tap(kafka: KafkaAccess) -> AsyncIterator[Tap]:
    """What arrives on the topics of the small service."""
    tap = Tap(kafka, ["muster.inventory.v1"])
    await tap.open()
    yield tap
    await tap.close()
