"""Ways in which aiokafka stands still without a word, and what becomes of them."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Iterator
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer
from aiokafka.client import AIOKafkaClient
from aiokafka.consumer.fetcher import Fetcher
from aiokafka.consumer.group_coordinator import CoordinatorGroupRebalance, GroupCoordinator
from aiokafka.errors import KafkaConnectionError, KafkaError

from shared.bus import lag, membership
from shared.bus.kafka import KafkaAccess, stop
from shared.bus.runner import Runner
from shared.db.pool import Pool
from shared.events.commands import DeviceSeen
from tests.bus.small import SERVICE, TOPIC, Publisher, effects, note, running, seen, until


@pytest.fixture(autouse=True)
def swept() -> Iterator[None]:
    """A connection that nobody closed fails the test that opened it, not whichever runs later."""
    yield
    gc.collect()


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shared.bus.lag.STALL_SECONDS", 2.0)
    monkeypatch.setattr("shared.bus.lag._DOUBT_SECONDS", 0.5)
    monkeypatch.setattr("shared.bus.lag._EVERY_SECONDS", 0.1)
    monkeypatch.setattr("shared.bus.lag._ASK_SECONDS", 0.5)
    monkeypatch.setattr("shared.bus.kafka.STOP_SECONDS", 0.5)


async def for_ever(*_: Any, **__: Any) -> Any:
    await asyncio.Event().wait()


async def test_the_end_of_a_client_is_not_taken_for_ones_own(
    kafka: KafkaAccess, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A fetch that failed waits to be tried again while the consumer is stopped."""
    consumer = kafka.consumer(None, [TOPIC])
    await consumer.start()
    for place in consumer.assignment():
        await consumer.position(place)
    fetcher = consumer._fetcher
    fetcher._retry_backoff = 3600.0
    failed = asyncio.Event()

    async def fail(*_: Any, **__: Any) -> Any:
        failed.set()
        raise KafkaConnectionError("the broker is away")

    monkeypatch.setattr(AIOKafkaClient, "send", fail)
    await failed.wait()
    await asyncio.sleep(0)  # it begins to wait
    assert [task for task in fetcher._pending_tasks if not task.done()]
    await stop(consumer)
    assert not any(each.connected() for each in consumer._client._conns.values())


async def test_a_member_with_empty_hands_hears_of_an_error_and_goes_on(
    pool: Pool, kafka: KafkaAccess, group: str, publisher: Publisher
) -> None:
    """Four members share three partitions; the fourth must take over when the others go."""

    def make() -> Runner:
        return Runner(SERVICE, pool, kafka, {DeviceSeen: note}, group=group)

    runners = [make() for _ in range(4)]
    first, *others = runners
    async with running(first):
        async with running(*others):
            await until(lambda: _is(sum(len(one._partitions) == 1 for one in runners) == 3))
            idle = next(one for one in runners if not one._partitions)
            coordinator = _consumer(idle)._coordinator
            told = coordinator._push_error_to_user(KafkaError("Unexpected exception in heartbeat"))
            await asyncio.wait_for(told, 30)
            await until(lambda: _is(_consumer(idle)._coordinator is not coordinator))
        await publisher.send(*(seen() for _ in range(9)))
        await until(lambda: _done(pool, 9))


def _consumer(runner: Runner) -> AIOKafkaConsumer:
    assert runner._consumer is not None
    return runner._consumer


async def _is(value: bool) -> bool:
    return value


async def _done(pool: Pool, count: int) -> bool:
    return len(await effects(pool)) >= count


async def _healthy(runner: Runner) -> bool:
    return runner.healthy()


async def _unhealthy(runner: Runner) -> bool:
    return not runner.healthy()


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize(
    ("where", "what"),
    [
        (CoordinatorGroupRebalance, "perform_group_join"),
        (GroupCoordinator, "ensure_coordinator_known"),
        (AIOKafkaClient, "_md_synchronizer"),
        (Fetcher, "fetched_records"),
        (AIOKafkaConsumer, "end_offsets"),
    ],
)
async def test_what_hangs_is_told_and_made_anew(
    pool: Pool,
    kafka: KafkaAccess,
    group: str,
    publisher: Publisher,
    monkeypatch: pytest.MonkeyPatch,
    where: Any,
    what: str,
) -> None:
    runner = Runner(SERVICE, pool, kafka, {DeviceSeen: note}, group=group)
    with monkeypatch.context() as broken:
        broken.setattr(where, what, for_ever)
        async with running(runner):
            await publisher.send(seen())
            await until(lambda: _unhealthy(runner))
            first = _consumer(runner)
            broken.undo()
            await until(lambda: _is(_consumer(runner) is not first))
            await until(lambda: _done(pool, 1))
            await until(lambda: _healthy(runner))


@pytest.mark.usefixtures("impatient")
async def test_who_has_nothing_to_do_is_well(
    pool: Pool, kafka: KafkaAccess, group: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One member more than there are partitions: the broker is asked, and knows it."""
    asked = 0
    real = membership.ask

    async def ask(*arguments: Any) -> int | None:
        nonlocal asked
        standing = await real(*arguments)
        asked += standing == 0
        return standing

    monkeypatch.setattr("shared.bus.lag.membership.ask", ask)
    runners = [Runner(SERVICE, pool, kafka, {DeviceSeen: note}, group=group) for _ in range(4)]

    def held() -> list[int]:
        return sorted(len(one._partitions) for one in runners)

    async with running(*runners):
        await until(lambda: _is(held() == [0, 1, 1, 1] and all(one.healthy() for one in runners)))
        asked = 0
        await until(lambda: _is(asked >= 5))
        assert held() == [0, 1, 1, 1]
        assert all(one.healthy() for one in runners)


@pytest.mark.usefixtures("impatient")
async def test_while_the_broker_is_away_nobody_stands_still(
    kafka: KafkaAccess, unused_tcp_port: int
) -> None:
    away = kafka.model_copy(update={"bootstrap": f"127.0.0.1:{unused_tcp_port}"})
    watch = lag.Watch(SERVICE, away, "muster-inventory-away")
    consumer = kafka.consumer("muster-inventory-away")
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(4):  # twice as long as it would take to be said
            await watch.guard(consumer)
    await stop(consumer)
    assert not watch.stalled
