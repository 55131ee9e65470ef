"""Sealed accounts: two, of owners, opened by a key alone; everybody is told."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import orjson
import pytest

from services.console.app import SERVICE
from services.console.http.keys import SIGNING_IN
from services.console.passkeys import PATIENCE
from services.console.sessions import ALARMED, MOST
from shared.events.access import AccountState
from shared.events.audit import AuditRecorded
from shared.events.people import SealedAccountUsed
from shared.runtime.clock import FixedClock
from shared.runtime.testing import Answer, Trial, trial
from tests.console.authenticator import Authenticator
from tests.console.browsing import Browser, later, signed_in
from tests.console.by_provider import company, events
from tools.embedded.testing import MakeDatabase

NOW = datetime(2026, 3, 1, tzinfo=UTC)
SEALED = {"name": "Safe in Berlin", "email": "safe@example.org"}
PAGE = "/settings/people/sealed"


@pytest.fixture
async def service(make_database: MakeDatabase, tmp_path: Path) -> AsyncIterator[Trial]:
    dsn = await make_database("console")
    async with trial(SERVICE, dsn, tmp_path, clock=FixedClock(NOW)) as running:
        yield running


async def _ask(browser: Browser, path: str, **body: Any) -> Answer:
    headers = {"Origin": browser.origin, "X-CSRF-Token": browser.token}
    headers["Content-Type"] = "application/json"
    return await browser.send("POST", path, orjson.dumps(body), headers)


async def _made(owner: Browser, **more: str) -> tuple[str, str]:
    """Account id and link."""
    answer = await owner.post(PAGE, SEALED | more)
    assert answer.status == 200, answer.text
    [link] = re.findall(r'id="link">http://localhost:8080(/join/[\w-]+)<', answer.text)
    [account_id] = re.findall(r'href="/settings/people/([\w-]+)">To the account', answer.text)
    return account_id, link


async def _registered(link: str, service: Trial) -> tuple[Browser, Authenticator]:
    """The browser in which the key was registered, and the key."""
    browser, key = Browser(service), Authenticator(credential_id=b"of the safe")
    assert "This account is sealed" in (await browser.get(link)).text
    answer = await browser.post(link)
    assert (answer.status, answer.headers["Location"]) == (303, "/second-factor")
    shown = await browser.get("/second-factor")
    assert "This key will open the account by itself" in shown.text
    assert "/second-factor/offer" not in shown.text
    options = (await _ask(browser, "/second-factor/new-key/options")).json
    assert options["authenticatorSelection"]["residentKey"] == "required"
    answer = await _ask(browser, "/second-factor/new-key", credential=key.create(options))
    assert answer.status == 200, answer.text
    return browser, key


async def _opened(service: Trial, key: Authenticator) -> tuple[Browser, Answer]:
    browser = Browser(service)
    assert "data-key-answer" in (await browser.get("/sealed")).text
    options = (await _ask(browser, "/sealed/options")).json
    assert options.get("allowCredentials", []) == []
    return browser, await _ask(browser, "/sealed", credential=key.get(options))


async def test_making_one_needs_a_step_up(service: Trial) -> None:
    owner = await signed_in(service, role="owner")
    answer = await owner.post(PAGE, SEALED)
    assert (answer.status, "Nothing was done yet" in answer.text) == (403, True)
    assert await service.context.pool.fetchval("SELECT count(*) FROM account WHERE sealed") == 0


@pytest.mark.usefixtures("proven")
async def test_a_key_alone_opens_it_and_everybody_is_told(service: Trial) -> None:
    owner = await signed_in(service, role="owner")
    account_id, link = await _made(owner)
    _, key = await _registered(link, service)
    later(service, timedelta(days=30))
    owner, reader = await signed_in(service, role="owner"), await signed_in(service)
    assert "sealed-alarm" not in (await reader.get("/me/sessions")).text
    browser, answer = await _opened(service, key)
    assert answer.status == 200
    assert "Safe in Berlin" in (await browser.get("/settings/people")).text
    for everybody in (owner, reader, browser):
        shown = (await everybody.get("/me/sessions")).text
        assert "The sealed account “Safe in Berlin” was used" in shown
    used = await events(service, SealedAccountUsed)
    assert [str(each.account_id) for each in used] == [account_id, account_id]
    assert used[-1].used_at == service.context.clock.now()
    assert used[-1].source == "127.0.0.1"
    records = await events(service, AuditRecorded)
    assert (records[-1].action, records[-1].after) == ("session.begin", {"by": "sealed key"})
    listed = (await owner.get("/settings/people")).text
    assert '<span class="badge bg-purple-lt">sealed</span>' in listed
    assert service.context.clock.now().isoformat() in listed
    later(service, ALARMED)
    reader = await signed_in(service)
    assert "sealed-alarm" not in (await reader.get("/me/sessions")).text


@pytest.mark.usefixtures("proven")
async def test_its_sessions_end_as_others_do(service: Trial) -> None:
    _, link = await _made(await signed_in(service, role="owner"))
    _, key = await _registered(link, service)
    browser, _ = await _opened(service, key)
    session = await service.context.pool.fetchrow(
        "SELECT ends_at, proven_at FROM session WHERE method = 'sealed+key'"
    )
    assert session is not None
    assert session["ends_at"] - session["proven_at"] == MOST
    later(service, timedelta(minutes=15))
    assert (await browser.get("/")).status == 401


@pytest.mark.usefixtures("proven")
@pytest.mark.parametrize(
    "wrong",
    ["ordinary", "other", "unverified", "origin", "late", "replay", "browser", "disabled", "none"],
)
async def test_nothing_else_opens_it(service: Trial, wrong: str) -> None:
    owner = await signed_in(service, role="owner")
    account_id, link = await _made(owner)
    _, key = await _registered(link, service)
    used = len(await events(service, SealedAccountUsed))
    if wrong == "ordinary":
        await service.context.pool.execute("UPDATE account SET sealed = false")
    if wrong == "disabled":
        assert (await owner.post(f"/settings/people/{account_id}/disable")).status == 303
    browser = Browser(service)
    await browser.get("/sealed")
    options = (await _ask(browser, "/sealed/options")).json
    bad = {
        "other": Authenticator(credential_id=key.credential_id),
        "unverified": Authenticator(credential_id=key.credential_id, key=key.key, verifies=False),
        "origin": Authenticator(
            credential_id=key.credential_id, key=key.key, origin="https://evil.example"
        ),
    }.get(wrong, key)
    credential = bad.get(options) if wrong != "none" else {"id": "!"}
    if wrong == "late":
        later(service, PATIENCE)
    if wrong == "replay":
        await _ask(browser, "/sealed/options")
    if wrong == "browser":
        browser = Browser(service)
        await browser.get("/sealed")
    answer = await _ask(browser, "/sealed", credential=credential)
    assert (answer.status, answer.json["code"]) == (403, "key_refused")
    assert (await browser.get("/")).status == 401
    assert len(await events(service, SealedAccountUsed)) == used
    records = await events(service, AuditRecorded)
    assert (records[-1].action, records[-1].target) == ("session.refuse", "sealed")


@pytest.mark.usefixtures("proven")
async def test_it_gets_no_password_and_no_app(service: Trial) -> None:
    _, link = await _made(await signed_in(service, role="owner"))
    waiting = Browser(service)
    await waiting.get(link)
    assert (await waiting.post(link, {"password": "a walk in the wet woods"})).status == 303
    account = await service.context.pool.fetchrow(
        "SELECT account_id, password_hash FROM account WHERE sealed"
    )
    assert account is not None
    assert account["password_hash"] is None
    await waiting.get("/second-factor")
    await waiting.post("/second-factor/offer")
    codes = service.parts.values[SIGNING_IN].codes
    assert await codes.offered(account["account_id"]) is None
    await codes.offer(account["account_id"])
    answer = await waiting.post("/second-factor/confirm", {"code": "000000"})
    assert (answer.status, "by keys alone" in answer.text) == (409, True)
    options = (await _ask(waiting, "/second-factor/new-key/options")).json
    credential = Authenticator().create(options)
    assert (await _ask(waiting, "/second-factor/new-key", credential=credential)).status == 200
    await waiting.get("/me/factors")
    answer = await waiting.post("/me/factors/code/offer")
    assert (answer.status, "by keys alone" in answer.text) == (409, True)


@pytest.mark.usefixtures("proven")
async def test_it_gets_no_identity(make_database: MakeDatabase, tmp_path: Path) -> None:
    async with company(await make_database("console"), tmp_path) as here:
        account_id, link = await _made(here.owner)
        answer = await here.link(account_id, "somebody")
        assert (answer.status, "by keys alone" in answer.text) == (409, True)
        browser = Browser(here.service)
        await browser.get(link)
        gone = await browser.post(f"{link}/with/{here.provider_id}")
        assert gone.status == 409
        assert await here.service.context.pool.fetchval("SELECT count(*) FROM identity") == 0


@pytest.mark.usefixtures("proven")
async def test_there_are_two_and_only_owners_make_them(service: Trial) -> None:
    owner, admin = await signed_in(service, role="owner"), await signed_in(service, role="admin")
    assert (await admin.post(PAGE, SEALED)).status == 403
    await _made(owner)
    assert (await owner.post(PAGE, SEALED)).status == 409, "the e-mail is taken"
    await _made(owner, email="second@example.org")
    third = await owner.post(PAGE, SEALED | {"email": "third@example.org"})
    assert (third.status, "2 sealed accounts already" in third.text) == (409, True)
    assert await service.context.pool.fetchval("SELECT count(*) FROM account WHERE sealed") == 2


@pytest.mark.usefixtures("proven")
async def test_it_does_not_count_as_the_last_owner(service: Trial) -> None:
    """Its key may lie in a river."""
    owner = await signed_in(service, role="owner")
    await _made(owner)
    answer = await owner.post(f"/settings/people/{owner.account_id}/disable")
    assert (answer.status, "leave nobody who owns" in answer.text) == (409, True)


@pytest.mark.usefixtures("proven")
async def test_others_are_told_that_it_is_sealed(service: Trial) -> None:
    account_id, link = await _made(await signed_in(service, role="owner"))
    await _registered(link, service)
    states = [
        each for each in await events(service, AccountState) if each.account_id == UUID(account_id)
    ]
    assert [(each.sealed, len(each.keys)) for each in states] == [(True, 0), (True, 1)]
    assert [role.role_id for role in states[-1].roles] == ["owner"]


@pytest.mark.usefixtures("proven")
async def test_a_reset_makes_a_new_key_necessary(service: Trial) -> None:
    owner = await signed_in(service, role="owner")
    account_id, link = await _made(owner)
    _, key = await _registered(link, service)
    answer = await owner.post(f"/settings/people/{account_id}/reset")
    [again] = re.findall(r'id="link">http://localhost:8080(/join/[\w-]+)<', answer.text)
    _, refused = await _opened(service, key)
    assert refused.status == 403
    await _registered(again, service)


async def test_old_challenges_are_forgotten(service: Trial) -> None:
    browser = Browser(service)
    await browser.get("/sealed")
    await _ask(browser, "/sealed/options")
    count = "SELECT count(*) FROM sealed_ceremony"
    await service.run_job("sweep_sealed_challenges")
    assert await service.context.pool.fetchval(count) == 1
    later(service, PATIENCE)
    await service.run_job("sweep_sealed_challenges")
    assert await service.context.pool.fetchval(count) == 0
