"""Every route of every service, walked: deny by default, one owner a path."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import jwt
import pytest
from aiohttp import web
from aiohttp.test_utils import make_mocked_request
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from shared.events.registry import SERVICES
from shared.runtime.clock import SystemClock
from shared.runtime.endpoints import Endpoint
from shared.runtime.routes import Route
from shared.runtime.service import Service
from shared.runtime.tokens import Signer, Verifier
from shared.sealed import ensure_service_keys, token_key
from tools.cli import services

LOADED: Sequence[Service[Any]] = services.load_all()
PREFIXES = {
    "enrollment": "enrollment",
    "command_queue": "commands",
    "push_notifier": "push",
    "inventory": "inventory",
    "compliance": "compliance",
    "configuration": "configuration",
    "console": "console",
}
PUBLIC = {
    ("POST", "/api/v1/console/token"),
    ("GET", "/assets/{digest}/{name:.+}"),
    ("GET", "/join/{token}"),
    ("POST", "/join/{token}"),
    ("POST", "/join/{token}/with/{provider_id}"),
    ("POST", "/sign-in/with/{provider_id}"),
    ("GET", "/sign-in/callback/{provider_id}"),
    ("POST", "/sign-in/callback/{provider_id}"),
    ("GET", "/sealed"),
    ("POST", "/sealed/options"),
    ("POST", "/sealed"),
    ("GET", "/set-up/{token}"),
    ("POST", "/set-up/{token}"),
    ("GET", "/sign-in"),
    ("POST", "/sign-in"),
    ("GET", "/second-factor"),
    ("POST", "/second-factor/code"),
    ("POST", "/second-factor/offer"),
    ("POST", "/second-factor/confirm"),
    ("POST", "/second-factor/key/options"),
    ("POST", "/second-factor/key"),
    ("POST", "/second-factor/new-key/options"),
    ("POST", "/second-factor/new-key"),
}
"""What a stranger may ask without a token or a session; a new one needs a reason in its review."""
CALLS = {
    ("enrollment", "configuration"),
    ("enrollment", "command_queue"),
    ("push_notifier", "command_queue"),  # the charge of decision 63
}
"""Who may ask whom (architecture §1); the console may ask anybody."""


def _routes(listener: str) -> Iterator[tuple[Service[Any], Route]]:
    for service in LOADED:
        for route in service.routes:
            if route.listener == listener:
                yield service, route


def _each(listener: str) -> list[Any]:
    """Pages are walked in test_pages.py."""
    return [
        pytest.param(service, route, id=f"{route.method} {route.path}")
        for service, route in _routes(listener)
        if not route.page
    ]


def test_routes_are_unique() -> None:
    seen = Counter((r.listener, r.method, r.path) for s in LOADED for r in s.routes)
    assert [key for key, count in seen.items() if count > 1] == []


@pytest.mark.parametrize(("service", "route"), _each("api"))
def test_an_api_route_lies_under_its_services_prefix(service: Service[Any], route: Route) -> None:
    prefix = f"/api/v1/{PREFIXES[service.name]}"
    assert route.path == prefix or route.path.startswith(prefix + "/")


def test_public_routes_are_the_listed_ones() -> None:
    public = {(route.method, route.path) for _, route in _routes("api") if route.public}
    assert public <= PUBLIC


@pytest.mark.parametrize(("service", "route"), _each("internal"))
def test_internal_routes_are_called_by_whom_the_design_lists(
    service: Service[Any], route: Route
) -> None:
    for caller in route.callers:
        assert caller == "console" or (caller, service.name) in CALLS


class Bench:
    """Signs tokens, good and bad, and asks a route that must not be reached."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.clock = folder, SystemClock()
        for name in SERVICES:
            ensure_service_keys(folder, name)

    def signer(self, service: str = "console") -> Signer:
        kid, key = token_key(self.folder / service)
        return Signer(service, key, kid, self.clock)

    def access(
        self,
        audience: str,
        permissions: list[str],
        groups: Mapping[UUID, Sequence[str]] | None = None,
    ) -> str:
        lifetime = timedelta(minutes=5)
        return self.signer().access("tester", audience, permissions, lifetime, groups=groups)

    def bad_tokens(self, service: str) -> dict[str, str]:
        """Every wrong way to ask an api route."""
        other = next(name for name in SERVICES if name != service)
        good = self.access(service, ["*"])
        claims = jwt.decode(good, options={"verify_signature": False})
        head = jwt.get_unverified_header(good)
        _, own = token_key(self.folder / "console")
        expired = claims | {"iat": claims["iat"] - 7200, "exp": claims["exp"] - 7200}
        foreign = Signer("console", Ed25519PrivateKey.generate(), head["kid"], self.clock)
        kept = {"kid": head["kid"], "typ": head["typ"]}
        return {
            "none at all": "",
            "rubbish": "Bearer rubbish",
            "another scheme": f"Basic {good}",
            "another audience": f"Bearer {self.access(other, ['*'])}",
            "expired": f"Bearer {jwt.encode(expired, own, 'EdDSA', headers=kept)}",
            "a foreign key": "Bearer "
            + foreign.access("tester", service, ["*"], timedelta(minutes=5)),
            "alg none": f"Bearer {jwt.encode(claims, '', 'none', headers=kept)}",
            "another service's": f"Bearer {self.signer('inventory').internal(service)}",
            "signed by another service": "Bearer "
            + self.signer("inventory").access("tester", service, ["*"], timedelta(minutes=5)),
            "internal": f"Bearer {self.signer().internal(service)}",
        }


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    return Bench(tmp_path_factory.mktemp("keys"))


async def _ask(bench: Bench, service: str, route: Route, authorization: str) -> tuple[int, bool]:
    """Status, and whether the handler was reached."""
    reached = False

    async def handler(_request: web.Request) -> web.Response:
        nonlocal reached
        reached = True
        return web.Response()

    watched = Route(
        route.method,
        "/" + route.listener if route.listener == "devices" else route.path,
        handler,
        summary="x",
        listener=route.listener,
        permission=route.permission,
        scoped=route.scoped,
        callers=route.callers,
        public=route.public,
    )
    endpoint = Endpoint(service, watched, Verifier(bench.folder / "public", service, bench.clock))
    request = _request(route.method, authorization)
    response = await endpoint(request)
    return response.status, reached


def _request(method: str, authorization: str) -> Any:
    headers = {"Authorization": authorization} if authorization else {}
    return make_mocked_request(method, "/", headers=headers)


@pytest.mark.parametrize(("service", "route"), _each("api"))
async def test_an_api_route_denies_by_default(
    bench: Bench, service: Service[Any], route: Route
) -> None:
    if route.public:
        return
    for what, authorization in bench.bad_tokens(service.name).items():
        assert await _ask(bench, service.name, route, authorization) == (401, False), what
    without = f"Bearer {bench.access(service.name, ['some.other', 'internal'])}"
    assert await _ask(bench, service.name, route, without) == (403, False)
    own = f"Bearer {bench.access(service.name, [route.permission or ''])}"
    assert await _ask(bench, service.name, route, own) == (200, True)
    group = f"Bearer {bench.access(service.name, [], {uuid4(): [route.permission or '']})}"
    entered = (200, True) if route.scoped else (403, False)
    assert await _ask(bench, service.name, route, group) == entered


@pytest.mark.parametrize(("service", "route"), _each("internal"))
async def test_an_internal_route_takes_its_callers_only(
    bench: Bench, service: Service[Any], route: Route
) -> None:
    person = f"Bearer {bench.access(service.name, ['*', 'internal'])}"
    assert await _ask(bench, service.name, route, person) == (401, False)
    assert await _ask(bench, service.name, route, "") == (401, False)
    for name in SERVICES:
        token = f"Bearer {bench.signer(name).internal(service.name)}"
        expected = (200, True) if name in route.callers else (401, False)
        assert await _ask(bench, service.name, route, token) == expected


def test_a_route_without_a_guard_does_not_load() -> None:
    async def handler(_request: web.Request) -> web.Response:
        return web.Response()

    with pytest.raises(ValueError, match="permission"):
        Route("GET", "/api/v1/x", handler, summary="x")
    with pytest.raises(ValueError, match="callers"):
        Route("GET", "/internal/v1/x", handler, summary="x", listener="internal")
    with pytest.raises(ValueError, match="prefix"):
        Route("GET", "/x", handler, summary="x", permission="a.b")
    with pytest.raises(ValueError, match="permission"):
        Route("GET", "/x", handler, summary="x", page=True)
    with pytest.raises(ValueError, match="prefix"):
        Route("GET", "/api/v1/x", handler, summary="x", page=True, personal=True)
    with pytest.raises(ValueError, match="personal"):
        Route("GET", "/api/v1/x", handler, summary="x", personal=True)
    with pytest.raises(ValueError, match=r"area\.verb"):
        Route("GET", "/api/v1/x", handler, summary="x", permission="internal")
