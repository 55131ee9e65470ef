"""An access token whose session or API token ended is refused; devices pay nothing for it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from services.inventory.app import SERVICE
from shared.bus import revoked
from shared.events.access import ViaRevoked
from shared.runtime import revocations
from shared.runtime.testing import Answer, Trial, trial
from tools.cli import services
from tools.embedded.testing import MakeDatabase

PATH = "/api/v1/inventory/devices"


@pytest.fixture
async def service(make_database: MakeDatabase, tmp_path: Path) -> AsyncIterator[Trial]:
    async with trial(SERVICE, await make_database("inventory"), tmp_path) as running:
        yield running


async def _ask(service: Trial, via: str | None) -> Answer:
    signer = service._signer("console")
    minutes = timedelta(minutes=5)
    token = signer.access("ada", "inventory", ["inventory.read"], minutes, via=via)
    return await service.send("api", "GET", PATH, headers={"Authorization": f"Bearer {token}"})


def _ended(via: str, at: datetime | None = None) -> ViaRevoked:
    return ViaRevoked(via=via, revoked_at=at or datetime.now(UTC))


async def test_what_ended_is_refused_and_the_rest_is_not(
    service: Trial, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(revocations, "FRESH_SECONDS", 0.0)
    assert (await _ask(service, "token:1")).status == 200
    await service.hears(_ended("token:1"), service="console")
    refused = await _ask(service, "token:1")
    assert (refused.status, refused.json["code"]) == (401, "token_refused")
    assert refused.headers["WWW-Authenticate"] == "Bearer"
    assert (await _ask(service, "token:2")).status == 200
    assert (await _ask(service, None)).status == 200


async def test_the_table_is_read_at_most_every_ten_seconds(
    service: Trial, monkeypatch: pytest.MonkeyPatch
) -> None:
    now, reads, since = [1000.0], [], revoked.since

    async def counted(*given: Any) -> frozenset[str]:
        reads.append(now[0])
        return await since(*given)

    monkeypatch.setattr(revoked, "since", counted)
    context = service.context
    known = revocations.Revocations(context.pool, context.clock, lambda: now[0])
    for _ in range(5):
        assert not await known.has("token:1")
    await service.hears(_ended("token:1"), service="console")
    now[0] += revocations.FRESH_SECONDS
    assert not await known.has("token:1")
    now[0] += 0.1
    assert await known.has("token:1")
    assert reads == [1000.0, 1010.1]


async def test_what_is_older_than_a_day_is_forgotten(service: Trial) -> None:
    old = datetime.now(UTC) - timedelta(days=2)
    await service.hears(_ended("token:old", old), service="console", sequence=1)
    await service.context.pool.execute("INSERT INTO revoked_via VALUES ('token:older', $1)", old)
    for _ in range(2):
        await service.hears(_ended("token:new"), service="console", sequence=2)
    kept = await service.context.pool.fetch("SELECT via FROM revoked_via")
    assert [row["via"] for row in kept] == ["token:new"]


async def test_every_service_hears_of_it(make_database: MakeDatabase, tmp_path: Path) -> None:
    for each in services.load_all():
        async with trial(each, await make_database(each.name), tmp_path) as running:
            assert ViaRevoked in running.parts.handlers, each.name
            await running.hears(_ended("session:1"), service="console")
            table = await running.context.pool.fetchval("SELECT count(*) FROM revoked_via")
            assert table == 1, each.name
