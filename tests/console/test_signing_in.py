"""From the set-up link to a session that counts: passwords, codes, keys, guessing."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import orjson
import pyotp
import pytest
from argon2 import PasswordHasher

from services.console import passwords
from services.console.app import SERVICE
from services.console.http.keys import SIGNING_IN
from services.console.passkeys import PATIENCE
from services.console.sessions import UNPROVEN
from services.console.setup import LIFETIME, offer
from services.console.throttling import LONGEST, QUIET
from shared.bus import outbox
from shared.db.pool import transaction
from shared.events.audit import AuditRecorded
from shared.runtime.clock import FixedClock
from shared.runtime.problems import Problem
from shared.runtime.testing import Answer, Trial, trial
from tests.console.authenticator import Authenticator
from tests.console.browsing import Browser, later
from tools.embedded.testing import MakeDatabase

NOW = datetime(2026, 3, 1, tzinfo=UTC)
EMAIL, PASSWORD = "ada@example.org", "a walk in the wet woods"
OWNER = {"name": "Ada", "email": EMAIL, "password": PASSWORD}


@pytest.fixture
async def service(make_database: MakeDatabase, tmp_path: Path) -> AsyncIterator[Trial]:
    dsn = await make_database("console")
    async with trial(SERVICE, dsn, tmp_path, clock=FixedClock(NOW)) as running:
        yield running


async def _offer(service: Trial) -> str | None:
    async with transaction(service.context.pool) as tx:
        return await offer(tx, service.context.clock)


async def _opened(service: Trial, token: str | None) -> Browser:
    browser = Browser(service)
    assert (await browser.get(f"/set-up/{token}")).status == 200
    return browser


async def _claimed(service: Trial) -> Browser:
    """The browser of the owner, who has a password and no second factor yet."""
    token = await _offer(service)
    browser = await _opened(service, token)
    answer = await browser.post(f"/set-up/{token}", OWNER)
    assert (answer.status, answer.headers["Location"]) == (303, "/second-factor")
    await browser.get("/second-factor")
    return browser


def _secret(answer: Answer) -> pyotp.TOTP:
    [secret] = re.findall(r"<code[^>]*>(\w+)</code>", answer.text)
    return pyotp.TOTP(secret)


def _code(service: Trial, app: pyotp.TOTP, steps: int = 0) -> str:
    return app.at(service.context.clock.now(), counter_offset=steps)


async def _with_app(service: Trial) -> tuple[Browser, pyotp.TOTP]:
    """An owner who is signed in and has an authenticator app."""
    browser = await _claimed(service)
    app = _secret(await browser.post("/second-factor/offer"))
    answer = await browser.post("/second-factor/confirm", {"code": _code(service, app)})
    assert answer.status == 303
    later(service, timedelta(minutes=1))
    return browser, app


async def _ask(browser: Browser, path: str, **body: Any) -> Answer:
    headers = {"Origin": browser.origin, "X-CSRF-Token": browser.token}
    headers["Content-Type"] = "application/json"
    return await browser.send("POST", path, orjson.dumps(body), headers)


async def _with_key(service: Trial) -> tuple[Browser, Authenticator]:
    browser, key = await _claimed(service), Authenticator()
    options = await _ask(browser, "/second-factor/new-key/options")
    answer = await _ask(browser, "/second-factor/new-key", credential=key.create(options.json))
    assert answer.status == 200, answer.text
    return browser, key


async def _password(
    service: Trial, password: str = PASSWORD, **more: str
) -> tuple[Browser, Answer]:
    browser = Browser(service)
    await browser.get("/sign-in")
    fields = {"email": EMAIL, "password": password, **more}
    return browser, await browser.post("/sign-in", fields)


async def _audit(service: Trial) -> list[AuditRecorded]:
    async with service.context.pool.acquire() as connection:
        told = await outbox.read(connection, "console")
    return [event for event in told if isinstance(event, AuditRecorded)]


async def test_the_link_makes_an_owner_who_needs_a_second_factor(service: Trial) -> None:
    browser = await _claimed(service)
    assert (await browser.get("/")).status == 401
    answer = await browser.post("/second-factor/offer")
    assert 'src="data:image/svg+xml' in answer.text
    wrong = await browser.post("/second-factor/confirm", {"code": "000000"})
    assert (wrong.status, "The code is wrong" in wrong.text) == (403, True)
    code = _code(service, _secret(wrong))
    assert (await browser.post("/second-factor/confirm", {"code": code})).status == 303
    assert "Ada" in (await browser.get("/")).text
    assert await _offer(service) is None
    actions = [(each.action, each.source) for each in await _audit(service)]
    assert [action for action, _ in actions] == [
        "console.setup",
        "factor.register",
        "session.begin",
    ]
    assert {source for _, source in actions} == {"127.0.0.1"}


async def test_of_many_at_once_one_is_the_owner(service: Trial) -> None:
    token = await _offer(service)
    browsers = [await _opened(service, token) for _ in range(8)]
    answers = await asyncio.gather(*(b.post(f"/set-up/{token}", OWNER) for b in browsers))
    assert sorted(answer.status for answer in answers) == [303] + [403] * 7
    assert await service.context.pool.fetchval("SELECT count(*) FROM account") == 1


async def test_the_link_dies_after_an_hour_and_by_the_next(service: Trial) -> None:
    first, second = await _offer(service), await _offer(service)
    browser = Browser(service)
    assert (await browser.get(f"/set-up/{first}")).status == 403
    later(service, LIFETIME)
    assert (await browser.get(f"/set-up/{second}")).status == 403
    third = await _offer(service)
    later(service, LIFETIME - timedelta(seconds=1))
    assert (await browser.get(f"/set-up/{third}")).status == 200


async def test_a_wrong_link_makes_nobody(service: Trial) -> None:
    await _offer(service)
    browser = Browser(service)
    await browser.get("/sign-in")
    assert (await browser.post("/set-up/wrong", OWNER)).status == 403
    assert await service.context.pool.fetchval("SELECT count(*) FROM account") == 0


async def test_a_form_filled_in_badly_spends_nothing(service: Trial) -> None:
    token = await _offer(service)
    browser = await _opened(service, token)
    for wrong in ({"password": "short"}, {"email": "nobody"}, {"name": ""}, {"password": "a" * 30}):
        assert (await browser.post(f"/set-up/{token}", OWNER | wrong)).status == 422, wrong
    assert (await browser.post(f"/set-up/{token}", OWNER)).status == 303


async def test_secrets_are_stored_nowhere_in_clear(service: Trial) -> None:
    token = await _offer(service)
    browser = await _opened(service, token)
    assert str(token) not in str(
        await service.context.pool.fetchval("SELECT setup::text FROM setup")
    )
    await browser.post(f"/set-up/{token}", OWNER)
    await browser.get("/second-factor")
    app = _secret(await browser.post("/second-factor/offer"))
    await browser.post("/second-factor/confirm", {"code": _code(service, app)})
    kept = await service.context.pool.fetchval(
        "SELECT string_agg(row, ' ') FROM (SELECT account::text AS row FROM account UNION ALL "
        "SELECT totp::text FROM totp UNION ALL SELECT session::text FROM session) AS rows"
    )
    assert PASSWORD not in kept
    assert app.secret.encode().hex() not in kept
    assert kept.count("$argon2id$v=19$m=65536,t=3,p=4$") == 1
    for event in await _audit(service):
        assert PASSWORD not in event.model_dump_json()
        assert app.secret not in event.model_dump_json()


async def test_a_password_and_a_code_sign_in(service: Trial) -> None:
    _, app = await _with_app(service)
    browser, answer = await _password(service, next="/me/sessions?a=1")
    assert answer.headers["Location"] == "/second-factor?next=%2Fme%2Fsessions%3Fa%3D1"
    before = browser.cookies["muster"]
    assert (await browser.get("/")).status == 401
    await browser.get(answer.headers["Location"])
    code = _code(service, app)
    answer = await browser.post("/second-factor/code", {"code": code, "next": "/me/sessions?a=1"})
    assert (answer.status, answer.headers["Location"]) == (303, "/me/sessions?a=1")
    assert browser.cookies["muster"] != before
    assert (await browser.get("/")).status == 200
    browser.cookies["muster"] = before
    assert (await browser.get("/")).status == 401


async def test_a_code_counts_once_and_near_its_time(service: Trial) -> None:
    _, app = await _with_app(service)
    browser, _ = await _password(service)
    await browser.get("/second-factor")
    for steps in (-2, 2):
        answer = await browser.post("/second-factor/code", {"code": _code(service, app, steps)})
        assert answer.status == 403, steps
    code = _code(service, app, -1)
    shown = f"{code[:3]} {code[3:]}"
    assert (await browser.post("/second-factor/code", {"code": shown})).status == 303
    again, _ = await _password(service)
    await again.get("/second-factor")
    assert (await again.post("/second-factor/code", {"code": code})).status == 403
    later_code = _code(service, app, 1)
    assert (await again.post("/second-factor/code", {"code": later_code})).status == 303
    third, _ = await _password(service)
    await third.get("/second-factor")
    assert (await third.post("/second-factor/code", {"code": _code(service, app)})).status == 403


async def test_who_knows_the_password_alone_adds_no_factor(service: Trial) -> None:
    await _with_app(service)
    browser, _ = await _password(service)
    await browser.get("/second-factor")
    answer = await browser.post("/second-factor/offer")
    assert "data:image" not in answer.text
    options = (await _ask(browser, "/second-factor/new-key/options")).json
    refused = await _ask(
        browser, "/second-factor/new-key", credential=Authenticator().create(options)
    )
    assert (refused.status, refused.json["code"]) == (409, "factor_there")
    assert (await browser.get("/")).status == 401


async def test_the_way_to_the_second_factor_is_short(service: Trial) -> None:
    _, app = await _with_app(service)
    browser, _ = await _password(service)
    later(service, UNPROVEN)
    answer = await browser.post("/second-factor/code", {"code": _code(service, app)})
    assert answer.status in {401, 403}
    assert (await browser.get("/")).status == 401


async def test_a_key_signs_in(service: Trial) -> None:
    first, key = await _with_key(service)
    assert (await first.get("/")).status == 200
    browser, _ = await _password(service)
    await browser.get("/second-factor")
    options = (await _ask(browser, "/second-factor/key/options")).json
    assert options["userVerification"] == "required"
    assert options["rpId"] == "localhost"
    credential = key.get(options)
    assert (await _ask(browser, "/second-factor/key", credential=credential)).status == 200
    assert (await browser.get("/")).status == 200


@pytest.mark.parametrize(
    "wrong",
    [
        "origin",
        "host",
        "unverified",
        "other key",
        "counter",
        "replay",
        "late",
        "unknown",
        "rubbish",
    ],
)
async def test_a_key_that_answers_wrongly_is_refused(service: Trial, wrong: str) -> None:
    _, key = await _with_key(service)
    if wrong == "counter":
        key.count = 5
        good, _ = await _password(service)
        await good.get("/second-factor")
        options = (await _ask(good, "/second-factor/key/options")).json
        assert (await _ask(good, "/second-factor/key", credential=key.get(options))).status == 200
        key.count = 3
    browser, _ = await _password(service)
    await browser.get("/second-factor")
    options = (await _ask(browser, "/second-factor/key/options")).json
    bad = {
        "origin": Authenticator(origin="https://evil.example", key=key.key),
        "host": Authenticator(host="evil.example", key=key.key),
        "unverified": Authenticator(verifies=False, key=key.key),
        "other key": Authenticator(),
        "unknown": Authenticator(credential_id=b"another", key=key.key),
    }.get(wrong, key)
    credential = bad.get(options)
    if wrong == "replay":
        await _ask(browser, "/second-factor/key/options")
    if wrong == "late":
        later(service, PATIENCE)
    if wrong == "rubbish":
        credential["response"]["authenticatorData"] = "AA"
    answer = await _ask(browser, "/second-factor/key", credential=credential)
    assert (answer.status, answer.json["code"]) == (403, "key_refused")
    assert (await browser.get("/")).status == 401


@pytest.mark.parametrize("wrong", ["origin", "unverified", "late", "rubbish"])
async def test_a_key_that_registers_wrongly_is_refused(service: Trial, wrong: str) -> None:
    browser = await _claimed(service)
    options = (await _ask(browser, "/second-factor/new-key/options")).json
    key = Authenticator(verifies=wrong != "unverified")
    if wrong == "origin":
        key.origin = "https://evil.example"
    credential = key.create(options)
    if wrong == "late":
        later(service, PATIENCE)
    if wrong == "rubbish":
        credential["response"]["attestationObject"] = "oA"
    answer = await _ask(browser, "/second-factor/new-key", credential=credential)
    assert (answer.status, answer.json["code"]) == (403, "key_refused")
    assert (await browser.get("/")).status == 401


async def test_all_wrong_passwords_are_refused_alike(
    service: Trial, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And after the same work: one hash is computed, also for nobody."""
    await _claimed(service)
    worked, verify = [], passwords._verify

    def watched(kept: str, given: str) -> bool:
        worked.append(kept)
        return verify(kept, given)

    monkeypatch.setattr(passwords, "_verify", watched)
    _, wrong = await _password(service, "not this one")
    _, unknown = await _password(service, email="nobody@example.org")
    await service.context.pool.execute("UPDATE account SET disabled_at = now()")
    _, disabled = await _password(service)
    assert {wrong.status, unknown.status, disabled.status} == {401}
    texts = {
        re.sub(r'value="[^"]*"|-Token": "[^"]*"', "", each.text)
        for each in (wrong, unknown, disabled)
    }
    assert len(texts) == 1
    assert "The e-mail or the password is wrong." in wrong.text
    assert [kept[:30] for kept in worked] == ["$argon2id$v=19$m=65536,t=3,p=4"] * 3


async def test_an_older_hash_is_made_anew(service: Trial) -> None:
    await _claimed(service)
    weak = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1).hash(PASSWORD)
    await service.context.pool.execute("UPDATE account SET password_hash = $1", weak)
    _, answer = await _password(service)
    assert answer.status == 303
    kept = await service.context.pool.fetchval("SELECT password_hash FROM account")
    assert kept.startswith("$argon2id$v=19$m=65536,t=3,p=4$")
    _, answer = await _password(service)
    assert answer.status == 303


async def test_guessing_is_slowed_down_and_never_locked_out(service: Trial) -> None:
    await _claimed(service)
    statuses = [(await _password(service, "wrong"))[1].status for _ in range(8)]
    assert statuses == [401] * 6 + [429] * 2
    _, slowed = await _password(service)
    assert slowed.status == 429
    assert int(slowed.headers["Retry-After"]) >= 1
    assert "nothing is locked" in slowed.text
    later(service, LONGEST)
    _, answer = await _password(service)
    assert answer.status == 303
    statuses = [(await _password(service, "wrong"))[1].status for _ in range(6)]
    assert statuses == [401] * 6


async def test_who_guesses_elsewhere_keeps_nobody_out(service: Trial) -> None:
    await _claimed(service)
    signing_in = service.parts.values[SIGNING_IN]
    throttle = signing_in._throttle
    for _ in range(6):
        await throttle.charge(EMAIL, "198.51.100.9")
    with pytest.raises(Problem, match="429"):
        await throttle.charge(EMAIL, "198.51.100.9")
    for number in range(25):
        await throttle.charge(f"{number}@example.org", "198.51.100.9")
    with pytest.raises(Problem, match="429"):
        await throttle.charge("another@example.org", "198.51.100.9")
    _, answer = await _password(service)
    assert answer.status == 303


async def test_guesses_at_once_are_no_more_than_one_after_the_other(service: Trial) -> None:
    _, app = await _with_app(service)
    browser, _ = await _password(service)
    await browser.get("/second-factor")
    guesses = [browser.post("/second-factor/code", {"code": f"{n:06}"}) for n in range(30)]
    statuses = sorted(answer.status for answer in await asyncio.gather(*guesses))
    assert statuses == [403] * 6 + [429] * 24
    later(service, LONGEST)
    answer = await browser.post("/second-factor/code", {"code": _code(service, app)})
    assert answer.status == 303


async def test_failures_are_forgotten(service: Trial) -> None:
    await _claimed(service)
    for _ in range(3):
        await _password(service, "wrong")
    later(service, QUIET + timedelta(seconds=1))
    await service.run_job("sweep_throttles")
    assert await service.context.pool.fetchval("SELECT count(*) FROM throttle") == 0


async def test_codes_are_guessed_slowly_too(service: Trial) -> None:
    _, app = await _with_app(service)
    browser, _ = await _password(service)
    await browser.get("/second-factor")
    wrong = {"code": "000000"}
    statuses = [(await browser.post("/second-factor/code", wrong)).status for _ in range(7)]
    assert statuses == [403] * 6 + [429]
    fresh, _ = await _password(service)
    await fresh.get("/second-factor")
    answer = await fresh.post("/second-factor/code", {"code": _code(service, app)})
    assert answer.status == 429


@pytest.mark.parametrize("password", ["short", "aaaaaaaaaaaaaaaa", "ada@example.org", "x" * 201])
def test_weak_passwords_are_refused(password: str) -> None:
    with pytest.raises(Problem, match="password_weak"):
        passwords.check(password, "Ada", EMAIL)
