"""OpenTelemetry, only when a collector is configured: without one no span is made.

`traceparent` goes on through the outbox (shared.bus writes it beside each event), so that a trace
crosses Kafka.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext

from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased
from opentelemetry.trace import SpanKind, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from shared.runtime.routes import Route

_PROPAGATOR = TraceContextTextMapPropagator()
_NO_SPAN = nullcontext()
_tracer: trace.Tracer | None = None
_provider: TracerProvider | None = None


def set_up(name: str, endpoint: str | None, *, share: float = 0.05) -> None:
    """Send a share of traces to `endpoint`; None leaves tracing off."""
    if endpoint is not None:
        exporter = OTLPSpanExporter(endpoint=endpoint.rstrip("/") + "/v1/traces")
        use(name, BatchSpanProcessor(exporter), share)


def use(name: str, processor: SpanProcessor, share: float = 1.0) -> None:
    """Trace into `processor`, the whole process: shared.bus asks for the global tracer."""
    global _tracer, _provider  # noqa: PLW0603 (a process has one tracer)
    resource = Resource.create({"service.name": f"muster-{name}"})
    _provider = TracerProvider(resource=resource, sampler=ParentBased(TraceIdRatioBased(share)))
    _provider.add_span_processor(processor)
    trace.set_tracer_provider(_provider)
    _tracer = _provider.get_tracer("muster")


def shut_down() -> None:
    """Send what waits and turn tracing off."""
    global _tracer, _provider  # noqa: PLW0603 (a process has one tracer)
    if _provider is not None:
        _provider.shutdown()
    _tracer = _provider = None


def server_span(route: Route, headers: Mapping[str, str]) -> AbstractContextManager[object]:
    """The span of one request; a device's own `traceparent` is not believed."""
    if _tracer is None:
        return _NO_SPAN
    parent = None if route.listener == "devices" else _PROPAGATOR.extract(headers)
    attributes = {"http.request.method": route.method, "http.route": route.path}
    return _tracer.start_as_current_span(
        f"{route.method} {route.path}", parent, SpanKind.SERVER, attributes
    )


def failed() -> None:
    """Mark the current span: the collector keeps every trace with an error."""
    trace.get_current_span().set_status(StatusCode.ERROR)


def current_ids() -> dict[str, str]:
    """The ids that tie a log line to its trace; empty without one."""
    context = trace.get_current_span().get_span_context()
    if not context.is_valid:
        return {}
    return {
        "trace_id": trace.format_trace_id(context.trace_id),
        "span_id": trace.format_span_id(context.span_id),
    }
