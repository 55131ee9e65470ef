"""The audit, which only grows."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID

import asyncpg
import pytest

from services.console.app import SERVICE
from shared.bus import apply
from shared.bus.testing import travelled
from shared.events.audit import AuditRecorded
from shared.events.base import uuid7
from shared.runtime.clock import FixedClock
from shared.runtime.testing import Trial, trial
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
