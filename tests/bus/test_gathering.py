"""Events that several partitions have in hand at the same time take effect together."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pytest

from shared.bus import Handlers, Poison, envelope, gathering
from shared.bus.gathering import FULL, Gathering
from shared.bus.handling import Handling
from shared.bus.limits import FailureLimit
from shared.bus.records import Arrival
from shared.db.pool import Connection, Pool
from shared.events import Event
from shared.events.commands import DeviceSeen
from tests.bus.small import SERVICE, TOPIC, effects, ids, note, seen

FOR_EVER = 1000.0


@dataclass(frozen=True)
class Sent:
    """A record as the broker would give it."""

    event: Event
    partition: int
    offset: int = 0
    timestamp: int = 0
    topic: str = TOPIC

    @property
    def key(self) -> bytes:
        return self.event.subject.encode()

    @property
    def value(self) -> bytes:
        return self.event.model_dump_json().encode()

    @property
    def headers(self) -> Sequence[tuple[str, bytes]]:
        return envelope.encode(self.event.TYPE, self.event.subject, self.event.meta)


class Noting:
    """A handler that knows how many events each call brought."""

    def __init__(self) -> None:
        self.calls: list[int] = []

    async def __call__(self, tx: Connection, events: Sequence[Any]) -> None:
        self.calls.append(len(events))
        await note(tx, events)


def gathered(pool: Pool, handler: Any, parallel: int = 4) -> Gathering:
    handlers: Handlers = {DeviceSeen: handler}
    return Gathering(SERVICE, "group", pool, handlers, parallel)


def arrivals(*events: DeviceSeen, partition: int = 0) -> list[Arrival]:
    return [Arrival(Sent(event, partition), event) for event in events]


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever is held back waits until somebody hurries."""
    monkeypatch.setattr(gathering, "pace", lambda _took: FOR_EVER)


async def test_partitions_that_come_together_share_a_transaction(pool: Pool) -> None:
    handler = Noting()
    together = gathered(pool, handler)
    events = [seen() for _ in range(5)]
    took = await asyncio.gather(
        together.together(arrivals(*events[:2])),
        together.together(arrivals(events[2], partition=1)),
        together.together(arrivals(*events[3:], partition=2)),
    )
    assert all(took)
    assert handler.calls == [5]
    assert await effects(pool) == ids(events)


async def test_one_by_itself_goes_on_at_once(pool: Pool, patient: None) -> None:
    handler = Noting()
    assert await gathered(pool, handler).together(arrivals(seen())) is False
    assert handler.calls == []


async def test_who_follows_closely_waits_for_company_until_somebody_is_behind(
    pool: Pool, patient: None
) -> None:
    handler = Noting()
    together = gathered(pool, handler)
    await together.together(arrivals(seen()))
    waiting = [asyncio.create_task(together.together(arrivals(seen()))) for _ in range(3)]
    _, pending = await asyncio.wait(waiting, timeout=0.2)
    assert len(pending) == 3
    assert await together.together(arrivals(seen()), behind=True)
    assert await asyncio.gather(*waiting) == [True, True, True]
    assert handler.calls == [4]


async def test_a_full_transaction_waits_for_nobody(pool: Pool, patient: None) -> None:
    together = gathered(pool, Noting())
    await together.together(arrivals(seen()))
    half = [seen() for _ in range(FULL // 2)]
    halves = [arrivals(*half, partition=0), arrivals(*(seen() for _ in half), partition=1)]
    assert await asyncio.gather(*map(together.together, halves)) == [True, True]
    assert await together.together(arrivals(*(seen() for _ in range(FULL)))) is False


async def test_who_gave_up_waiting_is_left_out(pool: Pool, patient: None) -> None:
    handler = Noting()
    together = gathered(pool, handler)
    await together.together(arrivals(seen()))
    gone, stays = (asyncio.create_task(together.together(arrivals(seen()))) for _ in range(2))
    await asyncio.sleep(0)
    gone.cancel()
    assert await together.together(arrivals(seen()), behind=True)
    assert await stays
    assert handler.calls == [2]
    await together.close()


async def test_one_partitions_poison_is_nobody_elses(pool: Pool) -> None:
    bad = seen()

    async def picky(tx: Connection, events: Sequence[Any]) -> None:
        if any(event.device_id == bad.device_id for event in events):
            raise Poison("not this one")
        await note(tx, events)

    handlers: Handlers = {DeviceSeen: picky}
    together = Gathering(SERVICE, "group", pool, handlers, 4)
    good = [[seen(), seen()], [seen(), bad], [seen()]]
    await asyncio.gather(
        *(
            Handling(SERVICE, pool, handlers, FailureLimit(), together).handle(
                [Sent(event, place, offset) for offset, event in enumerate(batch)]
            )
            for place, batch in enumerate(good)
        )
    )
    assert sorted(await effects(pool)) == sorted(
        ids([event for batch in good for event in batch if event is not bad])
    )
    assert await pool.fetchval("SELECT count(*) FROM dead_letter") == 1


async def test_closing_rolls_back_what_is_on_its_way(pool: Pool) -> None:
    begun = asyncio.Event()

    async def stuck(tx: Connection, events: Sequence[Any]) -> None:
        await note(tx, events)
        begun.set()
        await asyncio.Event().wait()

    together = gathered(pool, stuck)
    tasks = [asyncio.create_task(together.together(arrivals(seen()))) for _ in range(2)]
    await begun.wait()
    for task in tasks:
        task.cancel()
    await together.close()
    await asyncio.wait(tasks)
    assert await effects(pool) == []
