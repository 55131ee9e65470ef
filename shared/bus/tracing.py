"""Traces that cross Kafka: the trace goes into the outbox row and comes back as a link.

Attribute names are of OpenTelemetry's messaging conventions, which still change: they stand here
and nowhere else.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import Link, Span, SpanKind
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from shared.events import Event

_PROPAGATOR = TraceContextTextMapPropagator()
_MAX_LINKS = 128  # the limit of OpenTelemetry's own defaults
_tracer = trace.get_tracer("muster.bus")


def current_traceparent() -> str | None:
    """The W3C traceparent of the span in hand; None outside of one."""
    carrier: dict[str, str] = {}
    _PROPAGATOR.inject(carrier)
    return carrier.get("traceparent")


@contextlib.contextmanager
def processing(topic: str, partition: int, group: str, events: Sequence[Event]) -> Iterator[Span]:
    """One span for a batch, linked to each event's own trace; a single event is its child."""
    parents = [e.meta.traceparent for e in events[:_MAX_LINKS] if e.meta.traceparent]
    spans = [trace.get_current_span(_context(parent)) for parent in dict.fromkeys(parents)]
    attributes: dict[str, str | int] = {
        "messaging.system": "kafka",
        "messaging.operation.type": "process",
        "messaging.operation.name": "process",
        "messaging.destination.name": topic,
        "messaging.destination.partition.id": str(partition),
        "messaging.consumer.group.name": group,
        "messaging.batch.message_count": len(events),
    }
    with _tracer.start_as_current_span(
        f"process {topic}",
        context=_context(parents[0]) if len(events) == 1 and parents else Context(),
        kind=SpanKind.CONSUMER,
        attributes=attributes,
        links=[Link(span.get_span_context()) for span in spans],
    ) as span:
        yield span


def _context(traceparent: str) -> Context:
    return _PROPAGATOR.extract({"traceparent": traceparent}, context=Context())
