"""The screen Audit: filters in the URL, names for ids, before and after, how the chain stands."""

from __future__ import annotations

from datetime import timedelta
from uuid import UUID, uuid4

import orjson
import pytest

from services.console.audit.verifying import verify
from shared.events.base import uuid7
from tests.console.auditing import did, hear, told
from tests.console.browsing import Browser, later, signed_in, words_of
from tests.console.fleet import Console


@pytest.fixture
async def browser(view: Console) -> Browser:
    return await signed_in(view.service, everywhere=["audit.read"])


async def _done(view: Console, action: str, **more: object) -> UUID:
    [event] = told(did(action, **more))  # type: ignore[arg-type]
    await hear(view.service, [event])
    return event.meta.event_id


async def test_who_what_and_whom_have_names(view: Console, browser: Browser) -> None:
    me = f"account:{browser.account_id}"
    device = await view.device(name="Ada's iPhone")
    group = await view.group("Paris", device)
    await _done(view, "device.change", actor=me, target=str(device))
    await _done(view, "group.members.add", actor=me, target=str(group))
    await _done(view, "role.grant", actor="service:console", target=me)
    command = uuid7()
    await _done(view, "command.create", actor=me, target=str(command), reason="left on a train")
    await _done(view, "session.end", actor=me, target=f"session:{uuid7()}")
    await _done(view, "credential.create", actor=me, target=f"credential:{uuid7()}")
    await _done(view, "group.delete", actor=f"account:{uuid7()}", target=str(uuid7()))
    page = await browser.get("/audit")
    text = words_of(page)
    for said in (
        "Device: change Ada Lovelace Ada's iPhone",
        "Group members: add Ada Lovelace The group Paris",
        "Role: grant Muster (console) The account of Ada Lovelace",
        "Command: create Ada Lovelace A command",
        "left on a train",
        "Session: end Ada Lovelace A session that is over",
        "Credential: create Ada Lovelace An enrollment credential",
        "Group: delete An account that is gone A group that is gone",
    ):
        assert said in text, said
    assert not [one for one in (device, group, command, browser.account_id) if str(one) in text]


async def test_a_command_is_called_by_what_it_does_and_to_whom(
    view: Console, browser: Browser
) -> None:
    device = await view.device(name="Ada's iPhone")
    lock, restart, forgotten = (str(uuid7()) for _ in range(3))
    one = {"kind": "device.lock", "targets": 1, "device": str(device)}
    await _done(view, "command.create", target=lock, after=one)
    await _done(view, "command.create", target=restart, after={"kind": "raw", "targets": 1200})
    await _done(view, "command.cancel", target=restart)
    await _done(view, "command.cancel", target=forgotten)
    page = await browser.get("/audit")
    text = words_of(page)
    for said in (
        "Command: create ada Lock Ada's iPhone",
        "Command: create ada Send a raw command to 1,200 devices",
        "Command: cancel ada Send a raw command to 1,200 devices",
        "Command: cancel ada A command",
    ):
        assert said in text, said
    entry = await _done(view, "command.approve", target=lock)
    text = (await browser.get(f"/audit/entries/{entry}")).text
    assert f'<a href="/commands/{lock}">Lock Ada&#39;s iPhone</a>' in text


async def test_filters_stand_in_the_url(view: Console, browser: Browser) -> None:
    me = f"account:{browser.account_id}"
    device = await view.device(name="Ada's iPhone", serial="C39XK001")
    await _done(view, "device.change", actor=me, target=str(device))
    await _done(view, "command.create", target=str(uuid7()))

    async def shown(query: str) -> int:
        return (await browser.get(f"/audit?{query}")).text.count("data-row")

    assert await shown("") == 2
    assert await shown(f"actor={me}") == 1
    assert await shown("action=command.create") == 1
    for target in (str(device), "c39xk001", "ada's%20iphone"):
        assert await shown(f"target={target}") == 1, target
    assert await shown("target=nobody") == 0
    assert await shown("until=2020-01-01T00:00Z") == 0
    assert await shown("actor=&action=&target=&since=&until=") == 2
    page = await browser.get(f"/audit?actor={me}&action=device.change")
    assert f'<option value="{me}" selected>Ada Lovelace</option>' in page.text
    assert '<option value="device.change" selected>Device: change</option>' in page.text
    assert f'href="/audit/export?actor=account%3A{browser.account_id}' in page.text
    assert (await browser.get("/audit?since=yesterday")).status == 400


async def test_pages_follow_each_other(view: Console, browser: Browser) -> None:
    for number in range(3):
        await _done(view, f"act.{number}")
    page = await browser.get("/audit?limit=2")
    assert page.text.count("data-row") == 2
    following = page.text.split('rel="next" href="')[1].split('"')[0].replace("&amp;", "&")
    rest = await browser.get(following)
    assert rest.text.count("data-row") == 1
    assert "sse-connect" in page.text
    assert "sse-connect" not in rest.text


async def test_an_entry_shows_before_after_and_its_place(view: Console, browser: Browser) -> None:
    device = await view.device(name="Ada's iPhone")
    before, after = {"user": None, "tags": ["a"]}, {"user": "<b>ada</b>", "tags": ["a", "b"]}
    entry = await _done(
        view, "device.change", target=str(device), before=before, after=after, source="203.0.113.7"
    )
    page = await browser.get(f"/audit/entries/{entry}")
    text = words_of(page)
    for said in ("tags a a, b", "user nothing <b>ada</b>", "203.0.113.7", "By the permission p.q"):
        assert said in text, said
    assert f'<a href="/devices/{device}">Ada&#39;s iPhone</a>' in page.text
    assert "<b>ada</b>" not in page.text
    link = page.text.split('href="/audit?correlation_id=')[1].split('"')[0]
    assert (await browser.get(f"/audit?correlation_id={link}")).text.count("data-row") == 1
    assert (await browser.get(f"/audit/entries/{uuid4()}")).status == 404


@pytest.mark.parametrize(
    ("via", "said"),
    [
        (f"token:{uuid7()}", "Through A token that is gone"),
        (f"session:{uuid7()}", "Through A browser"),
    ],
)
async def test_an_entry_says_through_what(
    view: Console, browser: Browser, via: str, said: str
) -> None:
    entry = await _done(view, "device.change", via=via)
    assert said in words_of(await browser.get(f"/audit/entries/{entry}"))


async def test_what_was_erased_says_so(view: Console, browser: Browser) -> None:
    entry = await _done(view, "device.change", target="someone")
    empty = "salt = NULL, audit_id = NULL, actor = NULL, target = NULL, after = NULL, "
    erase = f"UPDATE audit SET {empty} via = NULL, correlation_id = NULL, erased_at = now()"
    await view.service.context.pool.execute(erase)
    assert "Device: change Erased Erased" in words_of(await browser.get("/audit"))
    text = words_of(await browser.get(f"/audit/entries/{entry}"))
    assert "were erased" in text
    assert "The values were erased." in text


async def test_the_badge_says_how_the_chain_stands(view: Console, browser: Browser) -> None:
    async def said() -> str:
        state = await view.service.call("GET", "/api/v1/console/audit/state")
        text = words_of(await browser.get("/audit"))
        words = {
            "holds": "The chain holds",
            "broken": "The chain is broken",
            "unsigned": "No new root is signed",
            "unchecked": "Not checked lately",
        }
        word = str(state.json["word"])
        assert words[word] in text
        return word

    await _done(view, "a.b")
    assert await said() == "unsigned"
    await view.service.run_job("sign_audit_root")
    assert await said() == "unchecked"
    await view.service.run_job("check_audit")
    assert await said() == "holds"
    state = (await view.service.call("GET", "/api/v1/console/audit/state")).json
    assert (state["root"]["number"], state["root"]["links"], len(state["keys"])) == (1, 1, 1)
    later(view.service, timedelta(minutes=10))
    assert await said() == "unsigned"
    async with view.service.context.pool.acquire() as connection, connection.transaction():
        await connection.execute("ALTER TABLE audit DISABLE TRIGGER audit_only_grows")
        await connection.execute("UPDATE audit SET actor = 'eve'")
    later(view.service, timedelta(days=1))
    await view.service.run_job("check_audit")
    browser = await signed_in(view.service, everywhere=["audit.read"])
    assert await said() == "broken"
    assert "The content of Link 1" in words_of(await browser.get("/audit"))


async def test_the_page_exports_what_can_be_verified(view: Console, browser: Browser) -> None:
    device = await view.device(serial="C39XK001")
    await _done(view, "device.change", target=str(device))
    await _done(view, "device.change", target="another")
    await view.service.run_job("sign_audit_root")
    answer = await browser.get("/audit/export?target=C39XK001")
    assert answer.headers["Content-Disposition"] == 'attachment; filename="audit.jsonl"'
    lines = answer.body.splitlines()
    assert [one["entry"]["target"] for one in map(orjson.loads, lines) if "entry" in one] == [
        str(device)
    ]
    report = verify(lines)
    assert (report.links, report.withheld, report.roots) == (2, 1, 1)


async def test_emptiness_says_why(browser: Browser) -> None:
    assert "Nothing is on record yet" in words_of(await browser.get("/audit"))
    assert "All filters must hold at once" in words_of(await browser.get("/audit?action=x"))


@pytest.mark.parametrize("path", ["/audit", "/audit/export", "/audit/live"])
async def test_it_takes_the_permission_on_all_devices(view: Console, path: str) -> None:
    stranger = await signed_in(view.service, everywhere=["inventory.read"], name="Eve")
    assert (await stranger.get(path)).status == 403
    assert "needs the permission audit.read" in words_of(await stranger.get("/devices"))
    some = await signed_in(view.service, groups={uuid7(): ["audit.read"]}, name="Mallory")
    assert (await some.get(path)).status == 403
