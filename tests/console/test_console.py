"""The set-up token, which counts once, and the audit, which only grows."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import asyncpg
import pytest

from services.console.app import SERVICE
from services.console.setup import LIFETIME, offer
from shared.bus import apply, outbox
from shared.bus.testing import travelled
from shared.db.pool import transaction
from shared.events.audit import AuditRecorded
from shared.events.base import uuid7
from shared.runtime.clock import FixedClock
from shared.runtime.testing import Trial, trial
from shared.runtime.tokens import Verifier
from tools.embedded.testing import MakeDatabase

NOW = datetime(2026, 3, 1, tzinfo=UTC)


@pytest.fixture
def clock() -> FixedClock:
    return FixedClock(NOW)


@pytest.fixture
async def service(
    make_database: MakeDatabase, tmp_path: Path, clock: FixedClock
) -> AsyncIterator[Trial]:
    dsn = await make_database("console")
    async with trial(SERVICE, dsn, tmp_path, clock=clock) as running:
        yield running


async def _offer(service: Trial) -> str | None:
    async with transaction(service.context.pool) as tx:
        return await offer(tx, service.context.clock)


async def _redeem(service: Trial, token: str | None, audience: str = "inventory") -> Any:
    body = {"token": token, "audience": audience}
    path = "/api/v1/console/setup"
    headers = {"Authorization": "", "Content-Type": "application/json"}
    return await service.call("POST", path, body, headers=headers)


async def test_the_token_makes_an_owner_once(
    service: Trial, tmp_path: Path, clock: FixedClock
) -> None:
    token = await _offer(service)
    answer = await _redeem(service, token)
    assert answer.status == 200
    claims = Verifier(tmp_path / "public", "inventory", clock).access(answer.json["access_token"])
    assert (claims.actor, claims.permissions) == ("owner", frozenset({"*"}))
    assert claims.expires_at == NOW + timedelta(seconds=answer.json["expires_in"])
    again = await _redeem(service, token)
    assert (again.status, again.json["code"]) == (403, "setup_refused")
    assert await _offer(service) is None


async def test_of_many_at_once_one_succeeds(service: Trial) -> None:
    token = await _offer(service)
    answers = await asyncio.gather(*(_redeem(service, token) for _ in range(20)))
    assert sorted(answer.status for answer in answers) == [200] + [403] * 19
    async with service.context.pool.acquire() as connection:
        [event] = await outbox.read(connection, "console")
    assert isinstance(event, AuditRecorded)
    assert event.action == "console.setup"


async def test_it_dies_after_an_hour_and_by_the_next(service: Trial, clock: FixedClock) -> None:
    first, second = await _offer(service), await _offer(service)
    assert (await _redeem(service, first)).status == 403
    clock.advance(LIFETIME)
    assert (await _redeem(service, second)).status == 403
    third = await _offer(service)
    clock.advance(LIFETIME - timedelta(seconds=1))
    assert (await _redeem(service, third)).status == 200


async def test_the_token_itself_is_stored_nowhere(service: Trial) -> None:
    token = await _offer(service) or ""
    row = await service.context.pool.fetchrow("SELECT setup::text AS text FROM setup")
    assert row is not None
    assert token not in row["text"]


async def test_no_token_is_signed_for_a_stranger(service: Trial) -> None:
    token = await _offer(service)
    assert (await _redeem(service, token, "somebody")).status == 422
    assert (await _redeem(service, "")).status == 403
    assert (await _redeem(service, token)).status == 200


def _did(action: str, actor: str = "ada", target: str = "t") -> AuditRecorded:
    return AuditRecorded(
        audit_id=uuid7(),
        actor=actor,
        permission="p.q",
        action=action,
        target=target,
        after={"n": 1},
    )


async def test_the_audit_of_every_service_is_listed_newest_first(service: Trial) -> None:
    for number in range(5):
        await service.hears(_did(f"a{number}", target=f"t{number}"), service="inventory")
        await asyncio.sleep(0.002)  # ids of one millisecond have no order
    await service.hears(_did("b", actor="bob"), service="enrollment")
    first = (await service.call("GET", "/api/v1/console/audit?limit=4")).json
    assert [row["action"] for row in first["items"]] == ["b", "a4", "a3", "a2"]
    assert first["items"][0]["service"] == "enrollment"
    assert first["items"][0]["after"] == {"n": 1}
    rest = await service.call("GET", f"/api/v1/console/audit?limit=4&cursor={first['next']}")
    assert [row["action"] for row in rest.json["items"]] == ["a1", "a0"]
    assert rest.json["next"] is None
    mine = (await service.call("GET", "/api/v1/console/audit?actor=bob")).json["items"]
    assert [row["action"] for row in mine] == ["b"]


async def test_a_repeated_event_is_one_line(service: Trial) -> None:
    arrived = travelled(_did("a"), service="inventory")
    for _ in range(2):
        await apply(service.context.pool, "console", service.parts.handlers, arrived)
    rows = (await service.call("GET", "/api/v1/console/audit")).json["items"]
    assert [UUID(row["event_id"]) for row in rows] == [arrived[0].meta.event_id]


@pytest.mark.parametrize("cursor", ["x", "W10", "WzFd", "WyJhIl0"])
async def test_a_foreign_cursor_is_refused(service: Trial, cursor: str) -> None:
    answer = await service.call("GET", f"/api/v1/console/audit?cursor={cursor}")
    assert (answer.status, answer.json["code"]) == (400, "bad_cursor")


@pytest.mark.parametrize(
    "statement", ["UPDATE audit SET actor = 'x'", "DELETE FROM audit", "TRUNCATE audit"]
)
async def test_the_audit_cannot_be_changed(service: Trial, statement: str) -> None:
    await service.hears(_did("a"), service="inventory")
    with pytest.raises(asyncpg.InsufficientPrivilegeError, match="only added to"):
        await service.context.pool.execute(statement)


async def test_reading_the_audit_needs_the_permission(service: Trial) -> None:
    path = "/api/v1/console/audit"
    assert (await service.call("GET", path, permissions=["audit.read"])).status == 200
    refused = await service.call("GET", path, permissions=["device.read"])
    assert (refused.status, refused.json["code"]) == (403, "permission_missing")
