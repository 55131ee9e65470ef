"""Files that take long: who may not read any more reads no further."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import aiohttp
import pytest

from services.console.http import downloads
from services.console.views.queries import Views
from shared.events.access import ViaRevoked
from shared.runtime import revocations
from tests.console.browsing import signed_in
from tests.console.fleet import Console

READ = "inventory.read"


@pytest.fixture
def slowly(view: Console, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The list comes in three pieces; between the first two happens what stands in here: SQL, or
    the session or token that is revoked.
    """
    happens: list[str] = []

    async def export(*_: Any) -> AsyncIterator[str]:
        yield "first\n"
        for what in happens:
            if what.startswith("token:"):
                gone = ViaRevoked(via=what, revoked_at=datetime.now(UTC))
                await view.service.hears(gone, service="console")
            else:
                await view.service.context.pool.execute(what)
        yield "second\n"
        yield "third\n"

    monkeypatch.setattr(Views, "export", export)
    monkeypatch.setattr(downloads, "JUDGED_SECONDS", 0.0)
    monkeypatch.setattr(revocations, "FRESH_SECONDS", -1.0)
    return happens


async def test_it_breaks_off_when_the_session_ends(view: Console, slowly: list[str]) -> None:
    browser = await signed_in(view.service, everywhere=[READ])
    assert (await browser.get("/devices.csv")).text == "first\nsecond\nthird\n"
    slowly.append("DELETE FROM session")
    with pytest.raises(aiohttp.ClientError):
        await browser.get("/devices.csv")


async def test_it_breaks_off_when_the_token_is_revoked(view: Console, slowly: list[str]) -> None:
    path, via = "/api/v1/console/devices.csv", "token:1"
    answer = await view.service.call("GET", path, permissions=[READ], via=via)
    assert answer.text == "first\nsecond\nthird\n"
    slowly.append(via)
    with pytest.raises(aiohttp.ClientError):
        await view.service.call("GET", path, permissions=[READ], via=via)
