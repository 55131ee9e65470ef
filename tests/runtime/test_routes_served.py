"""A small service on real listeners: what the runtime does around its handlers."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiohttp import web
from pydantic import BaseModel

from shared.db.batcher import Overloaded
from shared.runtime.http import caller, parse_body, parse_query, read_body, render
from shared.runtime.paging import Page
from shared.runtime.problems import Problem
from shared.runtime.routes import Route
from shared.runtime.service import Context, Parts, Service
from shared.runtime.settings import Settings
from shared.runtime.testing import Trial, trial
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
    return render({"actor": caller(request).actor})


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
    for listener in ("devices", "internal"):
        answer = await service.send(listener, "GET", f"{_API}/things", headers=token)
        assert answer.status == 404


async def test_internal_routes_take_listed_services_only(service: Trial) -> None:
    path = "/internal/v1/inventory/ask"
    assert (await service.call("POST", path, as_service="enrollment")).json == {
        "actor": "service:enrollment"
    }
    assert (await service.call("POST", path, as_service="compliance")).status == 401
    assert (await service.call("POST", path)).status == 401
