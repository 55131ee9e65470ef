"""One command for many devices: exactly those that were shown, and the number typed."""

from __future__ import annotations

import base64
import html
import re
from typing import Any
from urllib.parse import urlencode

import pytest

from shared.events import uuid7
from shared.events.devices import Platform
from shared.runtime.testing import Answer, RecordedCalls
from tests.console.browsing import Browser, prove, signed_in, words_of
from tests.console.fleet import Console

COMMANDS = "/api/v1/commands"
LOCK = ("command.request", "command.device.lock")
REFRESH = "command.inventory.refresh"
COMMAND_ID = uuid7()


@pytest.fixture
def calls() -> RecordedCalls:
    calls = RecordedCalls()
    calls.answers["command_queue", COMMANDS] = {"command_id": str(COMMAND_ID), "state": "active"}
    return calls


@pytest.fixture
async def browser(view: Console) -> Browser:
    return await signed_in(view.service, everywhere=["inventory.read", *LOCK, REFRESH])


async def _filled(browser: Browser, path: str, **fields: str) -> dict[str, str]:
    text = (await browser.get(path)).text
    [key] = re.findall(r'name="key" value="([^"]+)"', text)
    [count] = re.findall(r'name="count" value="([^"]+)"', text)
    return {"key": key, "count": count, **fields}


def _asked(calls: RecordedCalls) -> list[Any]:
    return [body for _, method, _, body in calls.calls if method == "POST"]


@pytest.mark.usefixtures("proven")
async def test_the_whole_filtered_list_gets_one_command(
    view: Console, browser: Browser, calls: RecordedCalls
) -> None:
    wanted = sorted([str(await view.device(name=f"field {n}", tags=["field"])) for n in range(3)])
    await view.device(name="office")
    await view.device(name="field gone", tags=["field"], status="ended")
    [whole] = {
        html.unescape(one)
        for one in re.findall(
            r'href="(/bulk/lock\?[^"]+)"', (await browser.get("/devices?tag=field&limit=1")).text
        )
    }
    assert whole == "/bulk/lock?tag=field&whole=true"
    page = await browser.get(whole)
    assert "Lock: 3 devices" in words_of(page)
    assert "1 of the list is left out: not managed" in words_of(page)
    fields = await _filled(browser, whole, serial="3", reason="stolen van")
    answer = await browser.post(whole, fields)
    assert answer.headers["Location"] == f"/commands/{COMMAND_ID}"
    [body] = _asked(calls)
    assert sorted(body["device_ids"]) == wanted
    assert (body["kind"], body["reason"]) == ("device.lock", "stolen van")
    assert body["idempotency_key"] == fields["key"]


@pytest.mark.usefixtures("proven")
async def test_selected_rows_alone_are_asked(
    view: Console, browser: Browser, calls: RecordedCalls
) -> None:
    mine, other = await view.device(name="a"), await view.device(name="b")
    path = f"/bulk/refresh?id={mine}"
    fields = await _filled(browser, path)
    assert (await browser.post(path, fields)).status == 303
    [body] = _asked(calls)
    assert body["device_ids"] == [str(mine)]
    assert body["params"] == {"section": "device_information"}
    assert str(other) not in str(body)


@pytest.mark.usefixtures("proven")
@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"serial": "1", "reason": "x"}, "What you typed is not 2"),
        ({"serial": "2", "reason": ""}, "Say why"),
        ({"serial": "2", "reason": "x", "count": "3"}, "The list has changed"),
    ],
)
async def test_nothing_happens_by_mistake(
    view: Console, browser: Browser, calls: RecordedCalls, fields: dict[str, str], said: str
) -> None:
    for name in "ab":
        await view.device(name=name)
    path = "/bulk/lock?whole=true"
    answer = await browser.post(path, await _filled(browser, path, **fields))
    assert answer.status == 422
    assert said in words_of(answer)
    assert _asked(calls) == []


async def test_without_a_choice_nothing_is_meant(view: Console, browser: Browser) -> None:
    await view.device(name="a")
    answer = await browser.get("/bulk/lock")
    assert "No device is chosen" in words_of(answer)
    assert 'name="count"' not in answer.text


async def test_it_steps_up_for_the_number(
    view: Console, browser: Browser, calls: RecordedCalls
) -> None:
    for name in "ab":
        await view.device(name=name)
    path = "/bulk/lock?whole=true"
    answer = await browser.post(path, await _filled(browser, path, serial="2", reason="x"))
    assert answer.status == 403
    assert "Lock: 2 devices" in words_of(answer)
    assert _asked(calls) == []


def _repeated(answer: Answer) -> dict[str, str]:
    """The form that asks for the second factor, as the browser would send it again."""
    form = answer.text.split('id="step-up"')[1]
    found = re.findall(r'type="hidden" name="([^"]+)" value="([^"]*)"', form)
    return {name: html.unescape(value) for name, value in found if name != "csrf"}


async def test_the_second_factor_is_for_these_devices(
    view: Console, browser: Browser, calls: RecordedCalls, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As many others are not these: a device may say what it is called, and get into the list."""
    left, stays = await view.device(name="field a"), await view.device(name="field b")
    path = "/bulk/lock?q=field&whole=true"
    first = await _filled(browser, path, serial="2", reason="x")
    asked = await browser.post(path, first)
    assert asked.status == 403
    await view.service.context.pool.execute(
        "UPDATE device SET status = 'ended' WHERE device_id = $1", left
    )
    came = await view.device(name="field c")
    anew = await browser.post(path, first)
    assert anew.status == 403
    assert _repeated(anew)["devices"] != _repeated(asked)["devices"]
    prove(monkeypatch)
    changed = await browser.post(path, _repeated(asked))
    assert changed.status == 422
    assert "The list has changed" in words_of(changed)
    assert _asked(calls) == []
    assert (await browser.post(path, _repeated(anew))).status == 303
    [body] = _asked(calls)
    assert sorted(body["device_ids"]) == sorted([str(stays), str(came)])


@pytest.mark.usefixtures("proven")
async def test_devices_beyond_reach_and_macs_are_left_out(
    view: Console, calls: RecordedCalls
) -> None:
    mine, other = await view.device(name="a"), await view.device(name="b")
    mac = await view.device(name="c", platform=Platform.MACOS)
    group_id = await view.group("Mine", mine, mac)
    scoped = await signed_in(view.service, everywhere=["inventory.read"], groups={group_id: LOCK})
    named = urlencode({"id": [mine, other, mac]}, doseq=True)
    for path in ("/bulk/lock?whole=true", f"/bulk/lock?{named}"):
        answer = await scoped.get(path)
        assert "Lock: 1 device" in words_of(answer), path
        fields = await _filled(scoped, path, serial="1", reason="x")
        assert (await scoped.post(path, fields)).status == 303
    assert [body["device_ids"] for body in _asked(calls)] == [[str(mine)]] * 2


async def test_who_may_not_sees_why(view: Console) -> None:
    await view.device(name="a")
    reader = await signed_in(view.service, everywhere=["inventory.read"])
    page = await reader.get("/devices")
    assert "Lock : This needs the permission command.request." in words_of(page)
    assert "/bulk/lock" not in page.text
    assert (await reader.get("/bulk/lock?whole=true")).status == 403


async def test_a_profile_for_many_is_judged_before_anybody_confirms(
    view: Console, calls: RecordedCalls
) -> None:
    rights = ["inventory.read", "command.request", "command.configuration.install"]
    browser = await signed_in(view.service, everywhere=rights)
    for name in "ab":
        await view.device(name=name)
    calls.answers["command_queue", f"{COMMANDS}/checks"] = {
        "command_class": "destructive",
        "summary": {"profile": "org.example", "payload_types": ["com.apple.vpn.managed"]},
    }
    path, xml = "/bulk/install?whole=true", "<plist/>"
    fields = await _filled(browser, path, serial="2", reason="x", profile=f" {xml}")
    answer = await browser.post(path, fields)
    assert answer.status == 403
    act = "Install profile org.example (com.apple.vpn.managed), which counts as destructive"
    assert f"{act}: 2 devices" in words_of(answer)
    [asked] = _asked(calls)
    assert asked == {
        "kind": "configuration.install",
        "params": {"profile": base64.b64encode(f" {xml}".encode()).decode()},
    }
    refused = {"code": "body_invalid", "detail": "profile: no payload."}
    calls.answers["command_queue", f"{COMMANDS}/checks"] = refused
    calls.statuses["command_queue", f"{COMMANDS}/checks"] = 422
    answer = await browser.post(path, fields)
    assert answer.status == 422
    assert "profile: no payload. Nothing was asked of any device." in words_of(answer)
    assert html.escape(xml) not in answer.text
    assert "is kept, and not shown again" in words_of(answer)
