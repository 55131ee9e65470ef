from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from shared.bus import outbox, tracing
from shared.bus.testing import travelled
from shared.db.pool import Pool, transaction
from shared.events import Event, Meta
from shared.runtime import traces
from tests.bus.small import SERVICE, seen
from tests.bus.test_outbox import changed

PARENT = "00-{:032x}-{:016x}-01"
UNRECORDED = "00-{:032x}-{:016x}-00"


@pytest.fixture
def spans() -> Iterator[InMemorySpanExporter]:
    exporter = InMemorySpanExporter()
    traces.use(SimpleSpanProcessor(exporter))
    yield exporter
    traces.shut_down()


def traced(number: int, form: str = PARENT) -> Event:
    event = seen()
    meta = Meta(**{**event.meta.model_dump(), "traceparent": form.format(number, number)})
    return event.received(meta)


def process(events: Sequence[Event]) -> None:
    with tracing.processing("inventory", "muster.command.v1", 3, "muster-inventory", events):
        assert tracing.current_traceparent() is not None


def trace_of(span: ReadableSpan) -> int:
    assert span.context is not None
    number: int = span.context.trace_id
    return number


def named(spans: InMemorySpanExporter, start: str) -> list[ReadableSpan]:
    return [span for span in spans.get_finished_spans() if span.name.startswith(start)]


def test_a_batch_links_to_the_trace_of_each_event(spans: InMemorySpanExporter) -> None:
    process([traced(1), traced(2), traced(2), seen()])
    [span] = named(spans, "process muster.command.v1")
    assert span.kind is SpanKind.CONSUMER
    assert span.parent is None
    assert [link.context.trace_id for link in span.links] == [1, 2]
    attributes: Any = span.attributes
    assert attributes["messaging.batch.message_count"] == 4
    assert attributes["messaging.destination.partition.id"] == "3"
    assert span.resource.attributes["service.name"] == "muster-inventory"


def test_each_trace_has_its_share_of_a_batch(spans: InMemorySpanExporter) -> None:
    process([traced(1), traced(2), traced(3, UNRECORDED), seen()])
    [batch] = named(spans, "process")
    shares = named(spans, "handle muster.device.seen.v1")
    assert sorted(trace_of(span) for span in shares) == [1, 2]
    assert {link.context.trace_id for span in shares for link in span.links} == {trace_of(batch)}
    assert all(span.parent and span.parent.span_id == trace_of(span) for span in shares)


def test_a_batch_is_recorded_when_one_of_its_traces_is(spans: InMemorySpanExporter) -> None:
    process([traced(1, UNRECORDED), traced(2, UNRECORDED)])
    assert spans.get_finished_spans() == ()
    process([traced(1, UNRECORDED), traced(2)])
    assert len(named(spans, "process")) == 1


def test_events_of_one_trace_continue_it(spans: InMemorySpanExporter) -> None:
    process([traced(7), traced(7)])
    [span] = spans.get_finished_spans()
    assert trace_of(span) == 7
    assert span.parent is not None


def test_what_follows_from_an_event_goes_on_from_its_handling(
    spans: InMemorySpanExporter,
) -> None:
    """In a batch too, and each in the trace of its own cause."""
    first, second = traced(1), traced(2)
    before = first.meta.traceparent
    with tracing.processing(SERVICE, "muster.command.v1", 0, "group", [first, second]):
        causes = [changed().because(first).cause, changed().because(second).cause]
    handled = {trace_of(span): span for span in named(spans, "handle")}
    for number, cause in enumerate(causes, 1):
        context = handled[number].context
        assert cause is not None
        assert context is not None
        assert cause.traceparent == PARENT.format(number, context.span_id)
    assert first.meta.traceparent == before  # a second try begins from the same place


def test_an_error_marks_the_spans_and_tells_no_values(spans: InMemorySpanExporter) -> None:
    with (
        pytest.raises(ValueError, match="hunter2"),
        tracing.processing(SERVICE, "muster.command.v1", 0, "group", [traced(1), traced(2)]),
    ):
        raise ValueError("the password is hunter2")
    finished = spans.get_finished_spans()
    assert {span.status.status_code for span in finished} == {StatusCode.ERROR}
    assert {span.status.description for span in finished} == {"ValueError"}
    assert "hunter2" not in "".join(span.to_json() for span in finished)


def test_the_span_in_hand_is_not_the_parent_of_a_batch(spans: InMemorySpanExporter) -> None:
    with tracing.request(SERVICE, "poll", None, {}):
        process([traced(1), traced(2)])
    [span] = named(spans, "process")
    assert span.parent is None


def test_a_broken_traceparent_is_no_link(spans: InMemorySpanExporter) -> None:
    event = seen()
    broken = event.received(Meta(**{**event.meta.model_dump(), "traceparent": "rubbish"}))
    process([broken, traced(1)])
    [span] = named(spans, "process")
    assert [link.context.trace_id for link in span.links] == [1]


def test_work_that_waited_goes_on_with_its_trace(spans: InMemorySpanExporter) -> None:
    began = tracing.now()
    with tracing.continued(SERVICE, "push", PARENT.format(4, 4), kind=SpanKind.CLIENT) as span:
        assert span is not None
    told = tracing.mark(
        SERVICE, "answer", PARENT.format(4, 4), began_at=began, link=PARENT.format(9, 9)
    )
    push, answer = spans.get_finished_spans()
    assert trace_of(push) == trace_of(answer) == 4
    assert answer.start_time == began
    assert [link.context.trace_id for link in answer.links] == [9]
    assert told is not None
    assert told.startswith(f"00-{4:032x}-")
    assert told != PARENT.format(4, 4)


def test_what_is_not_recorded_only_passes_through(spans: InMemorySpanExporter) -> None:
    quiet = tracing.unrecorded(PARENT.format(4, 5))
    assert quiet == UNRECORDED.format(4, 5)
    assert tracing.recorded(quiet) is None
    assert tracing.recorded(PARENT.format(4, 5)) == PARENT.format(4, 5)
    assert tracing.unrecorded(None) is None
    assert tracing.mark(SERVICE, "answer", quiet, began_at=tracing.now()) == quiet
    with tracing.continued(SERVICE, "push", quiet):
        pass
    assert spans.get_finished_spans() == ()


def test_off_makes_no_span_at_all(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a span was made or read")

    monkeypatch.setattr(trace, "get_current_span", refuse)
    monkeypatch.setattr(tracing, "_PROPAGATOR", None)
    event = traced(1)
    assert tracing.current_traceparent() is None
    with (
        tracing.request(SERVICE, "GET /", {}, {}) as span,
        tracing.processing(SERVICE, "muster.command.v1", 0, "group", [event, traced(2)]),
        tracing.continued(SERVICE, "push", event.meta.traceparent) as push,
    ):
        assert span is push is None
    parent = event.meta.traceparent
    assert tracing.mark(SERVICE, "answer", parent, began_at=0) == parent


async def test_the_trace_survives_the_outbox(pool: Pool, spans: InMemorySpanExporter) -> None:
    with tracing.request(SERVICE, "request", {}, {}) as span:
        async with transaction(pool) as tx:
            await outbox.emit(tx, [changed()])
    async with pool.acquire() as connection:
        [event] = await outbox.read(connection, SERVICE)
    assert span is not None
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


async def test_the_cause_of_an_event_tells_its_trace_before_the_span_in_hand(
    pool: Pool, spans: InMemorySpanExporter
) -> None:
    [cause] = travelled(changed(), service=SERVICE)
    cause = cause.received(Meta(**{**cause.meta.model_dump(), "traceparent": PARENT.format(5, 6)}))
    with tracing.request(SERVICE, "request of another", {}, {}):
        async with transaction(pool) as tx:
            await outbox.emit(tx, [changed().because(cause)])
    async with pool.acquire() as connection:
        [event] = await outbox.read(connection, SERVICE)
    assert event.meta.traceparent == PARENT.format(5, 6)
