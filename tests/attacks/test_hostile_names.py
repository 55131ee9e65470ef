"""Whatever a device is called: pages run nothing of it, files and webhooks hold it as a text."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import AsyncIterator, Mapping
from typing import Any
from uuid import UUID

import pytest
from playwright.async_api import Page, expect

from shared.events import uuid7
from shared.events.audit import AuditRecorded
from shared.events.commands import CommandClass, CommandCreated, GuardAlarmed
from shared.events.device_state import DeviceState
from shared.events.devices import DeviceChanged, DeviceUnenrolled
from shared.runtime.testing import RecordedCalls, Trial
from tests.console import conftest
from tests.console.browsing import signed_in, words_of
from tests.console.chromium import NEEDED, for_browsers, free_port, page_of
from tests.console.fleet import START, Console
from tests.console.test_webhooks import PAGE, _told, receivers, service
from tests.enrollment.conftest import House
from tools.cli import output

calls, proven, view = conftest.calls, conftest.proven, conftest.view
__all__ = ["receivers", "service"]

RUN = "window.__ran=1"
NAMES = (
    f"<script>{RUN}</script>",
    f"<img src=x onerror={RUN}>",
    f'"><svg/onload={RUN}>',
    f"'-{RUN}-'",
    f"</title></style></textarea><script>{RUN}</script>",
    f"javascript:{RUN}",
    f"{{{{7*7}}}}{{%import os%}}${{{RUN}}}<%={RUN}%>",
    f'" hx-on:load="{RUN}" data-x="',
    f'<div hx-get="/sign-out" hx-trigger="load"></div><a href="javascript:{RUN}">x</a>',
    "<meta http-equiv=refresh content=0;url=/sign-out><base href=//attacker.example>",
    '=HYPERLINK("//attacker.example")',
    "+1+1",
    "-2+3+cmd|' /C calc'!A0",
    "@SUM(1+1)",
    "\t=1+1",
    " \u200b=1+1",
    "\uff1d1+1",
    "line\r\nX-Forged: 1\r\n\r\ndata: {}\n\n\u2028\u2029",
    "\u202eexe.gpj\u202d \u2067hidden\u2069",
    "\u0430dmin\u0456strat\u043er",
    "a" * 300,
    "\U0001f468\u200d\U0001f469\u200d\U0001f467" * 30,
    "z\u0301\u0302\u0303\u0304\u0305" * 50,
)
TURNING = "\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"


@pytest.fixture
def environ() -> Mapping[str, str]:
    return for_browsers(free_port())


@pytest.fixture
async def page(view: Console) -> AsyncIterator[Page]:
    """Of an owner; it fails the test when the browser complains, asks or leaves."""
    person = await signed_in(view.service, role="owner", name=NAMES[0])
    complaints: list[str] = []
    async with page_of(person, viewport={"width": 1280, "height": 900}) as page:
        page.on("dialog", lambda dialog: complaints.append(dialog.message))
        page.on("requestfailed", lambda one: complaints.append(one.url))
        ours = (view.service.context.settings.address, "data:")
        page.on(
            "request",
            lambda one: None if one.url.startswith(ours) else complaints.append(one.url),
        )
        yield page
        assert [one for one in complaints if "/live" not in one] == []


async def _fleet(view: Console) -> list[UUID]:
    """A device of each name, which it has in every field that is a text."""
    found = []
    for name in NAMES:
        short = name[:100]
        device = await view.device(
            name=name, serial=short, user=short, model=short, tags=[short], os_version=short
        )
        await view.facts(device, device__name=name, os__version=short)
        found.append(device)
        changed = DeviceChanged(
            device_id=device, actor=short, before={"name": "x"}, after={"name": name}
        )
        await view.service.hears(changed, service="enrollment")
    for name in NAMES:
        alarm = GuardAlarmed(alarm_id=uuid7(), kind="frozen", actor=name[:300], reason=name)
        await view.service.hears(alarm, service="command_queue")
        await view.group(name[:100], found[0])
        command = CommandCreated(
            command_id=uuid7(),
            kind=name[:300],
            command_class=CommandClass.DESTRUCTIVE,
            state="active",
            actor=name[:300],
            reason=name[:300],
            target_count=1,
            expires_at=START,
        )
        await view.service.hears(command, service="command_queue")
        record = AuditRecorded(
            audit_id=uuid7(),
            actor=name[:300],
            permission="x",
            action=name[:300],
            target=name[:300],
            before={name: "x"},
            after={name: [name]},
            reason=name[:300],
            source=name[:300],
            via=name[:300],
        )
        await view.service.hears(record, service="enrollment")
    return found


async def _harmless(page: Page, path: str) -> None:
    await page.goto(path)
    assert await page.evaluate("window.__ran") is None, path
    for intruder in ("img[src=x]", "svg[onload]", "[hx-on\\:load]", "base", "[href^=javascript]"):
        assert await page.locator(intruder).count() == 0, (path, intruder)
    assert await page.evaluate("document.documentElement.scrollWidth") <= 1280, path
    assert not set(TURNING) & set(await page.content()), path
    assert page.url.endswith(path), page.url


async def _links(page: Page, to: str) -> list[str]:
    """The addresses on this page that begin so."""
    found = await page.locator(f"a[href^='{to}']").evaluate_all(
        "all => all.map((one) => one.getAttribute('href'))"
    )
    return [str(one) for one in dict.fromkeys(found) if "export" not in str(one)][:30]


@NEEDED
async def test_no_page_runs_a_name(view: Console, page: Page, calls: RecordedCalls) -> None:
    devices = await _fleet(view)
    about = {"members": 1, "protected": False, "changed_at": START.isoformat()}
    groups = [
        {"group_id": str(uuid7()), "name": name, "description": name} | about for name in NAMES
    ]
    found = {"items": groups, "next": None}
    calls.answers["inventory", "/api/v1/inventory/groups?limit=50"] = found
    for path in ("/", "/devices", "/devices?limit=200&sort=name", "/groups", "/me/sessions"):
        await _harmless(page, path)
    await _harmless(page, "/audit")
    for entry in await _links(page, "/audit/"):
        await _harmless(page, entry)
    tabs = ("overview", "inventory", "compliance", "commands", "timeline")
    for device in devices[:10]:
        for tab in tabs:
            await _harmless(page, f"/devices/{device}?tab={tab}")
    for device in devices[10:]:
        await _harmless(page, f"/devices/{device}")


@NEEDED
async def test_no_page_that_is_open_runs_a_name_that_comes(view: Console, page: Page) -> None:
    device = await view.device(name="before")
    await page.goto("/devices")
    for name in NAMES[:10]:
        await view.device(device, name=name)
        await expect(page.locator("tbody a[data-open]")).to_have_text(name)
        assert await page.evaluate("window.__ran") is None


async def test_a_spreadsheet_runs_no_name(view: Console) -> None:
    await _fleet(view)
    answer = await view.get("/devices.csv")
    rows = list(csv.reader(io.StringIO(answer.text, newline="")))
    assert len(rows) == len(NAMES) + 1
    assert {len(row) for row in rows} == {len(rows[0])}
    cells = [cell for row in rows[1:] for cell in row]
    first = {one.lstrip(" \t\r\n\u200b")[:1] for one in cells}
    assert not first & set("=+-@\uff1d\uff0b\uff0d\uff20")
    named = {row[0] for row in rows[1:]}
    assert not [name for name in NAMES if not {name, f"'{name}"} & named]


@pytest.mark.usefixtures("proven")
async def test_a_webhook_holds_a_name_as_a_text(service: Trial, receivers: Any) -> None:
    owner, receiver = await signed_in(service, role="owner"), await receivers()
    fields = {"name": NAMES[0], "url": receiver.url, "event_type": [DeviceChanged.TYPE]}
    assert (await owner.post(PAGE, fields)).status == 200
    for name in NAMES:
        event = DeviceChanged(device_id=uuid7(), actor=name, before={}, after={"name": name})
        await service.hears(event, service="enrollment")
    for _ in NAMES:
        await _told(service)
    told = [json.loads(body)["data"] for _, body in receiver.heard]
    assert [(one["actor"], one["after"]["name"]) for one in told] == [(n, n) for n in NAMES]
    assert {headers["Content-Type"] for headers, _ in receiver.heard} == {
        "application/cloudevents+json; charset=utf-8"
    }
    assert not any("X-Forged" in headers for headers, _ in receiver.heard)


@pytest.mark.parametrize("name", [*NAMES, "a" * 10_000])
async def test_enrollment_takes_or_refuses_a_name(house: House, name: str) -> None:
    device = house.device()
    device.identity = await house.identity(await house.credential())
    answer = await house.check_in(device, device.authenticate(DeviceName=name, ModelName=name))
    assert answer.status in {200, 400}, answer.text
    if answer.status == 200:
        assert (await house.check_in(device, device.token_update())).status == 200
        state = (await house.told()).of(DeviceState)[-1]
        assert state.name is None or len(state.name) <= 300


def test_a_terminal_obeys_no_name() -> None:
    for name in (*NAMES, "\x1b[2J\x1b]0;owned\x07", "a\x9bb"):
        shown = output.text(name)
        assert not set(TURNING) & set(shown)
        assert "\n" not in shown
        assert not [one for one in shown if ord(one) < 32 or 127 <= ord(one) < 160]


async def test_what_is_said_of_a_device_cannot_pass_for_another(view: Console) -> None:
    """A name that is a word of the sentences stays a name."""
    device = await view.device(name="{device} {actor} {why}")
    gone = DeviceUnenrolled(
        device_id=device, enrollment_id=uuid7(), generation=1, reason="check_out"
    )
    await view.service.hears(gone, service="enrollment")
    alarm = GuardAlarmed(
        alarm_id=uuid7(), kind="frozen", actor="{why}", reason="{actor} {device}", about=device
    )
    await view.service.hears(alarm, service="command_queue")
    owner = await signed_in(view.service, role="owner")
    words = words_of(await owner.get("/"))
    assert "{device} {actor} {why} left management: its profile was removed" in words
