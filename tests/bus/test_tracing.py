from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind

from shared.bus import outbox, tracing
from shared.bus.testing import travelled
from shared.db.pool import Pool, transaction
from shared.events import Event, Meta
from tests.bus.small import SERVICE, seen
from tests.bus.test_outbox import changed

PARENT = "00-{:032x}-{:016x}-01"


@pytest.fixture
def spans(monkeypatch: pytest.MonkeyPatch) -> Iterator[InMemorySpanExporter]:
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr(tracing, "_tracer", provider.get_tracer("test"))
    yield exporter
    provider.shutdown()


def traced(number: int) -> Event:
    event = seen()
    meta = Meta(**{**event.meta.model_dump(), "traceparent": PARENT.format(number, number)})
    return event.received(meta)


def process(events: Sequence[Event]) -> None:
    with tracing.processing("muster.command.v1", 3, "muster-inventory", events):
        assert tracing.current_traceparent() is not None


def test_a_batch_links_to_the_trace_of_each_event(spans: InMemorySpanExporter) -> None:
    process([traced(1), traced(2), traced(2), seen()])
    [span] = spans.get_finished_spans()
    assert span.name == "process muster.command.v1"
    assert span.kind is SpanKind.CONSUMER
    assert span.parent is None
    assert [link.context.trace_id for link in span.links] == [1, 2]
    attributes: Any = span.attributes
    assert attributes["messaging.batch.message_count"] == 4
    assert attributes["messaging.destination.partition.id"] == "3"


def test_a_single_event_continues_its_trace(spans: InMemorySpanExporter) -> None:
    process([traced(7)])
    [span] = spans.get_finished_spans()
    assert span.context is not None
    assert span.context.trace_id == 7
    assert span.parent is not None


def test_the_span_in_hand_is_not_the_parent_of_a_batch(spans: InMemorySpanExporter) -> None:
    with tracing._tracer.start_as_current_span("poll"):
        process([traced(1), traced(2)])
    span = next(s for s in spans.get_finished_spans() if s.name.startswith("process"))
    assert span.parent is None


def test_a_broken_traceparent_is_no_link(spans: InMemorySpanExporter) -> None:
    event = seen()
    broken = event.received(Meta(**{**event.meta.model_dump(), "traceparent": "rubbish"}))
    process([broken, traced(1)])
    [span] = spans.get_finished_spans()
    assert [link.context.trace_id for link in span.links] == [1]


async def test_the_trace_survives_the_outbox(pool: Pool, spans: InMemorySpanExporter) -> None:
    with tracing._tracer.start_as_current_span("request") as span:
        async with transaction(pool) as tx:
            await outbox.emit(tx, [changed()])
    async with pool.acquire() as connection:
        [event] = await outbox.read(connection, SERVICE)
    own = span.get_span_context()
    assert event.meta.traceparent is not None
    assert event.meta.traceparent.startswith(f"00-{own.trace_id:032x}-{own.span_id:016x}-")
    assert trace.get_current_span() is trace.INVALID_SPAN


async def test_without_a_span_the_trace_of_the_cause_goes_on(pool: Pool) -> None:
    [cause] = travelled(changed(), service=SERVICE)
    cause = cause.received(Meta(**{**cause.meta.model_dump(), "traceparent": PARENT.format(5, 6)}))
    async with transaction(pool) as tx:
        await outbox.emit(tx, [changed().because(cause)])
    async with pool.acquire() as connection:
        [event] = await outbox.read(connection, SERVICE)
    assert event.meta.traceparent == PARENT.format(5, 6)
