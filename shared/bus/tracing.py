"""Traces that cross Kafka and the database.

A trace goes into the outbox row, comes back in the event's envelope, and lies beside work that
waits (a command, a channel to be woken), so that whoever takes it up goes on with the same trace.
With tracing off nothing here makes a span or reads one: `traceparent` values only pass through.

Attribute names are of OpenTelemetry's messaging conventions, which still change: they stand here
and nowhere else.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, TypeAlias

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import (
    Link,
    NonRecordingSpan,
    Span,
    SpanContext,
    SpanKind,
    StatusCode,
    TraceFlags,
    Tracer,
)
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from shared.events import Event

Attributes: TypeAlias = "Mapping[str, str | int]"
TracerOf = Callable[[str], Tracer]
"""A service's tracer: several services may share a process, and each tells its own name."""

_PROPAGATOR = TraceContextTextMapPropagator()
_MAX_LINKS = 128  # the limit of OpenTelemetry's own defaults
NOTHING: AbstractContextManager[None] = contextlib.nullcontext()
_tracer_of: TracerOf | None = None


def switch(tracer_of: TracerOf | None) -> None:
    """Turn tracing on for the whole process, or off with None."""
    global _tracer_of  # noqa: PLW0603 (a process traces or does not)
    _tracer_of = tracer_of


def is_on() -> bool:
    """Whether spans are made at all: ask before anything is gathered only for a span."""
    return _tracer_of is not None


def current_traceparent() -> str | None:
    """The W3C traceparent of the span in hand; None outside of one."""
    if _tracer_of is None:
        return None
    context = trace.get_current_span().get_span_context()
    return _written(context) if context.is_valid else None


def request(
    service: str, name: str, headers: Mapping[str, str] | None, attributes: Attributes
) -> AbstractContextManager[Span | None]:
    """The span of one request; `headers` None begins a trace whatever the caller says."""
    if _tracer_of is None:
        return NOTHING
    parent = Context() if headers is None else _PROPAGATOR.extract(headers, context=Context())
    return _span(_tracer_of(service), name, parent, SpanKind.SERVER, attributes)


def continued(
    service: str,
    name: str,
    traceparent: str | None,
    *,
    kind: SpanKind = SpanKind.INTERNAL,
    attributes: Attributes | None = None,
) -> AbstractContextManager[Span | None]:
    """A span for work that waited with its trace; without a trace, or with it off, none is made."""
    if _tracer_of is None or (context := _read(traceparent)) is None:
        return NOTHING
    return _span(_tracer_of(service), name, _under(context), kind, attributes or {})


def mark(
    service: str,
    name: str,
    traceparent: str | None,
    *,
    began_at: int,
    link: str | None = None,
    attributes: Attributes | None = None,
) -> str | None:
    """Tell a trace of its share in a batch that began at `began_at` (ns) and ends about now.

    `link` is the request that brought it. Returns what goes on in its events: the new span, or the
    `traceparent` given when nothing is recorded.
    """
    if _tracer_of is None:
        return traceparent
    context = _read(traceparent)
    if context is None or not context.trace_flags.sampled:
        return traceparent
    linked = _read(link)
    span = _tracer_of(service).start_span(
        name,
        _under(context),
        attributes=dict(attributes or {}),
        links=[Link(linked)] if linked else (),
        start_time=began_at,
    )
    span.end()
    return _written(span.get_span_context())


def unrecorded(traceparent: str | None) -> str | None:
    """The same place in the same trace, but nothing that follows from it is recorded."""
    context = _read(traceparent)
    return context and _written(context, context.trace_flags & ~TraceFlags.SAMPLED)


def recorded(traceparent: str | None) -> str | None:
    """The traceparent if its trace is recorded: what else would lie in a table for nothing."""
    context = _read(traceparent)
    return traceparent if context and context.trace_flags.sampled else None


def now() -> int:
    """The time as spans count it: nanoseconds."""
    return time.time_ns()


def processing(
    service: str, topic: str, partition: int | None, group: str, events: Sequence[Event]
) -> AbstractContextManager[None]:
    """The spans of a batch of events; `partition` None: of several.

    Events of one trace: one span, their child. Of several: a span of its own with a link to each,
    because it is nobody's child, and inside each trace that is recorded a span for each event,
    linked back, so that a trace can be read from end to end. `event.because(…)` goes on from there.
    """
    if _tracer_of is None:
        return NOTHING
    attributes: dict[str, str | int] = {
        "messaging.system": "kafka",
        "messaging.operation.type": "process",
        "messaging.operation.name": "process",
        "messaging.destination.name": topic,
        "messaging.consumer.group.name": group,
        "messaging.batch.message_count": len(events),
    }
    if partition is not None:
        attributes["messaging.destination.partition.id"] = str(partition)
    return _processing(_tracer_of(service), f"process {topic}", attributes, events)


@contextlib.contextmanager
def _processing(
    tracer: Tracer, name: str, attributes: Attributes, events: Sequence[Event]
) -> Iterator[None]:
    contexts = [_read(event.meta.traceparent) for event in events]
    parents = list({(c.trace_id, c.span_id): c for c in contexts if c}.values())
    kind = SpanKind.CONSUMER
    if len(parents) == 1 and None not in contexts:
        with (
            _span(tracer, name, _under(parents[0]), kind, attributes) as span,
            _carried_on(events, [span] * len(events)),
        ):
            yield
        return
    links = [Link(context) for context in parents[:_MAX_LINKS]]
    with (
        _span(tracer, name, Context(), kind, attributes, links) as batch,
        _shares(tracer, events, contexts, Link(batch.get_span_context())) as shares,
        _carried_on(events, shares),
    ):
        yield


@contextlib.contextmanager
def _shares(
    tracer: Tracer,
    events: Sequence[Event],
    contexts: Sequence[SpanContext | None],
    batch: Link,
) -> Iterator[list[Span | None]]:
    """A span for each event whose trace is recorded, as long as the batch."""
    shares = [
        tracer.start_span(
            f"handle {event.TYPE}",
            _under(context),
            SpanKind.CONSUMER,
            {"messaging.message.id": str(event.meta.event_id)},
            [batch],
        )
        if context and context.trace_flags.sampled
        else None
        for event, context in zip(events, contexts, strict=True)
    ]
    try:
        yield shares
    except Exception as error:
        for span in filter(None, shares):
            _failed(span, error)
        raise
    finally:
        for span in filter(None, shares):
            span.end()


@contextlib.contextmanager
def _carried_on(events: Sequence[Event], spans: Sequence[Span | None]) -> Iterator[None]:
    """Let each event stand for the span that handles it, while it is handled: it may be retried."""
    before = [
        (event, event.meta, span)
        for event, span in zip(events, spans, strict=True)
        if span is not None and span.is_recording()
    ]
    for event, meta, span in before:
        here = _written(span.get_span_context())
        event.received(meta.model_copy(update={"traceparent": here}))
    try:
        yield
    finally:
        for event, meta, _ in before:
            event.received(meta)


@contextlib.contextmanager
def _span(
    tracer: Tracer,
    name: str,
    parent: Context,
    kind: SpanKind,
    attributes: Attributes,
    links: Sequence[Link] = (),
) -> Iterator[Span]:
    """A current span. Of an error it tells the kind only: its words may hold secrets."""
    with tracer.start_as_current_span(
        name,
        parent,
        kind,
        dict(attributes),
        links,
        record_exception=False,
        set_status_on_exception=False,
    ) as span:
        try:
            yield span
        except Exception as error:
            _failed(span, error)
            raise


def _failed(span: Span, error: Exception) -> None:
    span.set_status(StatusCode.ERROR, type(error).__name__)


def _read(traceparent: str | None) -> SpanContext | None:
    if not traceparent:
        return None
    carrier: dict[str, Any] = {"traceparent": traceparent}
    context = trace.get_current_span(
        _PROPAGATOR.extract(carrier, context=Context())
    ).get_span_context()
    return context if context.is_valid else None


def _written(context: SpanContext, flags: int | None = None) -> str:
    flags = context.trace_flags if flags is None else flags
    return f"00-{context.trace_id:032x}-{context.span_id:016x}-{flags:02x}"


def _under(context: SpanContext) -> Context:
    return trace.set_span_in_context(NonRecordingSpan(context), Context())
