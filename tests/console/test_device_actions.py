"""What an administrator does to a device: the dialog, its refusals, and what is asked of whom."""

from __future__ import annotations

import base64
import html
import re
from typing import Any
from uuid import UUID

import jwt
import pytest

from services.console.step_up import StepUp
from shared.events import uuid7
from shared.events.devices import Ownership, Platform
from shared.runtime.testing import RecordedCalls
from tests.console.browsing import Browser, signed_in, words_of
from tests.console.fleet import Console

COMMANDS = "/api/v1/commands"
LOCK = ("command.request", "command.device.lock")
RIGHTS = ("inventory.read", "command.read", *LOCK, "command.device.erase")
COMMAND_ID = uuid7()


@pytest.fixture
def calls() -> RecordedCalls:
    calls = RecordedCalls()
    calls.answers["command_queue", COMMANDS] = {"command_id": str(COMMAND_ID), "state": "active"}
    budget = {"command_class": "destructive", "window_minutes": 10, "limit": 5, "spent": 3}
    everybody = {"command_class": "destructive", "window_minutes": 1440, "limit": 9, "spent": 9}
    other = {"command_class": "disruptive", "window_minutes": 60, "limit": 77, "spent": 0}
    calls.answers["command_queue", f"{COMMANDS}/budgets"] = {
        "items": [
            {"whose": "actor", **budget},
            {"whose": "installation", **everybody},
            {"whose": "actor", **other},
        ]
    }
    return calls


@pytest.fixture
async def browser(view: Console) -> Browser:
    return await signed_in(view.service, everywhere=RIGHTS)


async def _filled(browser: Browser, path: str, **fields: str) -> dict[str, str]:
    """The dialog's form with its key, filled in."""
    [key] = re.findall(r'name="key" value="([^"]+)"', (await browser.get(path)).text)
    return {"key": key, **fields}


def _asked(calls: RecordedCalls) -> list[Any]:
    """What was asked for, and not only looked at."""
    return [call for call in calls.calls if call[1] != "GET"]


async def test_the_dialog_names_the_device_the_budget_and_who_approves(
    view: Console, browser: Browser
) -> None:
    device_id = await view.device(
        name="Ada's iPhone", serial="F17PQ0", user="ada", ownership=Ownership.CORPORATE
    )
    text = words_of(await browser.get(f"/devices/{device_id}/actions/erase"))
    for said in (
        "Everything on the device is erased for good",
        "Device Ada's iPhone",
        "Serial F17PQ0",
        "Owner ada",
        "Ownership Corporate",
        "Last seen never",
        "You: 2 of 5 left in 10 minutes",
        "Everybody together: 0 of 9 left in 24 hours",
        "no device hears of it until another person",
        "Type F17PQ0 to confirm",
    ):
        assert said in text, said
    assert "of 77" not in text


@pytest.mark.usefixtures("proven")
async def test_a_lock_is_asked_for_in_the_persons_name(
    view: Console, browser: Browser, calls: RecordedCalls
) -> None:
    device_id = await view.device(name="a", serial="F17PQ0")
    path = f"/devices/{device_id}/actions/lock"
    fields = await _filled(browser, path, serial=" f17pq0", reason="lost", message="Call Ada")
    answer = await browser.post(path, fields)
    assert answer.status == 303, answer.text
    place = f"/devices/{device_id}?tab=commands&asked={COMMAND_ID}#action-lock"
    assert answer.headers["Location"] == place
    [(service, method, at, body)] = _asked(calls)
    assert (service, method, at) == ("command_queue", "POST", COMMANDS)
    assert body == {
        "kind": "device.lock",
        "params": {"message": "Call Ada"},
        "device_ids": [str(device_id)],
        "idempotency_key": fields["key"],
        "reason": "lost",
    }
    shown = jwt.decode(calls.tokens[-1], options={"verify_signature": False})
    assert shown["sub"] == f"account:{browser.account_id}"
    assert set(LOCK) <= set(shown["permissions"])


@pytest.mark.usefixtures("proven")
async def test_lost_mode_needs_words_to_show(view: Console, calls: RecordedCalls) -> None:
    rights = ("command.request", "command.lost_mode.enable")
    browser = await signed_in(view.service, everywhere=["inventory.read", *rights])
    path = f"/devices/{await view.device(name='a', serial='F17PQ0')}/actions/lost"
    fields = await _filled(browser, path, serial="F17PQ0", reason="lost", footnote="reward")
    answer = await browser.post(path, fields)
    assert answer.status == 422
    said = "Fill in one of: Message on the locked screen, Phone number to call."
    assert said in words_of(answer)
    assert _asked(calls) == []
    fields |= {"phone_number": "+41 1"}
    assert (await browser.post(path, fields)).status == 303
    [(_, _, _, body)] = _asked(calls)
    assert body["kind"] == "lost_mode.enable"
    assert body["params"] == {"phone_number": "+41 1", "footnote": "reward"}


@pytest.mark.usefixtures("proven")
@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"serial": "F17PQ", "reason": "lost"}, "What you typed is not F17PQ0"),
        ({"serial": "F17PQ0", "reason": " "}, "Say why"),
    ],
)
async def test_nothing_happens_by_mistake(
    view: Console, browser: Browser, calls: RecordedCalls, fields: dict[str, str], said: str
) -> None:
    path = f"/devices/{await view.device(name='a', serial='F17PQ0')}/actions/erase"
    filled = await _filled(browser, path, **fields)
    answer = await browser.post(path, filled)
    assert answer.status == 422
    assert said in words_of(answer)
    assert filled["key"] in answer.text
    assert _asked(calls) == []


async def test_it_steps_up_before_anything_is_asked(
    view: Console, browser: Browser, calls: RecordedCalls
) -> None:
    path = f"/devices/{await view.device(name='a', serial='F17PQ0')}/actions/erase"
    fields = await _filled(browser, path, serial="F17PQ0", reason="sold")
    answer = await browser.post(path, fields)
    assert answer.status == 403
    assert "Erase: a (F17PQ0)" in words_of(answer)
    assert "Nothing was done yet" in answer.text
    assert _asked(calls) == []


@pytest.mark.usefixtures("proven")
async def test_what_command_queue_refuses_is_said_and_the_form_is_kept(
    view: Console, browser: Browser, calls: RecordedCalls
) -> None:
    path = f"/devices/{await view.device(name='a', serial='F17PQ0')}/actions/lock"
    fields = await _filled(browser, path, serial="F17PQ0", reason="lost", message="Call Ada")
    calls.statuses["command_queue", COMMANDS] = 422
    calls.answers["command_queue", COMMANDS] = {"code": "x", "detail": "No phone is that short."}
    answer = await browser.post(path, fields)
    assert answer.status == 422
    assert "No phone is that short. Nothing was asked of the device." in words_of(answer)
    assert 'value="Call Ada"' in answer.text
    assert fields["key"] not in answer.text


@pytest.mark.usefixtures("proven")
async def test_sending_again_after_silence_is_the_same_request(
    view: Console, browser: Browser, calls: RecordedCalls
) -> None:
    path = f"/devices/{await view.device(name='a', serial='F17PQ0')}/actions/lock"
    fields = await _filled(browser, path, serial="F17PQ0", reason="lost")
    calls.failing.add("command_queue")
    answer = await browser.post(path, fields)
    assert answer.status == 503
    assert "nothing is done twice" in words_of(answer)
    assert fields["key"] in answer.text


async def test_what_one_may_not_do_stays_and_names_the_permission(
    view: Console, calls: RecordedCalls
) -> None:
    mine = await view.device(name="a", serial="F17PQ0")
    other = await view.device(name="b", serial="F17PQ1")
    group_id = await view.group("Mine", mine)
    reader = await signed_in(
        view.service, everywhere=["inventory.read"], groups={group_id: [*LOCK]}
    )
    page = await reader.get(f"/devices/{mine}")
    assert f"/devices/{mine}/actions/lock" in page.text
    assert "Erase : This needs the permission command.device.erase." in words_of(page)
    assert "Push now : This needs the permission push.wake." in words_of(page)
    page = await reader.get(f"/devices/{other}")
    assert "/actions/" not in page.text
    assert "Lock : This needs the permission command.request." in words_of(page)
    path = f"/devices/{other}/actions/lock"
    answer = await reader.post(path, {"key": str(uuid7()), "serial": "F17PQ1", "reason": "x"})
    assert answer.status == 403
    assert _asked(calls) == []


async def test_what_the_device_cannot_do_says_why(
    view: Console, browser: Browser, calls: RecordedCalls
) -> None:
    phone = await view.device(name="a")
    mac = await view.device(name="b", platform=Platform.MACOS)
    gone = await view.device(name="c", status="ended")
    obstacle = {"kind": "device.erase", "obstacle": "personal devices are never erased"}
    for device_id in (phone, mac):
        path = f"{COMMANDS}/devices/{device_id}/possible"
        calls.answers["command_queue", path] = {"items": [obstacle]}
    page = words_of(await browser.get(f"/devices/{phone}"))
    assert "Erase : Not possible here: personal devices are never erased." in page
    assert "Lock…" in words_of(await browser.get(f"/devices/{mac}"))
    assert "Lock : The device is not managed." in words_of(await browser.get(f"/devices/{gone}"))
    answer = await browser.get(f"/devices/{phone}/actions/erase")
    assert "personal devices are never erased" in words_of(answer)
    assert 'name="reason"' not in answer.text


async def test_safe_actions_are_one_press(view: Console, calls: RecordedCalls) -> None:
    browser = await signed_in(
        view.service, everywhere=["inventory.read", "inventory.refresh", "push.wake"]
    )
    device_id = await view.device(name="a")
    answer = await browser.post(f"/devices/{device_id}/refresh")
    assert answer.status == 303
    calls.answers["inventory", f"/api/v1/inventory/devices/{device_id}/facts"] = {"items": []}
    calls.answers["inventory", "/api/v1/inventory/facts"] = {"items": []}
    assert "was asked for its inventory" in words_of(await browser.get(answer.headers["Location"]))
    answer = await browser.post(f"/devices/{device_id}/wake")
    assert "A push is on its way" in words_of(await browser.get(answer.headers["Location"]))
    assert [call[:3] for call in _asked(calls)] == [
        ("inventory", "POST", f"/api/v1/inventory/devices/{device_id}/refresh"),
        ("push_notifier", "POST", f"/api/v1/push/devices/{device_id}/wake"),
    ]


def _tell(calls: RecordedCalls, device_id: UUID, target: str | None, **command: Any) -> None:
    path = f"{COMMANDS}/{COMMAND_ID}"
    told = {"kind": "device.lock", "state": "active", "reason": "lost", "hold_reason": None}
    calls.answers["command_queue", path] = told | command
    one = {"device_id": str(device_id), "state": target, "reason": None, "errors": None}
    items = [one] if target else []
    calls.answers["command_queue", f"{path}/targets"] = {"items": items, "next": None}


async def test_the_page_tells_intent_then_outcome(
    view: Console, browser: Browser, calls: RecordedCalls
) -> None:
    device_id = await view.device(name="a")
    part = f"/devices/{device_id}/asked/{COMMAND_ID}"
    _tell(calls, device_id, None)
    page = await browser.get(f"/devices/{device_id}?asked={COMMAND_ID}")
    assert "Lock Asked for, being queued" in words_of(page)
    assert "load delay:1s" in page.text
    _tell(calls, device_id, "queued")
    asked = await browser.get(part)
    assert "Lock Queued, waiting for the device" in words_of(asked)
    assert "hx-get" not in asked.text
    whole = await browser.get(f"/devices/{device_id}?asked={COMMAND_ID}")
    assert re.search(f'hx-get="{part}"[^>]* hx-trigger="sse:changed"', whole.text)
    _tell(calls, device_id, "acknowledged")
    assert "Lock Acknowledged" in words_of(await browser.get(part))
    assert (
        f'hx-get="{part}"'
        not in (await browser.get(f"/devices/{device_id}?asked={COMMAND_ID}")).text
    )
    _tell(calls, device_id, "held", state="held", hold_reason="5 of 5 are spent")
    assert "5 of 5 are spent" in words_of(await browser.get(part))


async def test_what_is_in_a_profile_is_in_no_page(
    view: Console, calls: RecordedCalls, monkeypatch: pytest.MonkeyPatch
) -> None:
    rights = ("inventory.read", "command.request", "command.configuration.install")
    browser = await signed_in(view.service, everywhere=rights)
    calls.answers["command_queue", f"{COMMANDS}/checks"] = {
        "command_class": "disruptive",
        "summary": {"profile": "org.example", "payload_types": ["com.apple.wifi.managed"]},
    }
    path = f"/devices/{await view.device(name='a', serial='F17PQ0')}/actions/install"
    fields = await _filled(browser, path, serial="F17PQ1", reason="x", profile="<p>s3cret</p>")
    mistaken = await browser.post(path, fields)
    kept = _kept(mistaken.text)
    right = {**fields, "profile": "", "serial": "F17PQ0", "kept": kept}
    asked = await browser.post(path, right)
    assert (mistaken.status, asked.status) == (422, 403)
    assert "s3cret" not in mistaken.text + asked.text
    assert _kept(asked.text) == kept

    async def proven(_self: StepUp, _person: object, _digest: str) -> bool:
        return True

    monkeypatch.setattr(StepUp, "is_proven", proven)
    elsewhere = f"/devices/{await view.device(name='b', serial='F17PQ0')}/actions/install"
    another = await signed_in(view.service, everywhere=rights)
    for at, who, sent_back in (
        (elsewhere, browser, kept),
        (path, another, kept),
        *((path, browser, rubbish) for rubbish in ("é", "x", "====", "AAAA", kept[:-4], kept[4:])),
    ):
        answer = await who.post(at, {**right, "kept": sent_back})
        assert answer.status == 422, sent_back
        assert "Fill in this: Profile" in words_of(answer)
    assert (await browser.post(path, right)).status == 303
    sent = base64.b64encode(b"<p>s3cret</p>").decode()
    assert _asked(calls)[-1][3]["params"] == {"profile": sent}
    assert "kept" not in str(_asked(calls)[-1])


def _kept(text: str) -> str:
    [kept] = re.findall(r'name="kept" value="([^"]+)"', text)
    return html.unescape(kept)
