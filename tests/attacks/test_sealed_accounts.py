"""Break-glass is no back door: once each, told to all, and out of the reach of what is stolen."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from services.console.app import SERVICE
from shared.events.people import SealedAccountUsed
from shared.runtime.clock import FixedClock
from shared.runtime.testing import Trial, trial
from tests.console.browsing import Browser, signed_in
from tests.console.by_provider import events
from tests.console.conftest import proven
from tests.console.test_sealed import PAGE, SEALED, _ask, _made, _registered
from tests.console.test_webhooks import PAGE as WEBHOOKS
from tests.console.test_webhooks import _told, receivers
from tools.embedded.testing import MakeDatabase

__all__ = ["proven", "receivers"]
pytestmark = pytest.mark.usefixtures("proven")
AT_ONCE = 8


@pytest.fixture
async def service(make_database: MakeDatabase, tmp_path: Path) -> AsyncIterator[Trial]:
    clock, environ = FixedClock(datetime(2026, 3, 1, tzinfo=UTC)), {"MUSTER_OUTBOUND_LOOPBACK": "1"}
    dsn = await make_database("console")
    async with trial(SERVICE, dsn, tmp_path, clock=clock, environ=environ) as running:
        yield running


async def _opened_by(service: Trial, method: str) -> int:
    count = "SELECT count(*) FROM session WHERE method = $1"
    return int(await service.context.pool.fetchval(count, method))


async def test_one_answer_of_a_key_opens_it_once(service: Trial) -> None:
    _, link = await _made(await signed_in(service, role="owner"))
    _, key = await _registered(link, service)
    used = len(await events(service, SealedAccountUsed))
    sessions = await _opened_by(service, "sealed+key")  # registering has opened it too
    browser = Browser(service)
    await browser.get("/sealed")
    credential = key.get((await _ask(browser, "/sealed/options")).json)
    headers = {"Origin": browser.origin, "X-CSRF-Token": browser.token}
    assert headers["X-CSRF-Token"]
    thieves = []
    for _ in range(AT_ONCE):
        thief = Browser(service)
        thief.cookies, thief.token = dict(browser.cookies), browser.token
        thieves.append(thief)
    answers = await asyncio.gather(
        *(_ask(thief, "/sealed", credential=credential) for thief in thieves)
    )
    statuses = sorted(answer.status for answer in answers)
    assert (statuses[0], set(statuses[1:])) == (200, {403, 429} & set(statuses))
    assert await _opened_by(service, "sealed+key") == sessions + 1
    assert len(await events(service, SealedAccountUsed)) == used + 1


async def test_one_link_lets_one_register(service: Trial) -> None:
    _, link = await _made(await signed_in(service, role="owner"))
    browsers = [Browser(service) for _ in range(AT_ONCE)]
    for browser in browsers:
        assert (await browser.get(link)).status == 200
    answers = await asyncio.gather(*(browser.post(link) for browser in browsers))
    assert sorted(answer.status for answer in answers) == [303] + [403] * (AT_ONCE - 1)
    assert await _opened_by(service, "sealed") == 1


async def test_a_key_that_was_copied_is_seen(service: Trial) -> None:
    """Its count goes back: either it or the other is a copy."""
    _, link = await _made(await signed_in(service, role="owner"))
    _, key = await _registered(link, service)
    for count, opens in ((7, True), (8, True), (7, False), (8, False)):
        browser = Browser(service)
        await browser.get("/sealed")
        key.count = count - 1  # it counts before it answers
        options = (await _ask(browser, "/sealed/options")).json
        answer = await _ask(browser, "/sealed", credential=key.get(options))
        assert (answer.status == 200) == opens, count


async def test_it_is_told_outside_whoever_is_switched_off(service: Trial, receivers: Any) -> None:
    owner, receiver = await signed_in(service, role="owner"), await receivers()
    fields = {"name": "SIEM", "url": receiver.url, "event_type": [SealedAccountUsed.TYPE]}
    answer = await owner.post(WEBHOOKS, fields)
    [webhook_id] = re.findall(r'href="/settings/webhooks/([\w-]{36})"', answer.text)
    await owner.post(f"{WEBHOOKS}/{webhook_id}/use", {"enabled": "false"})
    _, link = await _made(await signed_in(service, role="owner"))
    await _registered(link, service)
    for event in await events(service, SealedAccountUsed):
        await service.hears(event, service="console")
    await _told(service)
    assert [b"Safe in Berlin" in body for _, body in receiver.heard] == [True]


async def test_no_token_makes_or_opens_one(service: Trial) -> None:
    everything = {"Authorization": f"Bearer {service.token()}"}
    _, link = await _made(await signed_in(service, role="owner"))
    for path in (PAGE, "/sealed", "/sealed/options", link):
        answer = await service.send("api", "POST", path, b"name=x&email=x@example.org", everything)
        assert answer.status in {401, 403}, path
    count = "SELECT count(*) FROM account WHERE sealed"
    assert await service.context.pool.fetchval(count) == 1
    assert await _opened_by(service, "sealed") == 0
    routes = [route for route in SERVICE.routes if "sealed" in route.path and not route.page]
    assert routes == []


@pytest.mark.parametrize("held", [["people.write", "role.grant"], ["people.write", "role.write"]])
async def test_who_does_not_hold_all_makes_and_resets_none(service: Trial, held: list[str]) -> None:
    account_id, _ = await _made(await signed_in(service, role="owner"))
    thief = await signed_in(service, everywhere=[*held, "people.read"])
    made = await thief.post(PAGE, SEALED | {"email": "mallory@example.org"})
    assert made.status == 403
    for what in ("reset", "disable"):
        assert (await thief.post(f"/settings/people/{account_id}/{what}")).status == 403, what
    links = "SELECT count(*) FROM account_link"
    assert await service.context.pool.fetchval(links) == 1
