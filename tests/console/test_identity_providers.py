"""Which providers there are and whose identities are whose: by few, stepped up, told, sealed."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from services.console.app import SERVICE
from services.console.http.keys import PROVIDERS
from services.console.step_up import LIFETIME
from shared.events.access import AccountState
from shared.events.audit import AuditRecorded
from shared.events.people import ProviderChanged
from shared.runtime.clock import FixedClock
from shared.runtime.testing import Trial, trial
from tests.console.browsing import Browser, later, signed_in
from tests.console.by_provider import PLACE, Company, address, company, events, fields_of
from tests.console.idp import CLIENT, SECRET
from tools.embedded.testing import MakeDatabase


@pytest.fixture
async def service(make_database: MakeDatabase, tmp_path: Path) -> AsyncIterator[Trial]:
    """Without the fixture `proven`: every request is asked about."""
    dsn, clock = await make_database("console"), FixedClock(datetime(2026, 3, 1, tzinfo=UTC))
    async with trial(SERVICE, dsn, tmp_path, clock=clock) as running:
        yield running


@pytest.fixture
async def here(make_database: MakeDatabase, tmp_path: Path, proven: None) -> AsyncIterator[Company]:
    async with company(await make_database("console"), tmp_path) as found:
        yield found


async def _linked(here: Company) -> tuple[Browser, str]:
    somebody = await signed_in(here.service, role="read_only", name="Diana")
    subject = await here.subject()
    assert (await here.link(somebody.account_id, subject)).status == 303
    return somebody, subject


async def _state(here: Company, browser: Browser) -> AccountState:
    told = await events(here.service, AccountState)
    state = [each for each in told if each.account_id == browser.account_id][-1]
    assert isinstance(state, AccountState)
    return state


async def test_every_change_needs_a_step_up(service: Trial) -> None:
    owner = await signed_in(service, role="owner")
    await service.context.pool.execute(
        "INSERT INTO identity_provider (provider_id, name, issuer, client_id, client_secret, "
        "made_at, changed_at, enabled) VALUES (gen_random_uuid(), 'C', 'https://idp.example', 'm', "
        "'x', now(), now(), true)"
    )
    one = await service.context.pool.fetchval("SELECT provider_id FROM identity_provider")
    person = f"/settings/people/{owner.account_id}/identities/{one}"
    requests = {
        f"{PLACE}/{one}/client": {"client_id": "x"},
        f"{PLACE}/{one}/use": {"enabled": "false"},
        f"{person}/link": {"subject": "x"},
        f"{person}/unlink": {"subject": "x"},
        f"/me/identities/{one}/link": {},
        "/me/identities/unlink": {"provider": str(one), "subject": "x"},
    }
    for path, fields in requests.items():
        answer = await owner.post(path, fields)
        assert (answer.status, "Nothing was done yet" in answer.text) == (403, True), path
    secret = {"client_id": "x", "secret": "y", "ticket": "z"}
    assert (await owner.post(f"{PLACE}/{one}/secret", secret)).status == 403
    assert await service.context.pool.fetchval("SELECT client_id FROM identity_provider") == "m"


async def test_only_who_may_changes_them(service: Trial) -> None:
    reader = await signed_in(service, everywhere=["people.read"])
    shown = await reader.get(PLACE)
    assert "This needs the permission identity.write." in shown.text
    fields = {"name": "C", "issuer": "https://idp.example"}
    assert (await reader.post(PLACE, fields)).status == 403
    assert (await (await signed_in(service)).get(PLACE)).status == 403


@pytest.mark.parametrize(
    "issuer", ["idp.example", "ftp://idp.example", "https://10.0.0.1", "https://a.b/?c=d", "https:"]
)
async def test_an_issuer_that_cannot_be_is_refused(service: Trial, issuer: str) -> None:
    """Before anybody is asked for a second factor; private addresses are not even dialled."""
    owner = await signed_in(service, role="owner")
    answer = await owner.post(PLACE, {"name": "C", "issuer": issuer})
    assert answer.status in {422, 502}, answer.text
    assert await service.context.pool.fetchval("SELECT count(*) FROM identity_provider") == 0


async def test_an_issuer_must_say_that_it_is_this_one(here: Company) -> None:
    fields = {"name": "C", "issuer": here.idp.issuer + "/"}
    answer = await here.owner.post(PLACE, fields)
    assert (answer.status, "cannot be asked" in answer.text) == (502, True)
    same = await here.owner.post(PLACE, {"name": "C", "issuer": here.idp.issuer})
    assert (same.status, "with this issuer" in same.text) == (409, True)


async def test_the_secret_is_sealed_and_shown_nowhere(here: Company) -> None:
    kept = await here.service.context.pool.fetchval(
        "SELECT identity_provider::text FROM identity_provider"
    )
    assert SECRET.encode().hex() not in kept
    assert SECRET not in kept
    shown = await here.owner.get(f"{PLACE}/{here.provider_id}")
    assert SECRET not in shown.text
    listed = await here.service.call("GET", "/api/v1/console/identity-providers")
    assert [each["client_id"] for each in listed.json["items"]] == [CLIENT]
    assert SECRET not in listed.text
    records = await events(here.service, AuditRecorded)
    changes = [each for each in records if each.action.startswith("identity_provider.")]
    assert [each.action.partition(".")[2] for each in changes] == ["create", "client", "use"]
    assert changes[-1].after["client_secret"] == "***"
    told = await events(here.service, ProviderChanged)
    assert [(each.change, each.enabled) for each in told][-1] == ("identity_provider.use", True)
    assert {each.by for each in told} == {f"account:{here.owner.account_id}"}
    assert all(SECRET not in each.model_dump_json() for each in (*records, *told))


async def test_a_ticket_is_for_one_secret_of_one_client_for_two_minutes(here: Company) -> None:
    begin, end = f"{PLACE}/{here.provider_id}/client", f"{PLACE}/{here.provider_id}/secret"

    async def ticket() -> dict[str, str]:
        fields = fields_of(await here.owner.post(begin, {"client_id": "another"}))
        return fields | {"secret": "new"}

    fields = await ticket()
    assert (await here.owner.post(end, fields | {"client_id": "third"})).status == 403
    assert (await here.owner.post(end, fields | {"ticket": "x"})).status == 403
    assert (await here.owner.post(end, fields)).status == 403, "it was spent by the wrong one"
    other = await signed_in(here.service, role="owner")
    fields = await ticket()
    assert (await other.post(end, fields)).status == 403
    assert (await here.owner.post(end, fields)).status == 303
    fields = await ticket()
    later(here.service, LIFETIME)
    assert (await here.owner.post(end, fields)).status == 403


async def test_without_a_client_it_is_not_used(here: Company) -> None:
    await here.service.context.pool.execute(
        "UPDATE identity_provider SET enabled = false, client_id = NULL, client_secret = NULL"
    )
    answer = await here.use(enabled="true")
    assert (answer.status, "client id and secret first" in answer.text) == (409, True)
    assert await here.service.parts.values[PROVIDERS].in_use() == []


async def test_only_who_holds_all_that_an_account_holds_links_it(here: Company) -> None:
    """Else an admin signed in as the owner, by an identity of their own."""
    admin = await signed_in(here.service, role="admin")
    path = f"/settings/people/{here.owner.account_id}/identities/{here.provider_id}/link"
    answer = await admin.post(path, {"subject": "mine"})
    assert (answer.status, "guard.unfreeze" in answer.text) == (403, True)
    assert await here.service.context.pool.fetchval("SELECT count(*) FROM identity") == 0


async def test_an_identity_is_of_one_account(here: Company) -> None:
    _, subject = await _linked(here)
    other = await signed_in(here.service, role="read_only")
    answer = await here.link(other.account_id, subject)
    assert (answer.status, "belongs to an account already" in answer.text) == (409, True)


async def test_links_are_told_with_their_age_and_without_who(here: Company) -> None:
    somebody, subject = await _linked(here)
    state = await _state(here, somebody)
    [identity] = state.identities
    assert str(identity.provider_id) == here.provider_id
    assert identity.since == here.service.context.clock.now()
    assert subject not in state.model_dump_json()
    shown = await here.owner.get(f"/settings/people/{somebody.account_id}/identities")
    assert subject in shown.text


async def test_unlinking_signs_out_and_lets_nobody_in(here: Company) -> None:
    somebody, subject = await _linked(here)
    browser, given = await here.gone()
    path = f"/settings/people/{somebody.account_id}/identities/{here.provider_id}/unlink"
    assert (await here.owner.post(path, {"subject": subject})).status == 303
    assert (await somebody.get("/me/sessions")).status == 401
    assert (await here.brought(browser, given)).status == 403
    assert (await here.owner.post(path, {"subject": subject})).status == 404
    assert (await _state(here, somebody)).identities == []


async def test_one_links_ones_own(here: Company) -> None:
    somebody = await signed_in(here.service, role="read_only")
    await here.service.context.pool.execute(
        "UPDATE account SET password_hash = 'x' WHERE account_id = $1", somebody.account_id
    )
    answer = await somebody.post(f"/me/identities/{here.provider_id}/link")
    given = await here.idp.visited(address(answer))
    before = somebody.cookies["muster"]
    answer = await here.brought(somebody, given)
    assert (answer.status, answer.headers["Location"]) == (303, "/me/identities")
    assert somebody.cookies["muster"] == before
    shown = await somebody.get("/me/identities")
    [subject] = re.findall(r'name="subject" value="(\w+)"', shown.text)
    assert (await here.brought(*await here.gone())).status == 303
    fields = {"provider": here.provider_id, "subject": subject}
    assert (await somebody.post("/me/identities/unlink", fields)).status == 303
    assert (await here.brought(*await here.gone())).status == 403


async def test_another_browser_cannot_make_one_link_theirs(here: Company) -> None:
    """The thief begins, the victim's browser comes back (or the other way round): nothing."""
    victim, thief = await signed_in(here.service), await signed_in(here.service)
    url = address(await thief.post(f"/me/identities/{here.provider_id}/link"))
    given = await here.idp.visited(url)
    assert (await here.brought(victim, given)).status == 403
    assert (await here.brought(Browser(here.service), given)).status == 403
    assert await here.service.context.pool.fetchval("SELECT count(*) FROM identity") == 0


async def test_the_last_way_in_stays(here: Company) -> None:
    somebody, subject = await _linked(here)
    fields = {"provider": here.provider_id, "subject": subject}
    answer = await somebody.post("/me/identities/unlink", fields)
    assert (answer.status, "only way in" in answer.text) == (409, True)
    assert await here.service.context.pool.fetchval("SELECT count(*) FROM identity") == 1


async def test_a_link_for_a_new_account_may_be_used_by_a_provider(here: Company) -> None:
    invited = {"name": "Diana", "email": "d@example.org", "role": "read_only"}
    answer = await here.owner.post("/settings/people", invited)
    [link] = re.findall(r'id="link">http://localhost:8080(/join/[\w-]+)<', answer.text)
    assert (await here.owner.get("/settings/people")).text.count("link not used") == 2
    browser = Browser(here.service)
    assert "Go on with Company" in (await browser.get(link)).text
    gone = await browser.post(f"{link}/with/{here.provider_id}")
    given = await here.idp.visited(address(gone))
    answer = await here.brought(browser, given)
    assert (answer.status, answer.headers["Location"]) == (303, "/second-factor")
    assert (await Browser(here.service).get(link)).status == 403
    assert (await here.brought(*await here.gone())).status == 303
    # The owner, whom the test itself let in, is left.
    assert (await here.owner.get("/settings/people")).text.count("link not used") == 1


async def test_a_link_that_was_used_meanwhile_links_nothing(here: Company) -> None:
    invited = {"name": "Diana", "email": "d@example.org", "role": "read_only"}
    answer = await here.owner.post("/settings/people", invited)
    [link] = re.findall(r'id="link">http://localhost:8080(/join/[\w-]+)<', answer.text)
    browser = Browser(here.service)
    await browser.get(link)
    given = await here.idp.visited(address(await browser.post(f"{link}/with/{here.provider_id}")))
    other = Browser(here.service)
    await other.get(link)
    assert (await other.post(link, {"password": "a walk in the wet woods"})).status == 303
    assert (await here.brought(browser, given)).status == 403
    assert await here.service.context.pool.fetchval("SELECT count(*) FROM identity") == 0


async def test_a_reset_forgets_identities(here: Company) -> None:
    """A thief may have linked their own."""
    somebody, _ = await _linked(here)
    later(here.service, timedelta(seconds=1))
    assert (await here.owner.post(f"/settings/people/{somebody.account_id}/reset")).status == 200
    assert (await here.brought(*await here.gone())).status == 403
