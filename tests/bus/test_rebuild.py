from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest
from aiokafka.errors import KafkaConnectionError

from shared.bus import Handlers
from shared.bus import rebuild as rebuilding
from shared.bus.handling import Handling
from shared.bus.kafka import KafkaAccess, group_of
from shared.bus.rebuild import compacted_topics, needed, rebuild
from shared.bus.records import Record
from shared.bus.runner import Runner
from shared.bus.testing import travelled
from shared.db.pool import Connection, Pool
from shared.events import uuid7
from shared.events.commands import DeviceSeen
from shared.events.device_state import DeviceState
from shared.events.devices import Ownership, Platform
from tests.bus.small import Publisher, note, running, until

STATES = "muster.device-state.v1"
# No other test of the bus consumes as this service: its group has no history but what is made here.
SERVICE = "compliance"

REPLACE = """
INSERT INTO device (device_id, name, sequence)
SELECT * FROM unnest($1::uuid[], $2::text[], $3::bigint[])
ON CONFLICT (device_id) DO UPDATE SET name = excluded.name, sequence = excluded.sequence
WHERE device.sequence < excluded.sequence
"""


async def replace(tx: Connection, events: Sequence[DeviceState]) -> None:
    await tx.execute(
        REPLACE,
        [event.device_id for event in events],
        [event.name for event in events],
        [event.meta.sequence for event in events],
    )


HANDLERS: Handlers = {DeviceState: replace, DeviceSeen: note}


def state(device_id: UUID, name: str, sequence: int) -> DeviceState:
    [event] = travelled(
        DeviceState(
            device_id=device_id,
            platform=Platform.IOS,
            ownership=Ownership.CORPORATE,
            name=name,
            enrollments=[],
        ),
        service="enrollment",
        sequence=sequence,
    )
    return event


async def names(pool: Pool, devices: Sequence[UUID]) -> list[str | None]:
    rows = await pool.fetch("SELECT device_id, name FROM device")
    found = {row["device_id"]: row["name"] for row in rows}
    return [found.get(device) for device in devices]


def test_only_compacted_topics_are_read_again() -> None:
    assert compacted_topics(HANDLERS) == [STATES]
    assert compacted_topics({DeviceSeen: note}) == []


async def test_an_emptied_projection_is_filled_with_the_newest_states(
    pool: Pool, kafka: KafkaAccess, publisher: Publisher
) -> None:
    devices = [uuid7() for _ in range(20)]
    for turn in (1, 2, 3):
        await publisher.send(
            *(state(device, f"name {turn}", turn) for device in devices), topic=STATES
        )
    stale = [state(device, "stale", 2) for device in devices[:5]]
    await publisher.send(*stale, topic=STATES)
    for _ in range(2):
        assert await rebuild(SERVICE, kafka, pool, HANDLERS) >= 65
        assert await names(pool, devices) == ["name 3"] * 20
        await pool.execute("DELETE FROM device")


async def test_a_rebuild_that_was_broken_off_is_done_again(
    pool: Pool, kafka: KafkaAccess, publisher: Publisher, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A projection that is filled in part is not empty: only the rebuild's own row tells."""
    devices = [uuid7() for _ in range(10)]
    await publisher.send(*(state(device, "known", 1) for device in devices), topic=STATES)
    await rebuild(SERVICE, kafka, pool, HANDLERS)
    await pool.execute("DELETE FROM device")
    handle, times = Handling.handle, 0

    async def once(self: Handling, batch: Sequence[Record], *, behind: bool) -> None:
        nonlocal times
        times += 1
        if times > 1:
            raise KafkaConnectionError
        await handle(self, batch, behind=behind)

    with monkeypatch.context() as patch:
        patch.setattr(rebuilding, "BATCH_RECORDS", 3)
        patch.setattr(Handling, "handle", once)
        with pytest.raises(KafkaConnectionError):
            await rebuild(SERVICE, kafka, pool, HANDLERS)
    assert await pool.fetchval("SELECT count(*) FROM device") > 0
    assert await needed(SERVICE, kafka, pool, HANDLERS)
    await rebuild(SERVICE, kafka, pool, HANDLERS)
    assert await names(pool, devices) == ["known"] * 10
    assert not await needed(SERVICE, kafka, pool, HANDLERS)


async def test_without_compacted_topics_there_is_nothing_to_do(
    pool: Pool, kafka: KafkaAccess
) -> None:
    assert await rebuild(SERVICE, kafka, pool, {DeviceSeen: note}) == 0
    assert not await needed(SERVICE, kafka, pool, {DeviceSeen: note})


async def test_a_service_that_finds_its_projection_empty_rebuilds_it_by_itself(
    pool: Pool, kafka: KafkaAccess, publisher: Publisher
) -> None:
    devices = [uuid7() for _ in range(10)]
    await publisher.send(*(state(device, "known", 1) for device in devices), topic=STATES)

    async def filled() -> bool:
        return await names(pool, devices) == ["known"] * 10

    async def is_committed() -> bool:
        return await reread_would_be_needed(pool, kafka)

    async with running(Runner(SERVICE, pool, kafka, HANDLERS)):
        await until(filled)
    await pool.execute("DELETE FROM device")
    await until(is_committed)
    async with running(Runner(SERVICE, pool, kafka, HANDLERS)):
        await until(filled)
    assert not await needed(SERVICE, kafka, pool, HANDLERS)


async def reread_would_be_needed(pool: Pool, kafka: KafkaAccess) -> bool:
    assert group_of(SERVICE) == "muster-compliance"
    return await needed(SERVICE, kafka, pool, HANDLERS)


async def test_events_beside_the_projection_are_not_read_again(
    pool: Pool, kafka: KafkaAccess, publisher: Publisher
) -> None:
    [seen] = travelled(
        DeviceSeen(device_id=uuid7(), seen_at=datetime.now(UTC)), service="command_queue"
    )
    await publisher.send(seen)
    await rebuild(SERVICE, kafka, pool, HANDLERS)
    assert await pool.fetchval("SELECT count(*) FROM effect") == 0


async def test_a_broker_that_falls_silent_is_not_waited_for_for_ever(
    pool: Pool, kafka: KafkaAccess, publisher: Publisher, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def nothing(*_: Any, **__: Any) -> dict[Any, Any]:
        return {}

    await publisher.send(state(uuid7(), "never read", 1), topic=STATES)
    monkeypatch.setattr(rebuilding, "_SILENCE_SECONDS", 1.0)
    monkeypatch.setattr("aiokafka.AIOKafkaConsumer.getmany", nothing)
    with pytest.raises(TimeoutError):
        await rebuild(SERVICE, kafka, pool, HANDLERS)
    assert await needed(SERVICE, kafka, pool, HANDLERS)
