"""OpenTelemetry, only when a collector is configured: without one no span is made.

Spans are made by `shared.bus.tracing`; here they get a sampler, a way out and each service's name.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from http import HTTPStatus
from typing import Any

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.sampling import (
    ALWAYS_OFF,
    ALWAYS_ON,
    ParentBased,
    Sampler,
    SamplingResult,
    TraceIdRatioBased,
)
from opentelemetry.trace import Link, Span, SpanKind, StatusCode, Tracer

from shared.bus import tracing
from shared.runtime.routes import Route

_EXPORT_SECONDS = 5.0
"""A collector that is away may hold up the end of a process for so long, no longer."""
_processor: SpanProcessor | None = None


def set_up(endpoint: str | None, *, share: float) -> None:
    """Send a share of traces to `endpoint` by OTLP/HTTP; None leaves tracing off."""
    if endpoint is not None:
        url = endpoint.rstrip("/") + "/v1/traces"
        exporter = OTLPSpanExporter(endpoint=url, timeout=_EXPORT_SECONDS)
        use(BatchSpanProcessor(exporter), share)


def use(processor: SpanProcessor, share: float = 1.0) -> None:
    """Trace into `processor`, the whole process; each service under its own name."""
    global _processor  # noqa: PLW0603 (a process has one way out)
    _processor = processor
    sampler = ParentBased(BatchOrShare(share))

    @functools.cache
    def tracer_of(service: str) -> Tracer:
        resource = Resource.create({"service.name": f"muster-{service}"})
        provider = TracerProvider(sampler, resource, shutdown_on_exit=False)
        provider.add_span_processor(processor)
        return provider.get_tracer("muster")

    tracing.switch(tracer_of)


def shut_down() -> None:
    """Send what waits and turn tracing off; a collector that is away is not waited for long.

    The processor would try each batch that waits for as long as a collector may take.
    """
    global _processor  # noqa: PLW0603 (a process has one way out)
    tracing.switch(None)
    if _processor is not None:
        last = threading.Thread(target=_processor.shutdown, daemon=True)
        last.start()
        last.join(_EXPORT_SECONDS)
    _processor = None


class BatchOrShare(Sampler):
    """How a span without a parent is judged: a batch is kept when a trace that it serves is."""

    def __init__(self, share: float) -> None:
        self._share = TraceIdRatioBased(share)

    def should_sample(
        self,
        parent_context: Context | None,
        trace_id: int,
        name: str,
        kind: SpanKind | None = None,
        attributes: Any = None,
        links: Sequence[Link] | None = None,
        trace_state: trace.TraceState | None = None,
    ) -> SamplingResult:
        judge: Sampler = self._share
        if links:
            kept = any(link.context.trace_flags.sampled for link in links)
            judge = ALWAYS_ON if kept else ALWAYS_OFF
        return judge.should_sample(
            parent_context, trace_id, name, kind, attributes, links, trace_state
        )

    def get_description(self) -> str:
        return f"BatchOrShare{{{self._share.rate}}}"


def server_span(
    service: str, route: Route, headers: Mapping[str, str]
) -> AbstractContextManager[Span | None]:
    """The span of one request; a device's own `traceparent` is not believed."""
    if not tracing.is_on():
        return tracing.NOTHING
    attributes = {"http.request.method": route.method, "http.route": route.path}
    believed = None if route.listener == "devices" else headers
    return tracing.request(service, f"{route.method} {route.path}", believed, attributes)


def answered(span: Span | None, status: int) -> None:
    """Tell a request's span how it ended."""
    if span is not None:
        span.set_attribute("http.response.status_code", status)
        if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            span.set_status(StatusCode.ERROR)


def current_ids() -> dict[str, str]:
    """The ids that tie a log line to its trace; empty without one."""
    context = trace.get_current_span().get_span_context()
    if not context.is_valid:
        return {}
    return {
        "trace_id": trace.format_trace_id(context.trace_id),
        "span_id": trace.format_span_id(context.span_id),
    }
