"""API tokens: less than their owners hold, never what is for people only, and they end."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest

from services.console.app import SERVICE
from services.console.http.keys import TOKENS
from services.console.people import Person, actor_of
from services.console.permissions import ALL, FOR_PEOPLE_ONLY
from shared.bus import outbox
from shared.events.access import ViaRevoked
from shared.events.audit import AuditRecorded
from shared.events.groups import GroupState
from shared.runtime.clock import FixedClock
from shared.runtime.http import Caller
from shared.runtime.testing import Answer, Trial, trial
from shared.runtime.tokens import Claims, Verifier
from tests.console.browsing import Browser, later, signed_in
from tools.embedded.testing import MakeDatabase

NOW = datetime(2026, 3, 1, tzinfo=UTC)


@pytest.fixture
async def service(make_database: MakeDatabase, tmp_path: Path) -> AsyncIterator[Trial]:
    dsn = await make_database("console")
    async with trial(SERVICE, dsn, tmp_path, clock=FixedClock(NOW)) as running:
        yield running


async def _minted(browser: Browser, *permissions: str, **more: str) -> str:
    fields = {"name": "Reports", "permission": list(permissions), **more}
    answer = await browser.post("/me/tokens", fields)
    assert answer.status == 200, answer.text
    found: list[str] = re.findall(r'id="token">(mst_[\w-]+)<', answer.text)
    return found[0]


async def _exchange(service: Trial, token: str, audience: str = "inventory") -> Answer:
    body = {"token": token, "audience": audience}
    path, headers = "/api/v1/console/token", {"Authorization": ""}
    return await service.call("POST", path, body, headers=headers)


async def _claims(service: Trial, folder: Path, token: str, audience: str) -> Claims:
    answer = await _exchange(service, token, audience)
    assert answer.status == 200, answer.text
    verifier = Verifier(folder / "public", audience, service.context.clock)
    return verifier.access(answer.json["access_token"])


async def _told(service: Trial) -> list[Any]:
    async with service.context.pool.acquire() as connection:
        return list(await outbox.read(connection, "console"))


@pytest.mark.usefixtures("proven")
async def test_it_is_exchanged_for_five_minutes_at_one_service(
    service: Trial, tmp_path: Path
) -> None:
    owner = await signed_in(service, role="owner")
    token = await _minted(owner, "inventory.read", "command.read")
    claims = await _claims(service, tmp_path, token, "inventory")
    assert claims.permissions == {"inventory.read"}
    assert claims.expires_at - NOW == timedelta(minutes=5)
    assert owner.account_id is not None
    assert claims.actor == actor_of(owner.account_id)
    assert claims.via is not None
    assert claims.via.startswith("token:")
    assert claims.source == "127.0.0.1"
    shown = (await owner.get("/me/tokens")).text
    assert "from 127.0.0.1" in shown
    assert token not in shown


@pytest.mark.usefixtures("proven")
async def test_it_never_holds_what_is_for_people_only(service: Trial, tmp_path: Path) -> None:
    owner = await signed_in(service, role="owner")
    for permission in sorted(FOR_PEOPLE_ONLY & ALL):
        fields = {"name": "x", "permission": permission}
        assert (await owner.post("/me/tokens", fields)).status == 422, permission
    token = await _minted(owner, "command.request")
    everything = sorted(ALL)
    await service.context.pool.execute("UPDATE api_token SET permissions = $1", everything)
    held: set[str] = set()
    for audience in ("command_queue", "console", "enrollment", "inventory"):
        held |= (await _claims(service, tmp_path, token, audience)).permissions
    assert "command.request" in held
    assert not held & FOR_PEOPLE_ONLY


@pytest.mark.usefixtures("proven")
async def test_it_never_holds_more_than_its_owner_does_now(service: Trial, tmp_path: Path) -> None:
    group = uuid4()
    browser = await signed_in(
        service,
        everywhere=["token.write", "inventory.read"],
        groups={group: ["inventory.refresh"]},
    )
    fields = {"name": "x", "permission": "command.request"}
    assert (await browser.post("/me/tokens", fields)).status == 422
    token = await _minted(browser, "inventory.read")
    assert (await _claims(service, tmp_path, token, "inventory")).permissions
    await service.context.pool.execute("DELETE FROM role_grant WHERE group_id IS NULL")
    assert not (await _claims(service, tmp_path, token, "inventory")).permissions


@pytest.mark.usefixtures("proven")
async def test_it_may_be_held_to_a_group(service: Trial, tmp_path: Path) -> None:
    group = uuid4()
    await service.hears(GroupState(group_id=group, name="Berlin"), service="inventory", sequence=1)
    owner = await signed_in(service, role="owner")
    token = await _minted(owner, "inventory.read", group=str(group))
    claims = await _claims(service, tmp_path, token, "inventory")
    assert claims.permissions == frozenset()
    assert claims.groups == {group: frozenset({"inventory.read"})}


@pytest.mark.usefixtures("proven")
async def test_it_ends(service: Trial) -> None:
    owner = await signed_in(service, role="owner")
    token = await _minted(owner, "inventory.read", days="1")
    assert (await _exchange(service, token)).status == 200
    for wrong in (token[:-1], "mst_", "", token.removeprefix("mst_"), "mst_" + "a" * 150):
        assert (await _exchange(service, wrong)).status == 401, wrong
    later(service, timedelta(days=1))
    assert (await _exchange(service, token)).status == 401


@pytest.mark.usefixtures("proven")
async def test_revoking_is_told_to_every_service(service: Trial) -> None:
    owner, other = await signed_in(service, role="owner"), await signed_in(service, role="owner")
    token = await _minted(owner, "inventory.read")
    token_id: UUID = await service.context.pool.fetchval("SELECT token_id FROM api_token")
    assert (await other.post(f"/me/tokens/{token_id}/revoke")).status == 404
    assert (await owner.post(f"/me/tokens/{token_id}/revoke")).status == 303
    assert (await _exchange(service, token)).status == 401
    told = await _told(service)
    assert [event.via for event in told if isinstance(event, ViaRevoked)] == [f"token:{token_id}"]
    actions = [event.action for event in told if isinstance(event, AuditRecorded)]
    assert actions == ["token.create", "token.revoke"]
    assert all(token not in event.model_dump_json() for event in told)
    row = await service.context.pool.fetchval("SELECT api_token::text FROM api_token")
    assert token not in row


@pytest.mark.usefixtures("proven")
async def test_who_is_disabled_has_no_tokens(service: Trial) -> None:
    owner, bob = await signed_in(service, role="owner"), await signed_in(service, role="admin")
    token = await _minted(bob, "inventory.read")
    answer = await owner.post(f"/settings/people/{bob.account_id}/disable")
    assert answer.status == 303
    assert (await _exchange(service, token)).status == 401
    vias = [event.via for event in await _told(service) if isinstance(event, ViaRevoked)]
    assert sorted(via.partition(":")[0] for via in vias) == ["session", "token"]
    await owner.post(f"/settings/people/{bob.account_id}/enable")
    assert (await _exchange(service, token)).status == 401


async def test_making_one_needs_a_step_up_and_the_permission(service: Trial) -> None:
    owner = await signed_in(service, role="owner")
    fields = {"name": "x", "permission": "inventory.read"}
    answer = await owner.post("/me/tokens", fields)
    assert (answer.status, "Nothing was done yet" in answer.text) == (403, True)
    reader = await signed_in(service, role="read_only")
    answer = await reader.post("/me/tokens", fields)
    assert (answer.status, "token.write" in answer.text) == (403, True)
    assert await service.context.pool.fetchval("SELECT count(*) FROM api_token") == 0


async def test_there_are_fifty_at_most(service: Trial) -> None:
    browser = await signed_in(service, role="owner")
    assert browser.account_id is not None
    caller = Caller(actor_of(browser.account_id), ALL)
    person = Person(browser.account_id, uuid4(), "Ada", "ada@example.org", caller)
    tokens = service.parts.values[TOKENS]
    for _ in range(50):
        await tokens.mint(person, "x", ["inventory.read"], None, 1)
    with pytest.raises(Exception, match="tokens_full"):
        await tokens.mint(person, "x", ["inventory.read"], None, 1)
