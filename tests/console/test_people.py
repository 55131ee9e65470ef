"""Accounts, roles and grants: nobody gives what they do not hold, the last owner stays."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID, uuid4

import pytest

from services.console.app import SERVICE
from services.console.directory import LIFETIME
from services.console.http.keys import DIRECTORY, GRANTING
from services.console.permissions import ALL
from shared.bus import outbox
from shared.events.access import AccountState, ViaRevoked
from shared.events.audit import AuditRecorded
from shared.events.groups import GroupState
from shared.runtime.clock import FixedClock
from shared.runtime.testing import Answer, Trial, trial
from tests.console.browsing import Browser, later, signed_in
from tools.embedded.testing import MakeDatabase

NOW = datetime(2026, 3, 1, tzinfo=UTC)
BOB = {"name": "Bob", "email": "bob@example.org", "role": "help_desk"}


@pytest.fixture
async def service(make_database: MakeDatabase, tmp_path: Path) -> AsyncIterator[Trial]:
    dsn = await make_database("console")
    async with trial(SERVICE, dsn, tmp_path, clock=FixedClock(NOW)) as running:
        yield running


async def _group(service: Trial, name: str = "Berlin") -> UUID:
    group_id = uuid4()
    await service.hears(GroupState(group_id=group_id, name=name), service="inventory", sequence=1)
    return group_id


async def _invited(browser: Browser, **more: str) -> tuple[str, str]:
    """Account id and link."""
    answer = await browser.post("/settings/people", BOB | more)
    assert answer.status == 200, answer.text
    [link] = re.findall(r'id="link">http://localhost:8080(/join/[\w-]+)<', answer.text)
    [account_id] = re.findall(r'href="/settings/people/([\w-]+)">To the account', answer.text)
    return account_id, link


async def _give(
    browser: Browser, account_id: object, role: str, group: UUID | None = None
) -> Answer:
    fields = {"role": role} | ({"group": str(group)} if group else {})
    return await browser.post(f"/settings/people/{account_id}/grants", fields)


async def _told(service: Trial) -> list[object]:
    async with service.context.pool.acquire() as connection:
        return list(await outbox.read(connection, "console"))


async def test_every_change_needs_a_step_up(service: Trial) -> None:
    owner = await signed_in(service, role="owner")
    me = f"/settings/people/{owner.account_id}"
    requests: Mapping[str, Mapping[str, str]] = {
        "/settings/people": BOB,
        f"{me}/reset": {},
        f"{me}/disable": {},
        f"{me}/enable": {},
        f"{me}/grants": {"role": "auditor"},
        "/settings/roles": {"name": "Mine", "permission": "audit.read"},
    }
    for path, fields in requests.items():
        answer = await owner.post(path, fields)
        assert (answer.status, "Nothing was done yet" in answer.text) == (403, True), path
    assert await service.context.pool.fetchval("SELECT count(*) FROM account") == 1


@pytest.mark.usefixtures("proven")
async def test_a_link_lets_somebody_in_once(service: Trial) -> None:
    owner = await signed_in(service, role="owner")
    _, link = await _invited(owner)
    bob = Browser(service)
    shown = await bob.get(link)
    assert "Welcome, Bob" in shown.text
    assert (await bob.post(link, {"password": "short"})).status == 422
    answer = await bob.post(link, {"password": "a walk in the wet woods"})
    assert (answer.status, answer.headers["Location"]) == (303, "/second-factor")
    assert (await bob.get("/")).status == 401
    assert (await Browser(service).get(link)).status == 403
    listed = (await owner.get("/settings/people")).text
    assert "Help desk on all devices" in listed
    assert link.removeprefix("/join/") not in listed


@pytest.mark.usefixtures("proven")
async def test_a_link_dies_after_a_day(service: Trial) -> None:
    _, link = await _invited(await signed_in(service, role="owner"))
    later(service, LIFETIME - timedelta(seconds=1))
    assert (await Browser(service).get(link)).status == 200
    later(service, timedelta(seconds=1))
    assert (await Browser(service).get(link)).status == 403


@pytest.mark.usefixtures("proven")
async def test_nobody_gives_what_they_do_not_hold(service: Trial) -> None:
    admin = await signed_in(service, role="admin")
    account_id, _ = await _invited(admin)
    answer = await _give(admin, account_id, "owner")
    assert (answer.status, "guard.unfreeze" in answer.text) == (403, True)
    assert (
        await admin.post("/settings/people", BOB | {"role": "owner", "email": "x@example.org"})
    ).status == 403
    fields = {"name": "Mine", "permission": "guard.unfreeze"}
    assert (await admin.post("/settings/roles", fields)).status == 403
    assert (await _give(admin, admin.account_id, "owner")).status == 403
    assert (await _give(admin, account_id, "operator")).status == 303


@pytest.mark.usefixtures("proven")
async def test_in_a_group_only_what_is_held_there(service: Trial) -> None:
    group, other = await _group(service), await _group(service, "Paris")
    owner = await signed_in(service, role="owner")
    account_id, _ = await _invited(owner)
    limited = await signed_in(
        service, everywhere=["people.read", "role.grant"], groups={group: sorted(ALL)}
    )
    assert (await _give(limited, account_id, "operator")).status == 403
    assert (await _give(limited, account_id, "operator", other)).status == 403
    assert (await _give(limited, account_id, "operator", group)).status == 303
    shown = (await owner.get(f"/settings/people/{account_id}")).text
    assert "in the group Berlin" in shown
    assert (await _give(owner, account_id, "operator", uuid4())).status == 422


@pytest.mark.usefixtures("proven")
async def test_who_resets_must_hold_what_the_account_holds(service: Trial) -> None:
    owner, admin = await signed_in(service, role="owner"), await signed_in(service, role="admin")
    for what in ("reset", "disable"):
        answer = await admin.post(f"/settings/people/{owner.account_id}/{what}")
        assert answer.status == 403, what
    assert (await owner.get("/")).status == 200
    answer = await owner.post(f"/settings/people/{admin.account_id}/reset")
    assert (answer.status, "/join/" in answer.text) == (200, True)
    assert (await admin.get("/")).status == 401


@pytest.mark.usefixtures("proven")
async def test_the_last_owner_stays(service: Trial) -> None:
    owner = await signed_in(service, role="owner")
    me = f"/settings/people/{owner.account_id}"
    grant_id = await service.context.pool.fetchval(
        "SELECT grant_id FROM role_grant WHERE role_id = 'owner'"
    )
    for path in (f"{me}/disable", f"{me}/grants/{grant_id}/take"):
        answer = await owner.post(path)
        assert (answer.status, "leave nobody who owns" in answer.text) == (409, True), path
    second = await signed_in(service, role="owner", name="Second")
    assert (await owner.post(f"/settings/people/{second.account_id}/disable")).status == 303
    assert (await owner.post(f"{me}/disable")).status == 409
    assert (await owner.post(f"/settings/people/{second.account_id}/enable")).status == 303
    assert (await owner.post(f"{me}/grants/{grant_id}/take")).status == 303
    assert (await owner.get("/")).status == 401


@pytest.mark.usefixtures("proven")
async def test_changed_roles_end_sessions_and_are_told(service: Trial) -> None:
    owner, bob = await signed_in(service, role="owner"), await signed_in(service, name="Bob")
    session_id = await service.context.pool.fetchval(
        "SELECT session_id FROM session WHERE account_id = $1", bob.account_id
    )
    later(service, timedelta(minutes=1))
    assert (await _give(owner, bob.account_id, "operator")).status == 303
    assert (await bob.get("/")).status == 401
    told = await _told(service)
    [revoked] = [event for event in told if isinstance(event, ViaRevoked)]
    assert revoked.via == f"session:{session_id}"
    [state] = [event for event in told if isinstance(event, AccountState)]
    held = {role.role_id: role for role in state.roles}
    assert held["operator"].since == NOW + timedelta(minutes=1)
    assert "command.request" in held["operator"].permissions
    assert state.subject == f"account:{bob.account_id}"


@pytest.mark.usefixtures("proven")
async def test_a_reset_forgets_every_way_in(service: Trial) -> None:
    owner = await signed_in(service, role="owner")
    account_id, link = await _invited(owner)
    bob = Browser(service)
    await bob.get(link)
    await bob.post(link, {"password": "a walk in the wet woods"})
    later(service, timedelta(hours=1) / 10)
    assert (await owner.post(f"/settings/people/{account_id}/reset")).status == 200
    row = await service.context.pool.fetchrow(
        "SELECT password_hash, reset_at FROM account WHERE account_id = $1", UUID(account_id)
    )
    assert row is not None
    assert row["password_hash"] is None
    assert row["reset_at"] == service.context.clock.now()
    await bob.get("/sign-in")
    answer = await bob.post(
        "/sign-in", {"email": BOB["email"], "password": "a walk in the wet woods"}
    )
    assert answer.status == 401


@pytest.mark.usefixtures("proven")
async def test_a_custom_role_holds_what_it_says(service: Trial) -> None:
    owner = await signed_in(service, role="owner")
    fields = {"name": "Eyes", "permission": ["inventory.read", "audit.read"]}
    assert (await owner.post("/settings/roles", fields)).status == 303
    assert (await owner.post("/settings/roles", fields)).status == 409
    assert (
        await owner.post("/settings/roles", {"name": "X", "permission": "no.such"})
    ).status == 422
    roles = await service.parts.values[GRANTING].roles()
    role = next(role for role in roles if role.name == "Eyes")
    assert role.permissions == ["audit.read", "inventory.read"]
    account_id, _ = await _invited(owner, role=role.role_id)
    account, grants = await service.parts.values[DIRECTORY].one(UUID(account_id))
    assert (account.name, [grant.role for grant in grants]) == ("Bob", ["Eyes"])


@pytest.mark.usefixtures("proven")
async def test_all_of_it_is_audited_without_links(service: Trial) -> None:
    owner = await signed_in(service, role="owner")
    account_id, link = await _invited(owner)
    await owner.post(f"/settings/people/{account_id}/disable")
    told = await _told(service)
    actions = [event.action for event in told if isinstance(event, AuditRecorded)]
    assert actions == ["role.grant", "account.create", "account.disable"]
    assert all(link.removeprefix("/join/") not in str(event) for event in told)


async def test_programs_read_who_holds_what(service: Trial) -> None:
    await signed_in(service, role="owner")
    accounts = (await service.call("GET", "/api/v1/console/accounts")).json["items"]
    assert ["Owner" in {grant["role"] for grant in each["grants"]} for each in accounts] == [True]
    roles = (await service.call("GET", "/api/v1/console/roles")).json["items"]
    assert {role["role_id"] for role in roles} >= {"owner", "admin", "read_only"}
    path = "/api/v1/console/accounts"
    assert (await service.call("GET", path, permissions=["audit.read"])).status == 403
