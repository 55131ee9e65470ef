"""The screens Overview, Devices and Device as a browser gets them, and how they stay live."""

from __future__ import annotations

import asyncio
import html
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import aiohttp
import pytest

from services.console.http import streams
from services.console.http.keys import HUB
from services.console.views import live
from shared.bus.applying import apply
from shared.bus.testing import travelled
from shared.events import uuid7
from shared.events.commands import CommandFinished, TargetState
from shared.events.compliance import VerdictState
from shared.events.devices import Platform
from shared.runtime.testing import RecordedCalls
from tests.console.browsing import Browser, signed_in, words_of
from tests.console.fleet import START, Console, state

HOSTILE = "<script>alert(1)</script>'\"&{{7*7}}"
EVERYTHING = ("inventory.read", "compliance.read", "command.read", "enrollment.read")


@pytest.fixture
async def browser(view: Console) -> Browser:
    return await signed_in(view.service, everywhere=EVERYTHING)


def _links(text: str, rel: str) -> list[str]:
    return [html.unescape(one) for one in re.findall(rf'rel="{rel}" href="([^"]+)"', text)]


def _names(text: str) -> list[str]:
    return [html.unescape(one) for one in re.findall(r"data-open>([^<]*)</a>", text)]


async def test_every_empty_state_says_why(view: Console, browser: Browser) -> None:
    for path in ("/", "/devices"):
        assert (await browser.get(path)).status == 200
    assert "Nothing has enrolled so far" in (await browser.get("/devices")).text
    assert "All filters must hold at once" in (await browser.get("/devices?q=x")).text
    scoped = await signed_in(view.service, groups={uuid4(): ["inventory.read"]})
    assert "none is in them" in (await scoped.get("/devices")).text
    assert "of your groups" in (await scoped.get("/")).text
    nobody = await signed_in(view.service)
    assert "inventory.read" in (await nobody.get("/")).text


async def test_the_list_is_walked_by_its_links(view: Console, browser: Browser) -> None:
    for number in range(5):
        await view.device(name=f"n{number}")
    first = (await browser.get("/devices?limit=2&sort=name&descending=true")).text
    assert _names(first) == ["n4", "n3"]
    [following] = _links(first, "next")
    second = (await browser.get(following)).text
    assert _names(second) == ["n2", "n1"]
    [preceding] = _links(second, "prev")
    assert _names((await browser.get(preceding)).text) == ["n4", "n3"]
    assert "5 devices" in first


@pytest.mark.parametrize(
    ("tab", "section", "noun"),
    [("apps", "applications", "apps"), ("configuration", "profiles", "profiles")],
)
async def test_what_is_installed_is_shown_now_and_then(
    view: Console, calls: RecordedCalls, browser: Browser, tab: str, section: str, noun: str
) -> None:
    device_id = await view.device(name="a")
    api = f"/api/v1/inventory/devices/{device_id}/{section}?limit=50"
    here = f"/devices/{device_id}?tab={tab}"
    nothing: dict[str, Any] = {"items": [], "next": None, "reported_at": None}
    calls.answers["inventory", api] = nothing
    assert f"It has not said yet which {noun} it has" in words_of(await browser.get(here))
    calls.answers["inventory", api] = nothing | {"reported_at": "2026-06-01T09:00:00Z"}
    assert "It said so 2026-06-01T09:00:00Z" in words_of(await browser.get(here))
    row: dict[str, Any] = {"identifier": HOSTILE, "uuid": "u", "since": "2026-05-01T00:00:00Z"}
    row |= dict.fromkeys(("name", "version", "short_version", "managed", "organization"))
    row |= {"removal_disallowed": None}
    at = "2026-05-02T00:00:00Z"
    past = f"{api}&at=2026-05-02T00%3A00%3A00Z"
    calls.answers["inventory", past] = {"items": [row], "next": "n/x", "reported_at": None}
    text = (await browser.get(f"{here}&at={at}")).text
    assert html.escape(HOSTILE).split(";")[0] in text
    assert HOSTILE not in text
    [following] = _links(text, "next")
    calls.answers["inventory", f"{api}&cursor=n%2Fx&at=2026-05-02T00%3A00%3A00Z"] = nothing
    assert "What was on this page has gone since" in words_of(await browser.get(following))
    assert 'hx-trigger="sse:changed" hx-target="#tab"' not in text


async def test_a_form_with_empty_fields_is_understood(view: Console, browser: Browser) -> None:
    await view.device(name="a", os_version="17.4")
    await view.device(name="b", os_version="18.0")
    query = "q=&os=17&os_below=&seen=&failing=&tag=&supervised="
    assert _names((await browser.get(f"/devices?{query}")).text) == ["a"]
    part = await browser.get(f"/devices?{query}", {"HX-Request": "true", "HX-Target": "list"})
    assert part.headers["HX-Push-Url"] == "/devices?os=17"
    assert "<html" not in part.text
    assert _names(part.text) == ["a"]


async def test_columns_are_chosen_in_the_url(view: Console, browser: Browser) -> None:
    await view.device(name="a", udid="0000-77", tags=["field"])
    text = (await browser.get("/devices?column=udid&column=tags")).text
    headings = re.findall(r'<th scope="col"[^>]*>\s*(?:<a[^>]*>)?(\w+)', text)
    assert headings == ["Name", "Tags", "UDID"]
    assert "0000-77" in text
    assert "0000-77" not in (await browser.get("/devices")).text


async def test_hostile_names_are_only_text(view: Console, browser: Browser) -> None:
    device_id = await view.device(name=HOSTILE, serial=HOSTILE, user=HOSTILE, tags=[HOSTILE])
    await view.group(HOSTILE, device_id)
    await view.verdict(device_id, uuid7(), VerdictState.NONCOMPLIANT)
    for path in (
        "/",
        "/devices?column=tags&column=groups&column=user",
        *(f"/devices/{device_id}?tab={tab}" for tab in ("overview", "compliance", "timeline")),
    ):
        answer = await browser.get(path)
        assert answer.status == 200, path
        assert "<script>alert" not in answer.text, path
    assert _names((await browser.get("/devices")).text) == [HOSTILE]


async def test_nothing_in_a_page_needs_an_inline_script_or_style(
    view: Console, browser: Browser
) -> None:
    device_id = await view.device(name="a")
    for path in ("/", "/devices", f"/devices/{device_id}"):
        text = (await browser.get(path)).text
        assert not re.search(r"<script(?![^>]*\ssrc=)", text), path
        assert not re.search(r"\s(style|on\w+)=", text), path


async def test_numbers_of_the_overview_lead_to_their_lists(view: Console, browser: Browser) -> None:
    device_id = await view.device(name="a", platform=Platform.MACOS, os_version="15.1")
    await view.device(name="b", status="quarantined")
    await view.verdict(device_id, uuid7(), VerdictState.NONCOMPLIANT)
    text = (await browser.get("/")).text
    links = {html.unescape(one) for one in re.findall(r'href="(/devices\?[^"]+)"', text)}
    assert len(links) >= 8
    for link in links:
        assert (await browser.get(link)).status == 200, link
    for link, names in {
        "/devices?status=quarantined": ["b"],
        "/devices?compliance=noncompliant&status=enrolled": ["a"],
        "/devices?status=enrolled&platform=macos": ["a"],
        "/devices?status=enrolled&platform=macos&os=15.1": ["a"],
    }.items():
        assert link in links
        assert _names((await browser.get(link)).text) == names


async def test_a_tab_asks_the_owner_in_the_persons_name(
    view: Console, browser: Browser, calls: RecordedCalls
) -> None:
    device_id = await view.device(name="a")
    path = f"/api/v1/commands/devices/{device_id}"
    row = {
        "command_id": str(uuid7()),
        "kind": "device.lock",
        "actor": f"account:{browser.account_id}",
        "state": "sent",
        "queued_at": "2026-06-01T12:00:00Z",
        "expires_at": "2026-06-08T12:00:00Z",
    }
    calls.answers["command_queue", path] = {"queue": [row], "items": [], "next": None}
    text = (await browser.get(f"/devices/{device_id}?tab=commands")).text
    assert "Sent, waiting for the answer" in text
    assert "Ada Lovelace" in text
    assert str(browser.account_id) not in text
    assert [call[:3] for call in calls.calls] == [("command_queue", "GET", path)]


async def test_the_inventory_tab_says_what_facts_mean(
    view: Console, browser: Browser, calls: RecordedCalls
) -> None:
    device_id = await view.device(name="a")
    path = f"/api/v1/inventory/devices/{device_id}/facts"
    fact = {"name": "passcode.present", "value": True}
    calls.answers["inventory", path] = {"items": [fact]}
    known = {"name": "passcode.present", "about": "a passcode is set"}
    calls.answers["inventory", "/api/v1/inventory/facts"] = {"items": [known]}
    text = (await browser.get(f"/devices/{device_id}?tab=inventory&at=")).text
    assert "a passcode is set" in text
    assert "Present" in text
    calls.answers["inventory", f"{path}?at=2026-05-01T10:00:00Z"] = {"items": []}
    past = await browser.get(f"/devices/{device_id}?tab=inventory&at=2026-05-01T12:00%2B02:00")
    assert "Nothing was known then" in past.text


async def test_the_certificates_tab_says_what_each_is_worth(
    view: Console, browser: Browser, calls: RecordedCalls
) -> None:
    device_id = await view.device(name="a")
    path = f"/api/v1/enrollment/certificates?device_id={device_id}&limit=25"

    def certificate(name: str, not_after: datetime, **more: Any) -> dict[str, Any]:
        own = {"sha256": name * 64, "serial_number": f"0{name}", "not_after": not_after.isoformat()}
        rest = {"issued_at": START.isoformat(), "revoked_at": None, "revocation_reason": None}
        return own | rest | more

    later, past = START + timedelta(days=300), START - timedelta(seconds=1)
    revoked = {"revoked_at": START.isoformat(), "revocation_reason": "key_compromise"}
    rows = [
        certificate("a", later),
        certificate("b", past),
        certificate("c", later, **revoked),
    ]
    calls.answers["enrollment", path] = {"items": rows, "next": "more"}
    answer = await browser.get(f"/devices/{device_id}?tab=certificates")
    said = re.findall(
        r'title="(\w)\1+">.*?(Valid|Its time is over|Revoked)\b', answer.text, re.DOTALL
    )
    assert said == [("a", "Valid"), ("b", "Its time is over"), ("c", "Revoked")]
    assert "key compromise" in words_of(answer)
    assert "tab=certificates&amp;cursor=more" in answer.text
    calls.answers["enrollment", path] = {"items": [], "next": None}
    answer = await browser.get(f"/devices/{device_id}?tab=certificates")
    assert "no identity certificate" in words_of(answer)


async def test_the_timeline_goes_back_in_time(view: Console, browser: Browser) -> None:
    device_id = await view.device(name="a")
    now = datetime.now(UTC)
    for hours, kind in ((0, "device.lock"), (2, "device.restart"), (4, "device.shutdown")):
        at = now - timedelta(hours=hours)
        finished = CommandFinished(
            device_id=device_id,
            command_id=uuid7(),
            kind=kind,
            state=TargetState.ACKNOWLEDGED,
            queued_at=at,
            finished_at=at,
        )
        [event] = travelled(finished, service="command_queue", at=at)
        # As from an outbox: an event's id is made when it happens, and tells when.
        event.received(event.meta.model_copy(update={"event_id": uuid7(at)}))
        await apply(view.service.context.road, "console", view.service.parts.handlers, [event])
    path = f"/devices/{device_id}?tab=timeline"

    async def told(at: datetime | None) -> list[str]:
        then = f"&at={at.strftime('%Y-%m-%dT%H:%M:%SZ')}" if at else ""
        part = await browser.get(path + then, {"HX-Request": "true", "HX-Target": "tab"})
        text = words_of(part).lower()
        return [word for word in ("lock", "restart", "shut down") if f" {word} " in text]

    assert await told(None) == ["lock", "restart", "shut down"]
    assert await told(now - timedelta(hours=1)) == ["restart", "shut down"]
    assert await told(now - timedelta(hours=2)) == ["restart", "shut down"]
    assert await told(now - timedelta(hours=2, seconds=1)) == ["shut down"]
    assert await told(now - timedelta(hours=5)) == []
    early = await browser.get(f"{path}&at=2026-01-01T00:00Z")
    assert "Nothing before that" in words_of(early)


async def test_a_tab_that_cannot_be_shown_says_why_and_the_page_stays(
    view: Console, browser: Browser, calls: RecordedCalls
) -> None:
    device_id = await view.device(name="a")
    calls.failing.add("inventory")
    answer = await browser.get(f"/devices/{device_id}?tab=inventory")
    assert answer.status == 200
    assert "does not answer now" in answer.text
    reader = await signed_in(view.service, everywhere=["inventory.read"])
    answer = await reader.get(f"/devices/{device_id}?tab=commands")
    assert "This needs the permission command.read." in answer.text
    assert {call[0] for call in calls.calls} == {"inventory"}


async def test_a_device_beyond_reach_does_not_exist(view: Console) -> None:
    device_id = await view.device(name="secret name")
    scoped = await signed_in(view.service, groups={uuid4(): EVERYTHING})
    for path in (
        f"/devices/{device_id}",
        f"/devices/{device_id}/live",
        f"/devices/{uuid4()}",
        "/devices/x",
    ):
        answer = await scoped.get(path)
        assert answer.status == 404, path
        assert "secret name" not in answer.text


async def test_a_stream_tells_nothing_of_devices_beyond_reach(
    view: Console, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streams, "LIFETIME_SECONDS", 0.05)
    mine, other = await view.device(name="mine"), await view.device(name="secret name")
    group_id = await view.group("Mine", mine)
    scoped = await signed_in(view.service, groups={group_id: EVERYTHING})
    answer = await scoped.get(f"/devices/live?id={mine}&id={other}")
    assert answer.status == 200
    assert f"event: device-{mine}" in answer.text
    assert str(other) not in answer.text
    assert "secret name" not in answer.text
    csv = await scoped.get("/devices.csv")
    assert "mine" in csv.text
    assert "secret name" not in csv.text


async def test_the_csv_comes_with_the_session(view: Console, browser: Browser) -> None:
    await view.device(name="a")
    answer = await browser.get("/devices.csv?q=a&os=")
    assert answer.status == 200
    assert [line.partition(",")[0] for line in answer.text.splitlines()] == ["name", "a"]


@asynccontextmanager
async def listening(browser: Browser, path: str) -> AsyncIterator[Any]:
    """Yield a function that reads on to the next event of a name, and returns its data."""
    cookies = "; ".join(f"{name}={value}" for name, value in browser.cookies.items())
    headers = {"Cookie": cookies, "Accept": "text/event-stream"}
    async with (
        aiohttp.ClientSession() as session,
        session.get(browser.service.url("api") + path, headers=headers) as response,
    ):
        assert response.status == 200
        assert response.headers["Content-Type"] == "text/event-stream"

        async def following(name: str) -> str:
            found: list[str] | None = None
            while True:
                line = (await response.content.readline()).decode().rstrip("\n")
                if line == f"event: {name}":
                    found = []
                elif line.startswith("data: ") and found is not None:
                    found.append(line.removeprefix("data: "))
                elif line == "" and found is not None:
                    return "\n".join(found)

        yield following


async def test_a_row_changes_on_the_open_page(view: Console, browser: Browser) -> None:
    mine, other = await view.device(name="before"), await view.device(name="other")
    path = html.unescape(
        re.findall(r'sse-connect="([^"]+)"', (await browser.get("/devices?q=before")).text)[0]
    )
    assert str(mine) in path
    assert str(other) not in path
    async with asyncio.timeout(20), listening(browser, path) as following:
        assert "before" in await following(f"device-{mine}")
        await view.device(other, name="unrelated")
        await view.device(mine, name="after")
        while "after" not in await following(f"device-{mine}"):
            pass


async def test_a_long_page_fits_into_the_address_of_its_news(
    view: Console, browser: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streams, "LIFETIME_SECONDS", 0.05)
    await view.service.hears(*(state(uuid7()) for _ in range(101)), service="enrollment")
    text = (await browser.get("/devices?limit=100")).text
    path = html.unescape(re.findall(r'sse-connect="([^"]+)"', text)[0])
    assert (await browser.get(path)).status == 200
    assert "/devices/live?id=" not in (await browser.get("/devices?limit=101")).text


async def test_an_outcome_reaches_the_open_device(view: Console, browser: Browser) -> None:
    device_id = await view.device(name="a")
    async with asyncio.timeout(20), listening(browser, f"/devices/{device_id}/live") as following:
        assert ">a</h1>" in await following("head")
        event = CommandFinished(
            device_id=device_id,
            command_id=uuid7(),
            kind="device.lock",
            state=TargetState.ACKNOWLEDGED,
            queued_at=START,
            finished_at=START,
        )
        await view.service.hears(event, service="command_queue")
        assert await following("changed") == ""


async def test_a_stream_ends_so_that_who_was_signed_out_is_noticed(
    view: Console, browser: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streams, "LIFETIME_SECONDS", 0.05)
    device_id = await view.device(name="a")
    answer = await browser.get(f"/devices/{device_id}/live")
    assert (answer.status, "event: head" in answer.text) == (200, True)
    hub = view.service.parts.values[HUB]
    assert hub._subscriptions == set()


async def test_more_changes_than_can_be_named_may_be_anything(
    view: Console, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live, "NAMED", 3)
    devices = [uuid7() for _ in range(5)]
    hub = view.service.parts.values[HUB]
    with hub.subscribed(None) as everything, hub.subscribed([uuid7()]) as other:
        for news in (everything, other):
            assert await news.changes(10) == frozenset()  # it listens from now on
        states = [state(device_id) for device_id in devices[:2]]
        await view.service.hears(*states, service="enrollment")
        assert await everything.changes(10) == frozenset([*devices[:2], live.NEWCOMERS])
        states = [state(device_id) for device_id in devices]
        await view.service.hears(*states, service="enrollment")
        assert await everything.changes(10) == frozenset()
        assert await other.changes(10) == frozenset()
