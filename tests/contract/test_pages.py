"""Every page of every service, walked: strangers sign in, permissions hold, writes need a token."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from services.command_queue import catalogue
from services.console.app import SERVICE
from services.console.http.menu import MENU
from services.console.permissions import PERMISSIONS
from shared.runtime.routes import Route
from shared.runtime.service import Service
from shared.runtime.testing import RecordedCalls, Trial, trial
from tests.console.browsing import ORIGIN, Browser, signed_in
from tools.cli import services
from tools.embedded.testing import MakeDatabase

LOADED: Sequence[Service[Any]] = services.load_all()
PAGES = [route for service in LOADED for route in service.routes if route.page]
GUARDED = [route for route in PAGES if not route.public]


def _named(route: Route) -> str:
    return f"{route.method} {route.path}"


def _path(route: Route) -> str:
    """A path that the route answers; what it names does not exist."""
    return re.sub(r"\{[^{}]+\}", str(uuid4()), route.path)


@pytest.fixture
async def service(make_database: MakeDatabase, tmp_path: Path) -> AsyncIterator[Trial]:
    dsn = await make_database("console")
    async with trial(SERVICE, dsn, tmp_path, internal=RecordedCalls()) as running:
        yield running


def test_only_the_console_has_pages() -> None:
    assert [s.name for s in LOADED if any(route.page for route in s.routes)] == ["console"]


async def test_a_stranger_is_asked_to_sign_in(service: Trial) -> None:
    browser = Browser(service)
    await browser.get("/")
    for route in GUARDED:
        answer = await _asked(browser, route)
        assert answer.status == 401, _named(route)
        assert 'action="/sign-in"' in answer.text, _named(route)


async def test_without_the_permission_it_is_named(service: Trial) -> None:
    browser = await signed_in(service)
    for route in GUARDED:
        if route.permission is not None:
            answer = await _asked(browser, route)
            assert answer.status == 403, _named(route)
            assert route.permission in answer.text, _named(route)


async def test_a_group_lets_in_where_scopes_are_known(service: Trial) -> None:
    for route in GUARDED:
        if route.permission is not None and not route.scoped:
            browser = await signed_in(service, groups={uuid4(): [route.permission]})
            assert (await _asked(browser, route)).status == 403, _named(route)


async def test_no_write_without_a_token_of_ours(service: Trial) -> None:
    browser = await signed_in(service, role="owner")
    for route in PAGES:
        if route.method == "GET":
            continue
        for headers in ({"Origin": ORIGIN}, {"Origin": "null", "X-CSRF-Token": browser.token}):
            answer = await browser.send(route.method, _path(route), b"", headers)
            assert answer.status == 403, _named(route)


async def _asked(browser: Browser, route: Route) -> Any:
    headers = {"Origin": ORIGIN, "X-CSRF-Token": browser.token}
    data = None if route.method == "GET" else b""
    return await browser.send(route.method, _path(route), data, headers)


def test_pages_read_by_get_and_write_by_post() -> None:
    assert {route.method for route in PAGES} <= {"GET", "POST"}


def test_the_menu_names_screens_that_exist() -> None:
    shown = {route.path for route in PAGES if route.method == "GET"}
    assert {entry.path for entry in MENU} <= shown


def test_every_permission_is_in_the_catalogue_of_its_service() -> None:
    """And the catalogue has none that nobody asks for."""
    for service in LOADED:
        asked = {route.permission for route in service.routes if route.permission}
        if service.name == "command_queue":  # each kind of command has one of its own
            asked |= {f"command.{kind}" for kind in catalogue.kinds()}
        assert asked == set(PERMISSIONS[service.name]), service.name
