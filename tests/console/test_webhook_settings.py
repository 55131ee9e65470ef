"""Making and changing webhooks asks for the second factor again."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from services.console.app import SERVICE
from services.console.webhooks.keeping import OFFERED
from shared.events import uuid7
from shared.runtime.testing import Trial, trial
from tests.console.auditing import did, hear, told
from tests.console.browsing import signed_in, words_of
from tests.console.fleet import state
from tools.embedded.testing import MakeDatabase

PAGE = "/settings/webhooks"
ADD = """
INSERT INTO webhook (webhook_id, name, url, secret, event_types, made_at, made_by)
VALUES (gen_random_uuid(), 'SIEM', 'https://siem.example/hook', 'x', '{a.b}', now(), 'test')
RETURNING webhook_id
"""
DELIVER = """
INSERT INTO delivery (delivery_id, webhook_id, event_id, event_type, subject, body, made_at,
                      next_at)
VALUES (gen_random_uuid(), $1, gen_random_uuid(), 'a.b', $2, '', now(), now())
"""


@pytest.fixture
async def service(make_database: MakeDatabase, tmp_path: Path) -> AsyncIterator[Trial]:
    async with trial(SERVICE, await make_database("console"), tmp_path) as running:
        yield running


async def test_every_change_needs_a_step_up(service: Trial) -> None:
    owner = await signed_in(service, role="owner")
    one = await service.context.pool.fetchval(ADD)
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


async def test_deliveries_name_what_they_are_about(service: Trial) -> None:
    one = await service.context.pool.fetchval(ADD)
    device, command, forgotten = uuid7(), uuid7(), uuid7()
    await service.hears(state(device, name="Ada's iPhone"), service="enrollment")
    after = {"kind": "device.lock", "targets": 3}
    await hear(service, told(did("command.create", target=str(command), after=after)))
    for about in (device, command, forgotten):
        await service.context.pool.execute(DELIVER, one, str(about))
    seeing = await signed_in(service, everywhere=["webhook.read", "inventory.read"])
    page = await seeing.get(f"{PAGE}/{one}")
    for said in ("Ada's iPhone", "Lock 3 devices", f"about {forgotten}"):
        assert said in words_of(page), said
    assert f'href="/devices/{device}"' in page.text
    reader = await signed_in(service, everywhere=["webhook.read"])
    words = words_of(await reader.get(f"{PAGE}/{one}"))
    assert f"about {device}" in words
    assert "Ada's iPhone" not in words
