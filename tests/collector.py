"""A stand-in for an OpenTelemetry collector: takes OTLP over HTTP as the real one does."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from aiohttp import web
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)


@dataclass(frozen=True)
class Told:
    """One span as it arrived, ids in hex."""

    service: str
    name: str
    trace_id: str
    span_id: str
    parent_id: str


@dataclass
class Collector:
    endpoint: str = ""
    spans: list[Told] = field(default_factory=list)

    def of(self, trace_id: str) -> list[Told]:
        return [span for span in self.spans if span.trace_id == trace_id]

    async def take(self, request: web.Request) -> web.Response:
        told = ExportTraceServiceRequest.FromString(await request.read())
        for group in told.resource_spans:
            names = {one.key: one.value.string_value for one in group.resource.attributes}
            self.spans += [
                Told(
                    names["service.name"],
                    span.name,
                    span.trace_id.hex(),
                    span.span_id.hex(),
                    span.parent_span_id.hex(),
                )
                for scope in group.scope_spans
                for span in scope.spans
            ]
        return web.Response(
            body=ExportTraceServiceResponse().SerializeToString(),
            content_type="application/x-protobuf",
        )


@asynccontextmanager
async def collecting() -> AsyncIterator[Collector]:
    """A collector on a free port of this machine for the length of the block."""
    collector = Collector()
    application = web.Application(client_max_size=64 * 1024 * 1024)
    application.router.add_post("/v1/traces", collector.take)
    runner = web.AppRunner(application, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    host, port = runner.addresses[0][:2]
    collector.endpoint = f"http://{host}:{port}"
    try:
        yield collector
    finally:
        await runner.cleanup()
