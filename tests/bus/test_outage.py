"""The broker goes away in the middle of everything and comes back."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime
from uuid import UUID

import pytest

from shared.bus import Handlers, outbox
from shared.bus.kafka import KafkaAccess
from shared.bus.relay import Relay
from shared.bus.runner import Runner
from shared.db.locks import lock_devices
from shared.db.migrate import Folders, migrate
from shared.db.pool import Connection, Pool, open_pool, transaction
from shared.events import uuid7
from shared.events.inventory import FactChange, FactsChanged
from tests.bus.small import SERVICE, running, until
from tools.embedded import testing, topics
from tools.embedded.home import Home
from tools.embedded.kafka import Kafka
from tools.embedded.testing import MakeDatabase

DEVICES = [uuid7() for _ in range(9)]


@pytest.fixture
async def broker(muster_home: Home) -> AsyncIterator[Kafka]:
    """A broker that nobody else uses."""
    home = Home.at(muster_home.root / "outage", cache=muster_home.cache)
    async with testing.running(testing.broker(home, for_tests=True)) as server:
        await topics.provision(topics.Login(server.bootstrap), topics.declared(), {})
        yield server


async def keep(tx: Connection, events: Sequence[FactsChanged]) -> None:
    await tx.executemany(
        "INSERT INTO effect (device_id, type, note) VALUES ($1, $2, $3)",
        [(event.device_id, event.TYPE, str(event.changes[0].value)) for event in events],
    )


HANDLERS: Handlers = {FactsChanged: keep}


class Load:
    """Commits events until told to stop, whatever the broker does."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self.written: dict[UUID, list[str]] = {device: [] for device in DEVICES}
        self.stop = asyncio.Event()

    @property
    def total(self) -> int:
        return sum(map(len, self.written.values()))

    async def run(self) -> None:
        while not self.stop.is_set():
            device = DEVICES[self.total % len(DEVICES)]
            value = str(self.total)
            async with transaction(self._pool) as tx:
                await lock_devices(tx, [device])
                change = FactChange(name="n", value=value)
                event = FactsChanged(
                    device_id=device, observed_at=datetime.now(UTC), changes=[change]
                )
                await outbox.emit(tx, [event])
            self.written[device].append(value)
            await asyncio.sleep(0.01)


async def arrived(pool: Pool) -> dict[UUID, list[str]]:
    found: dict[UUID, list[str]] = {device: [] for device in DEVICES}
    for row in await pool.fetch("SELECT device_id, note FROM effect ORDER BY place"):
        found[row["device_id"]].append(row["note"])
    return found


async def test_nothing_is_lost_doubled_or_turned_round(
    broker: Kafka,
    pool: Pool,
    dsn: str,
    make_empty_database: MakeDatabase,
    small_folders: Folders,
) -> None:
    kafka = KafkaAccess(bootstrap=broker.bootstrap, heartbeat_ms=500)
    reader_dsn = await make_empty_database("compliance")
    folders = {"bus": small_folders["bus"], "compliance": small_folders[SERVICE]}
    await migrate(reader_dsn, "compliance", folders=folders)
    reader = await open_pool(reader_dsn, name="tests")
    relay = Relay(SERVICE, dsn, kafka)
    runner = Runner("compliance", reader, kafka, HANDLERS)
    load = Load(pool)

    async def caught_up() -> bool:
        return await arrived(reader) == load.written

    async with running(relay, runner):
        loading = asyncio.create_task(load.run())
        await until(lambda: more_than(reader, 50))
        await broker.stop()
        waiting = load.total
        await until(lambda: has_written(load, waiting + 200))
        assert relay.healthy()
        assert runner.ready()
        await broker.start()
        await until(lambda: more_than(reader, waiting + 200))
        load.stop.set()
        await loading
        await until(caught_up)
    await reader.close()


async def more_than(pool: Pool, count: int) -> bool:
    rows: int = await pool.fetchval("SELECT count(*) FROM effect")
    return rows > count


async def has_written(load: Load, count: int) -> bool:
    return load.total >= count
