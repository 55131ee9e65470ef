"""Making and changing webhooks asks for the second factor again."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from services.console.app import SERVICE
from services.console.webhooks.keeping import OFFERED
from shared.runtime.testing import Trial, trial
from tests.console.browsing import signed_in
from tools.embedded.testing import MakeDatabase

PAGE = "/settings/webhooks"


@pytest.fixture
async def service(make_database: MakeDatabase, tmp_path: Path) -> AsyncIterator[Trial]:
    async with trial(SERVICE, await make_database("console"), tmp_path) as running:
        yield running


async def test_every_change_needs_a_step_up(service: Trial) -> None:
    owner = await signed_in(service, role="owner")
    one = await service.context.pool.fetchval(
        "INSERT INTO webhook (webhook_id, name, url, secret, event_types, made_at, made_by) VALUES "
        "(gen_random_uuid(), 'SIEM', 'https://siem.example/hook', 'x', '{a.b}', now(), 'test') "
        "RETURNING webhook_id"
    )
    made = {"name": "X", "url": "https://x.example/", "event_type": list(OFFERED)}
    for path, fields in ((PAGE, made), (f"{PAGE}/{one}/use", {"enabled": "false"})):
        answer = await owner.post(path, fields)
        assert (answer.status, "Nothing was done yet" in answer.text) == (403, True), path
    kept = await service.context.pool.fetch("SELECT enabled FROM webhook")
    assert [row["enabled"] for row in kept] == [True]


async def test_pages_name_what_is_missing(service: Trial) -> None:
    reader = await signed_in(service, everywhere=["webhook.read"])
    shown = (await reader.get(PAGE)).text
    assert "This needs the permission webhook.write." in shown
    assert "needs audit.read" in shown
    assert (await (await signed_in(service)).get(PAGE)).status == 403
