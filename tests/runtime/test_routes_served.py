"""A small service on real listeners: what the runtime does around its handlers."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing, suppress
from pathlib import Path

import pytest
from aiohttp import web
from opentelemetry.sdk.trace import SpanProcessor
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from pydantic import BaseModel

from shared.bus import tracing
from shared.bus.context import correlated, correlation_id
from shared.bus.tracing import current_traceparent
from shared.db.batcher import Overloaded
from shared.runtime import traces
from shared.runtime.clock import SystemClock
from shared.runtime.http import caller, parse_body, parse_query, read_body, render
from shared.runtime.internal import InternalCallFailed, InternalClient
from shared.runtime.paging import Page
from shared.runtime.problems import Problem, device_response
from shared.runtime.routes import Route
from shared.runtime.service import Context, Parts, Service
from shared.runtime.settings import Settings
from shared.runtime.testing import Trial, trial
from shared.runtime.tokens import Signer
from shared.sealed import ensure_service_keys, token_key
from tools.embedded.testing import MakeDatabase


class Thing(BaseModel):
    name: str
    size: int


GREETING = web.AppKey("greeting", str)


async def get_thing(request: web.Request) -> web.StreamResponse:
    query = parse_query(request, Page)
    greeting = request.config_dict[GREETING]
    return render({"greeting": greeting, "limit": query.limit, "actor": caller(request).actor})


async def post_thing(request: web.Request) -> web.StreamResponse:
    return render(await parse_body(request, Thing), 201)


async def fail(request: web.Request) -> web.StreamResponse:
    kind = request.match_info["kind"]
    if kind == "overload":
        raise Overloaded("full")
    if kind == "problem":
        raise Problem(409, "taken", "Choose another name.", name="x")
    if kind == "lost":
        raise ConnectionResetError("the database went away")
    raise RuntimeError("token=s3cret-in-an-error")


async def echo(request: web.Request) -> web.StreamResponse:
    return web.Response(body=await read_body(request))


async def ask(request: web.Request) -> web.StreamResponse:
    return render({"actor": caller(request).actor, "correlation": correlation_id.get()})


async def traced(_request: web.Request) -> web.StreamResponse:
    return render({"traceparent": current_traceparent()})


_API = "/api/v1/inventory"
ROUTES = (
    Route("GET", f"{_API}/things", get_thing, permission="inventory.read", summary="x", query=Page),
    Route(
        "POST",
        f"{_API}/things",
        post_thing,
        permission="inventory.write",
        summary="x",
        body=Thing,
        max_body=100,
    ),
    Route("GET", f"{_API}/fail/{{kind}}", fail, permission="inventory.read", summary="x"),
    Route("GET", f"{_API}/traced", traced, permission="inventory.read", summary="x"),
    Route("PUT", "/mdm/test", echo, listener="devices", summary="x", max_body=100),
    Route("PUT", "/mdm/fail/{kind}", fail, listener="devices", summary="x"),
    Route(
        "POST",
        "/internal/v1/inventory/ask",
        ask,
        listener="internal",
        callers=("enrollment",),
        summary="x",
    ),
)


@asynccontextmanager
async def build(context: Context[Settings]) -> AsyncIterator[Parts]:
    yield Parts(values={GREETING: "hello"})


SERVICE = Service("configuration", "A test's own", settings=Settings, build=build, routes=ROUTES)


@pytest.fixture
async def service(make_database: MakeDatabase, tmp_path: Path) -> AsyncIterator[Trial]:
    async with trial(SERVICE, await make_database("configuration"), tmp_path) as running:
        yield running


async def test_a_route_answers_its_caller(service: Trial) -> None:
    answer = await service.call("GET", f"{_API}/things?limit=7", actor="ada")
    assert answer.status == 200
    assert answer.json == {"greeting": "hello", "limit": 7, "actor": "ada"}
    assert answer.headers["X-Content-Type-Options"] == "nosniff"


async def test_a_correlation_id_is_kept_or_made(service: Trial) -> None:
    given = {"X-Correlation-Id": "abcdefgh-1"}
    answer = await service.call("GET", f"{_API}/things", headers=given)
    assert answer.headers["X-Correlation-Id"] == "abcdefgh-1"
    odd = await service.call("GET", f"{_API}/things", headers={"X-Correlation-Id": "a b"})
    assert len(odd.headers["X-Correlation-Id"]) == 32


async def test_a_bad_query_names_the_field(service: Trial) -> None:
    answer = await service.call("GET", f"{_API}/things?limit=501&shoe=1")
    assert answer.status == 400
    assert answer.headers["Content-Type"].startswith("application/problem+json")
    assert answer.json["code"] == "query_invalid"
    assert {error["at"] for error in answer.json["errors"]} == {"limit", "shoe"}


@pytest.mark.parametrize(
    ("body", "headers", "status", "code"),
    [
        (b'{"name":"a","size":1}', {}, 201, None),
        (b'{"name":"a","size":"secret-value"}', {}, 422, "body_invalid"),
        (b"{", {}, 422, "body_invalid"),
        (b"x" * 101, {}, 413, "body_too_large"),
        (b"{}", {"Content-Type": "text/plain"}, 415, "json_wanted"),
        (b"{}", {"Content-Encoding": "gzip"}, 415, "content_encoding"),
    ],
)
async def test_bodies_are_bounded_and_checked(
    service: Trial, body: bytes, headers: dict[str, str], status: int, code: str | None
) -> None:
    given = {"Authorization": f"Bearer {service.token()}", "Content-Type": "application/json"}
    answer = await service.send("api", "POST", f"{_API}/things", body, given | headers)
    assert answer.status == status
    assert answer.json.get("code") == code
    assert "secret-value" not in answer.text


@pytest.mark.parametrize(
    ("kind", "status", "code"),
    [
        ("overload", 503, "overloaded"),
        ("lost", 503, "unavailable"),
        ("problem", 409, "taken"),
        ("bug", 500, "failed"),
    ],
)
async def test_failures_become_problems(
    service: Trial, kind: str, status: int, code: str, caplog: pytest.LogCaptureFixture
) -> None:
    answer = await service.call("GET", f"{_API}/fail/{kind}")
    assert (answer.status, answer.json["code"]) == (status, code)
    assert answer.json["correlation_id"] == answer.headers["X-Correlation-Id"]
    assert ("Retry-After" in answer.headers) == (status == 503)
    assert "s3cret" not in answer.text


@pytest.mark.parametrize(("kind", "status"), [("overload", 503), ("problem", 409), ("bug", 500)])
async def test_devices_get_short_plain_answers(service: Trial, kind: str, status: int) -> None:
    answer = await service.send("devices", "PUT", f"/mdm/fail/{kind}", b"")
    assert answer.status == status
    assert answer.headers["Content-Type"].startswith("text/plain")
    assert len(answer.body) < 200


async def test_a_device_body_over_the_limit_is_refused(service: Trial) -> None:
    assert (await service.send("devices", "PUT", "/mdm/test", b"x" * 100)).status == 200
    assert (await service.send("devices", "PUT", "/mdm/test", b"x" * 101)).status == 413


async def test_what_no_route_answers(service: Trial) -> None:
    assert (await service.call("GET", "/api/v1/nothing")).json["code"] == "not_found"
    wrong = await service.call("DELETE", f"{_API}/things")
    assert wrong.status == 405
    assert wrong.headers["Allow"] == "GET,POST"
    device = await service.send("devices", "GET", "/etc/passwd")
    assert (device.status, device.text) == (404, "not_found\n")


async def test_listeners_keep_their_routes_apart(service: Trial) -> None:
    token = {"Authorization": f"Bearer {service.token()}"}
    answer = await service.send("devices", "GET", f"{_API}/things", headers=token)
    assert answer.status == 404
    for listener in ("devices", "api"):
        answer = await service.send(listener, "POST", "/internal/v1/inventory/ask", headers=token)
        assert answer.status == 404


async def test_the_console_asks_for_people_at_the_internal_listener(service: Trial) -> None:
    """With their own tokens, and nothing that needs none (decision 38)."""
    path = f"{_API}/things"
    token = {"Authorization": f"Bearer {service.token()}"}
    assert (await service.send("internal", "GET", path, headers=token)).status == 200
    assert (await service.send("internal", "GET", path)).status == 401
    other = {"Authorization": f"Bearer {service.token(permissions=['some.other'])}"}
    assert (await service.send("internal", "GET", path, headers=other)).status == 403


async def test_internal_routes_take_listed_services_only(service: Trial) -> None:
    path = "/internal/v1/inventory/ask"
    asked = await service.call("POST", path, as_service="enrollment")
    assert asked.json["actor"] == "service:enrollment"
    assert (await service.call("POST", path, as_service="compliance")).status == 401
    assert (await service.call("POST", path)).status == 401


async def test_a_body_of_unknown_length_is_cut_off_at_the_limit(service: Trial) -> None:
    async def endless() -> AsyncIterator[bytes]:
        for _ in range(100):
            yield b"x" * 10

    answer = await service.send("devices", "PUT", "/mdm/test", endless())
    assert (answer.status, answer.text) == (413, "body_too_large\n")


async def test_a_body_that_does_not_come_is_not_waited_for(
    service: Trial, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shared.runtime.http.BODY_SECONDS", 0.05)

    async def stuck() -> AsyncIterator[bytes]:
        yield b"x"
        await asyncio.sleep(2)

    answer = await service.send("devices", "PUT", "/mdm/test", stuck())
    assert (answer.status, answer.text) == (408, "body_slow\n")


@pytest.mark.parametrize(("size", "devices", "api"), [(7000, 200, 200), (12_000, 200, 400)])
async def test_devices_may_send_longer_header_fields(
    service: Trial, size: int, devices: int, api: int
) -> None:
    headers = {"Mdm-Signature": "a" * size, "Authorization": f"Bearer {service.token()}"}
    assert (await service.send("devices", "PUT", "/mdm/test", b"", headers)).status == devices
    assert (await service.send("api", "GET", f"{_API}/things", None, headers)).status == api


async def test_a_devices_token_of_any_kind_is_never_answered_401(service: Trial) -> None:
    headers = {"Authorization": "Bearer rubbish", "X-Correlation-Id": "from-a-stranger"}
    answer = await service.send("devices", "PUT", "/mdm/test", b"ok", headers)
    assert (answer.status, answer.body) == (200, b"ok")
    assert "X-Correlation-Id" not in answer.headers
    refused = device_response(Problem(401, "who_are_you", "Whoever you are."))
    assert refused.status == 403


async def test_an_internal_call_carries_the_correlation(service: Trial, tmp_path: Path) -> None:
    ensure_service_keys(tmp_path, "enrollment")
    kid, key = token_key(tmp_path / "enrollment")
    signer = Signer("enrollment", key, kid, SystemClock())
    url = service.url("internal")
    client = InternalClient({"configuration": url}, signer)
    path = "/internal/v1/inventory/ask"
    try:
        with correlated("abcdefgh-2"):
            answer = await client.call("configuration", "POST", path, {})
        assert answer == {"actor": "service:enrollment", "correlation": "abcdefgh-2"}
        with pytest.raises(InternalCallFailed, match="answered 404") as refused:
            await client.call("configuration", "POST", path + "x")
        assert refused.value.status == 404
        with pytest.raises(InternalCallFailed, match="does not name it"):
            await client.call("inventory", "GET", path)
        lost = InternalClient({"configuration": "http://127.0.0.1:1"}, signer)
        with pytest.raises(InternalCallFailed, match="no answer") as silent:
            await lost.call("configuration", "GET", path)
        assert silent.value.status is None
        await lost.close()
    finally:
        await client.close()


async def test_an_internal_call_meets_a_process_that_was_just_replaced(tmp_path: Path) -> None:
    """A kept-alive connection that breaks off is no failure: the next process is asked."""
    ensure_service_keys(tmp_path, "enrollment")
    kid, key = token_key(tmp_path / "enrollment")
    met = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal met
        met += 1
        first = met == 1
        with closing(writer), suppress(asyncio.IncompleteReadError):  # the client's end
            for turn in range(2):
                head = await reader.readuntil(b"\r\n\r\n")
                if first and turn == 1:
                    break
                await reader.readexactly(2 if b"Content-Length: 2" in head else 0)
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    client = InternalClient({"configuration": url}, Signer("enrollment", key, kid, SystemClock()))
    try:
        for _ in range(2):
            assert await client.call("configuration", "POST", "/internal/v1/x", {}) == {}
        assert met == 2
    finally:
        await client.close()
        server.close()


async def test_a_trace_goes_on_through_a_request_into_its_events(service: Trial) -> None:
    exporter = InMemorySpanExporter()
    traces.use(SimpleSpanProcessor(exporter))
    try:
        parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
        answer = await service.call("GET", f"{_API}/traced", headers={"traceparent": parent})
        event_parent = answer.json["traceparent"]
        [span] = exporter.get_finished_spans()
        assert span.name == f"GET {_API}/traced"
        assert event_parent.split("-")[1] == "0af7651916cd43dd8448eb211c80319c"
        assert int(event_parent.split("-")[2], 16) == span.context.span_id
    finally:
        traces.shut_down()
    answer = await service.call("GET", f"{_API}/traced")
    assert answer.json["traceparent"] is None


def test_a_collector_that_hangs_does_not_hold_up_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(traces, "_EXPORT_SECONDS", 0.1)
    freed = threading.Event()

    class Hangs(SpanProcessor):
        def shutdown(self) -> None:
            freed.wait()  # for ever, as far as this test goes

    traces.use(Hangs())
    traces.shut_down()
    assert not tracing.is_on()
    freed.set()
