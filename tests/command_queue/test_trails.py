"""Which trace a command's way through the queue belongs to."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from services.command_queue.trails import MOST_TARGETS
from shared.runtime import traces
from tests.command_queue.fleet import Fleet


@pytest.fixture
def spans() -> Iterator[InMemorySpanExporter]:
    exporter = InMemorySpanExporter()
    traces.use(SimpleSpanProcessor(exporter))
    yield exporter
    traces.shut_down()


def one(spans: InMemorySpanExporter, name: str) -> ReadableSpan:
    [span] = [span for span in spans.get_finished_spans() if span.name == name]
    assert span.context is not None
    return span


def ids(span: ReadableSpan) -> tuple[int, int]:
    assert span.context is not None
    return span.context.trace_id, span.context.span_id


async def test_a_command_is_followed_through_requests_that_are_not_its_own(
    fleet: Fleet, spans: InMemorySpanExporter
) -> None:
    phone = await fleet.enroll()
    await fleet.ask(phone)
    given = await phone.idle()
    assert given is not None
    await phone.say("Acknowledged", given.command_uuid)
    asked = one(spans, "POST /api/v1/commands")
    polls = [s for s in spans.get_finished_spans() if s.name == "PUT /mdm/apple/connect"]
    handed, answer = (
        one(spans, "hand out inventory.refresh"),
        one(spans, "answer inventory.refresh"),
    )
    for span, poll in zip((handed, answer), polls, strict=True):
        assert ids(span)[0] == ids(asked)[0]
        assert span.parent is not None
        assert span.parent.span_id == ids(asked)[1]
        assert [link.context.span_id for link in span.links] == [ids(poll)[1]]
        assert ids(poll)[0] != ids(asked)[0]  # a device's request is a trace of its own
    [queued], [finished] = await fleet.queued(), await fleet.finished()
    assert queued.meta.traceparent == "00-{:032x}-{:016x}-03".format(*ids(asked))
    assert finished.meta.traceparent == "00-{:032x}-{:016x}-03".format(*ids(answer))


async def test_a_device_does_not_choose_the_trace(
    fleet: Fleet, spans: InMemorySpanExporter
) -> None:
    phone = await fleet.enroll()
    await phone.send(phone.body("Idle"), headers={"traceparent": f"00-{5:032x}-{6:016x}-01"})
    poll = one(spans, "PUT /mdm/apple/connect")
    assert ids(poll)[0] != 5
    assert poll.parent is None


async def test_of_a_fan_out_only_the_request_is_recorded(
    fleet: Fleet, spans: InMemorySpanExporter
) -> None:
    phones = await fleet.enroll(MOST_TARGETS + 1)
    await fleet.ask(*phones)
    await phones[0].drain()
    trace_id, span_id = ids(one(spans, "POST /api/v1/commands"))
    names = {s.name for s in spans.get_finished_spans() if ids(s)[0] == trace_id}
    assert names == {"POST /api/v1/commands"}
    carried = {event.meta.traceparent for event in await fleet.queued()}
    assert carried == {f"00-{trace_id:032x}-{span_id:016x}-02"}


async def test_an_event_says_when_the_command_was_handed_out(fleet: Fleet) -> None:
    phone = await fleet.enroll()
    await fleet.ask(phone)
    given = await phone.idle()
    at = fleet.clock.now()
    assert given is not None
    await phone.say("Acknowledged", given.command_uuid)
    [finished] = await fleet.finished()
    assert finished.handed_out_at == at
