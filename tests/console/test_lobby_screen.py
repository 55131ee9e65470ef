"""The lobby's pages: who waits and why, beside the device it may be; deciding about one."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import pytest

from shared.events import uuid7
from shared.events.devices import (
    DeviceQuarantined,
    DeviceRefused,
    Ownership,
    OwnershipAnnounced,
)
from shared.runtime.testing import RecordedCalls
from tests.console.browsing import Browser, signed_in, words_of
from tests.console.fleet import START, Console
from tests.console.test_device_screens import listening

LOBBY = "/api/v1/enrollment/lobby"
ONE = uuid7()
PAGE = f"/enrollment/lobby/{ONE}"
DEVICE = {
    "device_id": str(uuid7()),
    "name": "Ada's iPhone",
    "serial": "F2LX0001",
    "udid": "00008110-1",
    "model": None,
    "product": "iPhone15,2",
    "os_version": "26.1",
    "user": "ada@example.org",
    "ownership": "corporate",
    "state": "enrolled",
    "last_seen": START.isoformat(),
}


def guest(**changes: Any) -> dict[str, Any]:
    return {
        "enrollment_id": str(ONE),
        "device_id": DEVICE["device_id"],
        "udid": "00008110-1",
        "conflicts_with": DEVICE["device_id"],
        "reasons": ["hardware_known", "a_rule_to_come"],
        "score": 100,
        "credential_id": str(uuid7()),
        "credential_name": "Field phones",
        "handed_to": "203.0.113.7",
        "address": "198.51.100.20",
        "waits_since": START.isoformat(),
        "expires_at": (START + timedelta(days=7)).isoformat(),
        "authenticated_at": START.isoformat(),
        "decision": None,
        "decided_by": None,
        "decided_at": None,
        "decision_reason": None,
        "claimed": {"name": "<b>Mine</b>", "serial": "F2LX0001"},
        "mode": "device",
        "ownership": "corporate",
        "user": None,
    } | changes


@pytest.fixture
def calls() -> RecordedCalls:
    calls = RecordedCalls()
    calls.answers["enrollment", f"{LOBBY}?limit=50"] = {"items": [guest()], "next": "more"}
    calls.answers["enrollment", f"{LOBBY}/counts"] = {"waiting": 1}
    calls.answers["enrollment", f"{LOBBY}/{ONE}"] = guest() | {"device": DEVICE}
    for word in ("release", "refuse"):
        calls.answers["enrollment", f"{LOBBY}/{ONE}/{word}"] = guest()
    return calls


@pytest.fixture
async def owner(view: Console) -> Browser:
    return await signed_in(view.service, role="owner")


def asked(calls: RecordedCalls) -> list[tuple[str, Any]]:
    """What was decided: (path, body)."""
    return [(path, body) for _, method, path, body in calls.calls if method == "POST"]


async def test_the_list_says_who_waits_and_why_in_words(owner: Browser) -> None:
    page = await owner.get("/enrollment/lobby")
    text = words_of(page)
    for said in (
        "Lobby 1 waits",
        "Known hardware with a new certificate and no proof",
        "A_rule_to_come",
        "100",
        "Field phones",
        "198.51.100.20",
        "Waits for a decision",
    ):
        assert said in text, said
    assert "&lt;b&gt;Mine" in page.text
    assert "<b>Mine" not in page.text
    assert 'href="/enrollment/lobby?cursor=more"' in page.text


async def test_filters_live_in_the_address_and_go_to_the_api(
    owner: Browser, calls: RecordedCalls
) -> None:
    query = "state=refused&reason=serial_unlisted&address=198.51.100.20"
    calls.answers["enrollment", f"{LOBBY}?limit=50&{query}"] = {"items": [], "next": None}
    page = await owner.get(f"/enrollment/lobby?{query}")
    assert "Nothing matches" in words_of(page)
    assert 'value="serial_unlisted" selected' in page.text
    assert (await owner.get("/enrollment/lobby?state=odd")).status == 400


async def test_nobody_waits(owner: Browser, calls: RecordedCalls) -> None:
    calls.answers["enrollment", f"{LOBBY}?limit=50"] = {"items": [], "next": None}
    calls.answers["enrollment", f"{LOBBY}/counts"] = {"waiting": 0}
    text = words_of(await owner.get("/enrollment/lobby"))
    assert "Nobody waits" in text
    assert "Lobby 0" not in text
    calls.failing.add("enrollment")
    assert "does not answer now" in words_of(await owner.get("/enrollment/lobby"))
    assert (await owner.get(PAGE)).status == 503


async def test_one_stands_beside_the_device_it_may_be(owner: Browser) -> None:
    text = words_of(await owner.get(PAGE))
    for said in (
        "Serial F2LX0001 F2LX0001",
        "User – ada@example.org",
        "Profile asked for from 203.0.113.7",
        "Checked in from 198.51.100.20",
        "Type F2LX0001 to confirm",
        "It takes the place of the device beside it",
    ):
        assert said in text, said


async def test_a_stranger_displaces_nobody(owner: Browser, calls: RecordedCalls) -> None:
    calls.answers["enrollment", f"{LOBBY}/{ONE}"] = guest(
        address=None, handed_to=None, claimed={}
    ) | {"device": None}
    text = words_of(await owner.get(PAGE))
    assert "Nobody is known under its names" in text
    assert "to confirm" not in text
    assert "Not known: behind a proxy" in text


async def test_deciding_asks_for_the_second_factor(owner: Browser, calls: RecordedCalls) -> None:
    for word, act in (("release", "Let in"), ("refuse", "Refuse")):
        fields = {"reason": "seen it", "serial": "F2LX0001"}
        answer = await owner.post(f"{PAGE}/{word}", fields)
        assert answer.status == 403
        assert f"{act}: &lt;b&gt;Mine&lt;/b&gt; (00008110-1)" in answer.text
    assert asked(calls) == []


@pytest.mark.usefixtures("proven")
@pytest.mark.parametrize("word", ["release", "refuse"])
async def test_a_decision_reaches_enrollment(
    owner: Browser, calls: RecordedCalls, word: str
) -> None:
    fields = {"reason": "seen it"} | ({"serial": "f2lx0001 "} if word == "release" else {})
    answer = await owner.post(f"{PAGE}/{word}", fields)
    assert (answer.status, answer.headers["Location"]) == (303, PAGE)
    assert asked(calls) == [(f"{LOBBY}/{ONE}/{word}", {"reason": "seen it"})]


@pytest.mark.usefixtures("proven")
@pytest.mark.parametrize(
    ("word", "fields", "said"),
    [
        ("release", {"reason": " ", "serial": "F2LX0001"}, "Say why"),
        ("refuse", {}, "Say why"),
        ("release", {"reason": "x", "serial": "F2LX0002"}, "its device would be displaced"),
        ("release", {"reason": "x"}, "its device would be displaced"),
    ],
)
async def test_what_is_not_filled_in_decides_nothing(
    owner: Browser, calls: RecordedCalls, word: str, fields: dict[str, str], said: str
) -> None:
    answer = await owner.post(f"{PAGE}/{word}", fields)
    assert (answer.status, said in answer.text) == (422, True)
    assert asked(calls) == []


@pytest.mark.usefixtures("proven")
async def test_who_was_slower_is_told(owner: Browser, calls: RecordedCalls) -> None:
    late = {"code": "decided_otherwise", "detail": "It was decided before you: released."}
    calls.answers["enrollment", f"{LOBBY}/{ONE}/refuse"] = late
    calls.statuses["enrollment", f"{LOBBY}/{ONE}/refuse"] = 409
    decided = {"decision": "released", "decided_by": "service:test", "decision_reason": "ours"}
    calls.answers["enrollment", f"{LOBBY}/{ONE}"] = guest(
        **decided, decided_at=START.isoformat()
    ) | {"device": None}
    answer = await owner.post(f"{PAGE}/refuse", {"reason": "not ours"})
    assert answer.status == 409
    assert "decided before you: released" in words_of(answer)
    assert "/refuse" not in answer.text  # nothing more to decide


async def test_who_may_only_look_sees_what_is_missing(view: Console) -> None:
    reader = await signed_in(view.service, everywhere=["enrollment.read"])
    page = await reader.get(PAGE)
    assert words_of(page).count("This needs the permission lobby.decide.") == 2
    assert (await reader.post(f"{PAGE}/refuse", {"reason": "x"})).status == 403
    nobody = await signed_in(view.service, everywhere=["push.read"])
    assert (await nobody.get("/enrollment/lobby")).status == 403


async def test_a_refusal_is_news_and_no_end_of_the_device(view: Console, owner: Browser) -> None:
    device_id = await view.device(name="Ada's iPhone")
    event = DeviceRefused(
        device_id=device_id, enrollment_id=uuid7(), how="refused", actor="x", reason="not ours"
    )
    await view.service.hears(event, service="enrollment")
    feed = words_of(await owner.get(f"/devices/{device_id}?tab=timeline"))
    assert "refused what claimed to be Ada's iPhone: not ours" in feed
    assert "left management" not in feed


async def test_news_reach_the_open_list(view: Console, owner: Browser) -> None:
    page = await owner.get("/enrollment/lobby")
    assert 'sse-connect="/enrollment/lobby/live"' in page.text
    device_id = await view.device(name="Ada's iPhone")
    waits = DeviceQuarantined(device_id=device_id, enrollment_id=ONE, reasons=["serial_unlisted"])
    live = "/enrollment/lobby/live"
    async with asyncio.timeout(20), listening(owner, live) as following:
        assert await following("changed") == ""  # all is told anew at the beginning
        await view.service.hears(waits, service="enrollment")
        assert await following("changed") == ""


async def test_that_a_personal_device_is_to_be_corporate_is_told(
    view: Console, owner: Browser
) -> None:
    device_id = await view.device(name="Ada's iPhone")
    asked = OwnershipAnnounced(
        device_id=device_id, how="asked", actor="x", ownership=Ownership.CORPORATE, due_at=START
    )
    vetoed = OwnershipAnnounced(device_id=device_id, how="vetoed", actor="x")
    done = OwnershipAnnounced(device_id=device_id, how="done", actor="x")
    await view.service.hears(asked, vetoed, done, service="enrollment")
    feed = words_of(await owner.get(f"/devices/{device_id}?tab=timeline"))
    for said in (
        "a personal device, becomes corporate; it will be on",
        "becomes corporate: it stays personal",
        "is corporate now, as",
    ):
        assert said in feed, said
