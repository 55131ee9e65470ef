"""What is dangerous asks again: once, for exactly one request, for two minutes."""

from __future__ import annotations

import html
import re
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import orjson
import pyotp
import pytest

from services.console.app import SERVICE
from services.console.http.keys import OWN_FACTORS, SIGNING_IN
from services.console.people import Person
from services.console.sessions import Visit
from services.console.step_up import LIFETIME, digest_of
from shared.bus import outbox
from shared.db.pool import transaction
from shared.events.audit import AuditRecorded
from shared.runtime.clock import FixedClock
from shared.runtime.http import Caller
from shared.runtime.testing import Answer, Trial, trial
from tests.console.authenticator import Authenticator
from tests.console.browsing import Browser, later, signed_in
from tools.embedded.testing import MakeDatabase

NOW = datetime(2026, 3, 1, tzinfo=UTC)


@pytest.fixture
async def service(make_database: MakeDatabase, tmp_path: Path) -> AsyncIterator[Trial]:
    dsn = await make_database("console")
    async with trial(SERVICE, dsn, tmp_path, clock=FixedClock(NOW)) as running:
        yield running


class Someone:
    """Signed in, with an authenticator app and a key."""

    def __init__(self, browser: Browser, app: pyotp.TOTP, key: Authenticator) -> None:
        self.browser, self.app, self.key = browser, app, key

    @property
    def code(self) -> str:
        return self.app.at(self.browser.service.context.clock.now())

    async def json(self, path: str, **body: Any) -> Answer:
        headers = {"Origin": self.browser.origin, "X-CSRF-Token": self.browser.token}
        headers["Content-Type"] = "application/json"
        return await self.browser.send("POST", path, orjson.dumps(body), headers)

    async def prove(self, digest: str) -> Answer:
        """With the key, as the page's script does."""
        options = (await self.json("/step-up/key/options", digest=digest)).json
        answer = await self.json("/step-up/key", digest=digest, credential=self.key.get(options))
        if answer.status == 200:
            self.browser.token = answer.json["csrf"]
        return answer


@pytest.fixture
async def someone(service: Trial) -> Someone:
    browser, key = await signed_in(service), Authenticator()
    account_id = browser.account_id
    assert account_id is not None
    session_id = await service.context.pool.fetchval("SELECT session_id FROM session")
    person = Person(
        account_id, session_id, "Ada", "a@b", Caller(f"account:{account_id}", frozenset())
    )
    own = service.parts.values[OWN_FACTORS]
    app = pyotp.TOTP(await own.offer_code(person))
    await own.accept_code(person, app.at(NOW))
    await own.register(person, "Blue key", key.create(await own.key_options(person)))
    later(service, timedelta(minutes=1))
    return Someone(browser, app, key)


async def _key_id(service: Trial) -> str:
    return str(await service.context.pool.fetchval("SELECT passkey_id FROM passkey"))


async def _keys(service: Trial) -> int:
    return int(await service.context.pool.fetchval("SELECT count(*) FROM passkey"))


def _digest(answer: Answer) -> str:
    found: list[str] = re.findall(r'"digest": "([0-9a-f]{64})"', html.unescape(answer.text))
    return found[0]


async def test_nothing_happens_before_it(service: Trial, someone: Someone) -> None:
    path = f"/me/factors/keys/{await _key_id(service)}/remove"
    answer = await someone.browser.post(path)
    assert answer.status == 403
    assert "Nothing was done yet" in answer.text
    assert f'action="{path}"' in answer.text
    assert await _keys(service) == 1


async def test_a_code_in_the_form_is_for_that_form(service: Trial, someone: Someone) -> None:
    path = f"/me/factors/keys/{await _key_id(service)}/remove"
    before, code = dict(someone.browser.cookies), someone.code
    wrong = await someone.browser.post(path, {"step_up_code": "000000"})
    assert (wrong.status, "The code is wrong" in wrong.text) == (403, True)
    assert (await someone.browser.post(path, {"step_up_code": code})).status == 303
    assert await _keys(service) == 0
    assert someone.browser.cookies != before
    await someone.browser.get("/me/factors")
    again = await someone.browser.post("/me/factors/code/offer", {"step_up_code": code})
    assert again.status == 403
    someone.browser.cookies = before
    assert (await someone.browser.get("/")).status == 401


async def test_a_key_proves_one_request_once(service: Trial, someone: Someone) -> None:
    fields = {"name": "Red key"}
    asked = await someone.browser.post("/me/factors/keys/add", fields)
    assert '<input type="hidden" name="name" value="Red key">' in asked.text
    assert (await someone.prove(_digest(asked))).status == 200
    other = await someone.browser.post("/me/factors/keys/add", {"name": "Other key"})
    assert other.status == 403
    passed = await someone.browser.post("/me/factors/keys/add", fields)
    assert (passed.status, "Register it" in passed.text) == (200, True)
    assert (await someone.browser.post("/me/factors/keys/add", fields)).status == 403


async def test_it_is_over_after_two_minutes(service: Trial, someone: Someone) -> None:
    path = f"/me/factors/keys/{await _key_id(service)}/remove"
    digest = _digest(await someone.browser.post(path))
    await someone.prove(digest)
    later(service, LIFETIME)
    assert (await someone.browser.post(path)).status == 403
    await someone.prove(digest)
    later(service, LIFETIME - timedelta(seconds=1))
    assert (await someone.browser.post(path)).status == 303


async def test_it_belongs_to_one_session(service: Trial, someone: Someone) -> None:
    path = f"/me/factors/keys/{await _key_id(service)}/remove"
    await someone.prove(_digest(await someone.browser.post(path)))
    signing_in = service.parts.values[SIGNING_IN]
    other = Browser(service)
    async with transaction(service.context.pool) as tx:
        other.cookies["muster"] = await signing_in._sessions.begin(
            tx, someone.browser.account_id, "test", Visit(None, None), proven=True
        )
    await other.get("/me/factors")
    assert (await other.post(path)).status == 403
    assert await _keys(service) == 1


async def test_a_challenge_is_for_its_digest(service: Trial, someone: Someone) -> None:
    path = f"/me/factors/keys/{await _key_id(service)}/remove"
    digest = _digest(await someone.browser.post(path))
    harmless = digest_of("POST", "/something/else", [])
    options = (await someone.json("/step-up/key/options", digest=harmless)).json
    credential = someone.key.get(options)
    answer = await someone.json("/step-up/key", digest=digest, credential=credential)
    assert (answer.status, answer.json["code"]) == (403, "key_refused")
    assert (await someone.browser.post(path)).status == 403


async def test_a_new_key_needs_the_challenge_of_its_step_up(
    service: Trial, someone: Someone
) -> None:
    new = Authenticator(credential_id=b"mallory's")
    made_up = new.create({"challenge": "AAAA"})
    answer = await someone.json("/me/factors/keys", name="Evil", credential=made_up)
    assert answer.status == 403
    fields = {"name": "Red", "step_up_code": someone.code}
    page = await someone.browser.post("/me/factors/keys/add", fields)
    [options] = re.findall(r'data-key-options="([^"]+)"', page.text)
    credential = new.create(orjson.loads(html.unescape(options)))
    assert (await someone.json("/me/factors/keys", name="Red", credential=credential)).status == 200
    assert "Red" in (await someone.browser.get("/me/factors")).text


async def test_the_last_factor_stays(service: Trial, someone: Someone) -> None:
    path = f"/me/factors/keys/{await _key_id(service)}/remove"
    code = {"step_up_code": someone.code}
    assert (await someone.browser.post("/me/factors/code/remove", code)).status == 303
    await someone.browser.get("/me/factors")
    asked = await someone.browser.post(path)
    await someone.prove(_digest(asked))
    refused = await someone.browser.post(path)
    assert (refused.status, "only second factor" in refused.text) == (409, True)
    assert await _keys(service) == 1


async def test_all_of_it_is_audited_without_secrets(service: Trial, someone: Someone) -> None:
    code = {"step_up_code": someone.code}
    await someone.browser.post("/me/factors/code/remove", code)
    async with service.context.pool.acquire() as connection:
        told = await outbox.read(connection, "console")
    actions = [event.action for event in told if isinstance(event, AuditRecorded)]
    assert actions == ["factor.register", "factor.register", "session.step_up", "factor.remove"]
    assert all(someone.app.secret not in event.model_dump_json() for event in told)


def test_digests_are_of_everything_in_its_place() -> None:
    base = digest_of("POST", "/a", [("x", "1"), ("y", "2")])
    others = [
        digest_of("PUT", "/a", [("x", "1"), ("y", "2")]),
        digest_of("POST", "/a?", [("x", "1"), ("y", "2")]),
        digest_of("POST", "/a", [("y", "2"), ("x", "1")]),
        digest_of("POST", "/a", [("x", "1y"), ("", "2")]),
        digest_of("POST", "/a", [("x", "12")]),
        digest_of("POST", "/a", b"x=1&y=2"),
    ]
    assert base not in others
    assert len(set(others)) == len(others)
