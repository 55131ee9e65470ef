"""What is measured of a push, and whose trace it belongs to."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from datetime import timedelta
from uuid import UUID

import pytest
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind
from prometheus_client import REGISTRY

from services.push_notifier.consumers import handlers
from shared.bus import apply
from shared.bus.testing import travelled
from shared.events import Meta
from shared.events.base import uuid7
from shared.events.commands import CommandQueued, QueuedTarget
from shared.events.pushes import PushSent
from shared.runtime import traces
from tests.push_notifier.road import TOKEN, Road
from tools.embedded.apns import Rule

_SECONDS = timedelta(seconds=1)


class Observed:
    """What a histogram was told since this was made."""

    def __init__(self, push: str) -> None:
        self._labels = {"push": push}
        self._before = self._read()

    def _read(self) -> tuple[float, float]:
        name = "muster_push_notifier_push_to_checkin_seconds"
        count, total = (
            REGISTRY.get_sample_value(f"{name}_{what}", self._labels) or 0.0
            for what in ("count", "sum")
        )
        return count, total

    def __call__(self) -> tuple[float, float]:
        """How often, and the sum of seconds."""
        count, total = self._read()
        return count - self._before[0], round(total - self._before[1], 3)


async def _pushed(road: Road, times: int = 1) -> tuple[UUID, UUID]:
    device = uuid7()
    channel = await road.enroll(device, TOKEN, road.clock.now())
    await road.queue(device, channel)
    for _ in range(times):
        await road.sender.run()
        road.clock.advance(timedelta(hours=1))
    road.clock.advance(timedelta(hours=-1))
    return device, channel


async def test_a_device_that_came_after_a_push_is_measured_once(road: Road) -> None:
    observed = Observed("first")
    device, channel = await _pushed(road)
    await road.finish(device, channel, empty=False, came_after=3 * _SECONDS)
    await road.finish(device, channel, empty=True, came_after=4 * _SECONDS)
    assert observed() == (1, 3.0)


async def test_a_push_that_had_to_be_repeated_is_told_apart(road: Road) -> None:
    first, repeated = Observed("first"), Observed("repeated")
    device, channel = await _pushed(road, times=3)
    await road.finish(device, channel, empty=True, came_after=5 * _SECONDS)
    assert first() == (0, 0.0)
    assert repeated() == (1, 5.0)


async def test_who_was_not_brought_by_a_push_is_not_measured(road: Road) -> None:
    first, repeated = Observed("first"), Observed("repeated")
    device, channel = await _pushed(road)
    early = timedelta(seconds=-1)
    await road.finish(device, channel, empty=False, came_after=early)  # fetched before the push
    device, channel = await _pushed(road)
    await road.finish(device, channel, empty=False, deliveries=2, came_after=3 * _SECONDS)
    device, channel = await _pushed(road)
    await road.finish(device, channel, empty=False)  # the event does not tell
    device = uuid7()
    channel = await road.enroll(device, TOKEN, road.clock.now())
    await road.finish(device, channel, empty=True, came_after=3 * _SECONDS)  # came by itself
    assert first() == repeated() == (0, 0.0)


async def test_work_that_waits_wakes_the_sender_after_the_commit(road: Road) -> None:
    device = uuid7()
    channel = await road.enroll(device, TOKEN, road.clock.now())
    await road.queue(device, channel)
    async with asyncio.timeout(30):
        await road.wake.wait(60)


@pytest.fixture
def spans() -> Iterator[InMemorySpanExporter]:
    exporter = InMemorySpanExporter()
    traces.use(SimpleSpanProcessor(exporter))
    yield exporter
    traces.shut_down()


async def _queued(road: Road, device: UUID, channel: UUID, traceparent: str) -> None:
    queued = CommandQueued(
        command_id=uuid7(),
        kind="raw",
        queued_at=road.clock.now(),
        targets=[QueuedTarget(device_id=device, channel_id=channel)],
    )
    [event] = travelled(queued, service="command_queue")
    event.received(Meta(**{**event.meta.model_dump(), "traceparent": traceparent}))
    await apply(road.pool, "push_notifier", handlers(road.settings, road.wake), [event])


async def test_a_push_belongs_to_the_trace_of_the_work_it_wakes_for(
    road: Road, spans: InMemorySpanExporter
) -> None:
    device = uuid7()
    channel = await road.enroll(device, TOKEN, road.clock.now())
    await _queued(road, device, channel, f"00-{17:032x}-{18:016x}-01")
    await road.sender.run()
    [push] = spans.get_finished_spans()
    assert push.name == "push"
    assert push.kind is SpanKind.CLIENT
    assert push.context is not None
    assert push.context.trace_id == 17
    assert push.parent is not None
    assert push.parent.span_id == 18
    [sent] = await road.events(PushSent)
    assert sent.meta.traceparent == f"00-{17:032x}-{push.context.span_id:016x}-01"


async def test_the_trace_is_forgotten_with_the_work(
    road: Road, spans: InMemorySpanExporter
) -> None:
    device = uuid7()
    channel = await road.enroll(device, TOKEN, road.clock.now())
    await _queued(road, device, channel, f"00-{17:032x}-{18:016x}-00")
    assert await road.pool.fetchval("SELECT traceparent FROM channel") is None  # not recorded
    await _queued(road, device, channel, f"00-{19:032x}-{18:016x}-01")
    assert await road.pool.fetchval("SELECT traceparent FROM channel") is not None
    await road.finish(device, channel, empty=True)
    assert await road.pool.fetchval("SELECT traceparent FROM channel") is None


async def test_open_circuits_are_counted_also_while_nothing_is_sent(road: Road) -> None:
    device = uuid7()
    channel = await road.enroll(device, TOKEN, road.clock.now())
    road.apns.rules.append(Rule(status=403, reason="BadCertificate", times=1))
    await road.queue(device, channel)
    await road.sender.run()
    await road.sender.measure()
    assert REGISTRY.get_sample_value("muster_push_notifier_circuits_open") == 1
    road.clock.advance(timedelta(hours=1))
    await road.sender.measure()
    assert REGISTRY.get_sample_value("muster_push_notifier_circuits_open") == 0
