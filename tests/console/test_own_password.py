"""One's own password, and the way of those who stopped between password and second factor."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyotp
import pytest

from services.console import codes
from services.console.app import SERVICE
from services.console.http.keys import SIGNING_IN
from services.console.passwords import Passwords
from services.console.setup import offer
from services.console.step_up import LIFETIME
from shared.db.pool import transaction
from shared.events.access import ViaRevoked
from shared.events.audit import AuditRecorded
from shared.runtime.clock import FixedClock
from shared.runtime.testing import Answer, Trial, trial
from tests.console.browsing import Browser, later, signed_in
from tests.console.by_provider import events, fields_of
from tools.embedded.testing import MakeDatabase

NOW = datetime(2026, 3, 1, tzinfo=UTC)
OLD, NEW = "a walk in the wet woods", "another walk in dry woods"
EMAIL = "ada@example.org"


@pytest.fixture
async def service(make_database: MakeDatabase, tmp_path: Path) -> AsyncIterator[Trial]:
    dsn = await make_database("console")
    async with trial(SERVICE, dsn, tmp_path, clock=FixedClock(NOW)) as running:
        yield running


async def _somebody(service: Trial) -> Browser:
    """Signed in, with a password."""
    browser = await signed_in(service)
    await service.context.pool.execute(
        "UPDATE account SET password_hash = $2, email = $3 WHERE account_id = $1",
        browser.account_id,
        await Passwords().hashed(OLD),
        EMAIL,
    )
    return browser


async def _ticket(browser: Browser) -> str:
    answer = await browser.post("/me/password/begin")
    return fields_of(answer)["ticket"]


async def _sign_in(service: Trial, password: str) -> tuple[Browser, Answer]:
    browser = Browser(service)
    await browser.get("/sign-in")
    return browser, await browser.post("/sign-in", {"email": EMAIL, "password": password})


async def test_it_needs_a_step_up(service: Trial) -> None:
    browser = await _somebody(service)
    answer = await browser.post("/me/password/begin")
    assert (answer.status, "Nothing was done yet" in answer.text) == (403, True)
    answer = await browser.post("/me/password", {"ticket": "x", "old": OLD, "new": NEW})
    assert answer.status == 403
    assert (await _sign_in(service, OLD))[1].status == 303


@pytest.mark.usefixtures("proven")
async def test_it_is_changed_and_other_sessions_end(service: Trial) -> None:
    browser = await _somebody(service)
    other, _ = await _sign_in(service, OLD)
    assert (await other.get("/second-factor")).status == 200
    before = browser.cookies["muster"]
    fields = {"ticket": await _ticket(browser), "old": OLD, "new": NEW}
    answer = await browser.post("/me/password", fields)
    assert (answer.status, answer.headers["Location"]) == (303, "/me/sessions")
    assert browser.cookies["muster"] != before
    assert (await browser.get("/me/sessions")).status == 200
    assert (await other.get("/second-factor")).status == 401
    assert (await _sign_in(service, OLD))[1].status == 401
    assert (await _sign_in(service, NEW))[1].status == 303
    assert len(await events(service, ViaRevoked)) == 1
    records = await events(service, AuditRecorded)
    assert [each.action for each in records] == ["password.change"]
    assert all(NEW not in each.model_dump_json() for each in records)
    assert (await browser.post("/me/password", fields)).status == 403, "once"


@pytest.mark.usefixtures("proven")
async def test_what_is_filled_in_wrongly_changes_nothing_and_is_asked_again(
    service: Trial,
) -> None:
    browser = await _somebody(service)
    ticket = await _ticket(browser)
    for old, new, status in (("not this one", NEW, 403), (OLD, "short", 422), ("", "", 403)):
        fields = {"ticket": ticket, "old": old, "new": new}
        answer = await browser.post("/me/password", fields)
        assert answer.status == status
        assert fields_of(answer)["ticket"] == ticket
        assert NEW not in answer.text
    fields = {"ticket": ticket, "old": OLD, "new": NEW}
    assert (await browser.post("/me/password", fields)).status == 303


@pytest.mark.usefixtures("proven")
async def test_the_step_up_is_over_after_two_minutes(service: Trial) -> None:
    browser = await _somebody(service)
    fields = {"ticket": await _ticket(browser), "old": OLD, "new": NEW}
    later(service, LIFETIME)
    answer = await browser.post("/me/password", fields)
    assert (answer.status, "too long ago" in answer.text) == (403, True)
    assert (await _sign_in(service, OLD))[1].status == 303


@pytest.mark.usefixtures("proven")
async def test_guessing_the_old_one_is_slowed_down(service: Trial) -> None:
    browser = await _somebody(service)
    ticket = await _ticket(browser)
    fields = {"ticket": ticket, "old": "guessed", "new": NEW}
    statuses = [(await browser.post("/me/password", fields)).status for _ in range(8)]
    assert statuses[0] == 403
    assert statuses[-1] == 429
    later(service, timedelta(minutes=2))
    renewed = {"ticket": await _ticket(browser), "old": OLD, "new": NEW}
    assert (await browser.post("/me/password", renewed)).status == 303


@pytest.mark.usefixtures("proven")
async def test_who_has_no_password_gets_none(service: Trial) -> None:
    browser = await signed_in(service)
    assert "without a password" in (await browser.get("/me/password")).text
    fields = {"ticket": await _ticket(browser), "old": "", "new": NEW}
    assert (await browser.post("/me/password", fields)).status == 409
    assert await service.context.pool.fetchval("SELECT password_hash FROM account") is None


async def test_who_left_before_the_first_factor_registers_it_after_the_password(
    service: Trial,
) -> None:
    """As decision 42 says."""
    async with transaction(service.context.pool) as tx:
        token = await offer(tx, service.context.clock)
    first = Browser(service)
    await first.get(f"/set-up/{token}")
    await first.post(f"/set-up/{token}", {"name": "Ada", "email": EMAIL, "password": OLD})
    later(service, timedelta(days=3))
    browser, answer = await _sign_in(service, OLD)
    assert answer.headers["Location"] == "/second-factor"
    assert "Choose what else proves" in (await browser.get("/second-factor")).text
    assert (await browser.get("/")).status == 401
    shown = await browser.post("/second-factor/offer")
    [secret] = re.findall(r"<code[^>]*>(\w+)</code>", shown.text)
    code = pyotp.TOTP(secret).at(service.context.clock.now())
    assert (await browser.post("/second-factor/confirm", {"code": code})).status == 303
    assert (await browser.get("/")).status == 200
    again, _ = await _sign_in(service, OLD)
    assert "Choose what else proves" not in (await again.get("/second-factor")).text


async def test_a_secret_on_offer_is_over_after_a_while(service: Trial) -> None:
    browser = await _somebody(service)
    kept = service.parts.values[SIGNING_IN].codes
    assert browser.account_id is not None
    app = pyotp.TOTP(await kept.offer(browser.account_id))
    later(service, codes.PATIENCE - timedelta(seconds=1))
    assert await kept.offered(browser.account_id) == app.secret
    later(service, timedelta(seconds=1))
    assert await kept.offered(browser.account_id) is None
    waiting, _ = await _sign_in(service, OLD)
    await waiting.get("/second-factor")
    code = app.at(service.context.clock.now())
    answer = await waiting.post("/second-factor/confirm", {"code": code})
    assert (answer.status, "Begin again" in answer.text) == (409, True)
    await service.run_job("sweep_offers")
    assert await service.context.pool.fetchval("SELECT count(*) FROM totp") == 0


async def test_the_sweep_leaves_what_counts(service: Trial) -> None:
    browser = await _somebody(service)
    kept = service.parts.values[SIGNING_IN].codes
    assert browser.account_id is not None
    app = pyotp.TOTP(await kept.offer(browser.account_id))
    async with transaction(service.context.pool) as tx:
        assert await kept.accept(tx, browser.account_id, app.at(NOW))
    await kept.offer(browser.account_id)
    await service.run_job("sweep_offers")
    assert await kept.offered(browser.account_id) is not None
    later(service, codes.PATIENCE)
    await service.run_job("sweep_offers")
    assert await kept.offered(browser.account_id) is None
    assert await kept.is_set(browser.account_id)
