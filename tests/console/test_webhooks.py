"""Webhooks: nothing lost, nothing blocked, whatever a receiver does."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import orjson
import pytest
from aiohttp import web

from services.console import metrics
from services.console.app import SERVICE
from services.console.http.keys import SENDING, WEBHOOKS
from services.console.jobs import jobs_of
from services.console.webhooks import sending as sending_module
from services.console.webhooks.keeping import Keeping
from services.console.webhooks.sending import LEASE, WAITS, Sending
from shared.bus.testing import travelled
from shared.db.pool import transaction
from shared.events.audit import AuditRecorded
from shared.events.devices import DeviceUnenrolled
from shared.events.groups import DeviceGroups, GroupState
from shared.runtime.clock import FixedClock
from shared.runtime.outbound import Limits, opened
from shared.runtime.testing import Answer, Trial, trial
from shared.sealed import WEBHOOK_KEYS, LocalCipher
from tests.console.browsing import Browser, later, signed_in
from tests.console.by_provider import events
from tools.embedded.testing import MakeDatabase

NOW = datetime(2026, 3, 1, tzinfo=UTC)
PAGE = "/settings/webhooks"
TYPE = DeviceUnenrolled.TYPE
Behave = Callable[[web.Request], Awaitable[web.StreamResponse]]


async def _takes(_request: web.Request) -> web.StreamResponse:
    return web.Response(status=204)


@dataclass
class Receiver:
    """Takes what it is told, and behaves as it is told to."""

    url: str = ""
    behave: Behave = _takes
    heard: list[tuple[dict[str, str], bytes]] = field(default_factory=list)
    news: asyncio.Condition = field(default_factory=asyncio.Condition)

    async def answer(self, request: web.Request) -> web.StreamResponse:
        self.heard.append((dict(request.headers), await request.read()))
        async with self.news:
            self.news.notify_all()
        return await self.behave(request)

    async def reaches(self, count: int) -> None:
        """Wait until it heard so much."""
        async with asyncio.timeout(30), self.news:
            await self.news.wait_for(lambda: len(self.heard) >= count)

    @property
    def ids(self) -> list[str]:
        return [orjson.loads(body)["id"] for _, body in self.heard]


@pytest.fixture
async def receivers() -> AsyncIterator[Callable[[], Awaitable[Receiver]]]:
    async with AsyncExitStack() as stack:

        async def make() -> Receiver:
            receiver, app = Receiver(), web.Application()
            app.router.add_post("/hook", receiver.answer)
            runner = web.AppRunner(app, shutdown_timeout=0.1)
            await runner.setup()
            stack.push_async_callback(runner.cleanup)
            await web.TCPSite(runner, "127.0.0.1", 0).start()
            receiver.url = f"http://127.0.0.1:{runner.addresses[0][1]}/hook"
            return receiver

        yield make


@pytest.fixture
async def service(make_database: MakeDatabase, tmp_path: Path) -> AsyncIterator[Trial]:
    environ = {"MUSTER_OUTBOUND_LOOPBACK": "true"}
    dsn = await make_database("console")
    async with trial(SERVICE, dsn, tmp_path, clock=FixedClock(NOW), environ=environ) as found:
        yield found


def _cipher(service: Trial) -> LocalCipher:
    return LocalCipher.load(service.context.settings.keys_dir / WEBHOOK_KEYS)


async def _made(owner: Browser, url: str, **more: Any) -> tuple[UUID, bytes]:
    """Its id and key."""
    fields = {"name": "SIEM", "url": url, "event_type": [TYPE], **more}
    answer = await owner.post(PAGE, fields)
    assert answer.status == 200, answer.text
    [secret] = re.findall(r'id="secret">whsec_([^<]+)<', answer.text)
    [webhook_id] = re.findall(r'href="/settings/webhooks/([\w-]{36})"', answer.text)
    return UUID(webhook_id), base64.b64decode(secret)


async def _happens(service: Trial, device: UUID | None = None) -> UUID:
    """Something that the console handles; the id of the device."""
    device = device or uuid4()
    await service.hears(_event(device), service="enrollment")
    return device


def _event(device: UUID) -> DeviceUnenrolled:
    return DeviceUnenrolled(
        device_id=device, enrollment_id=uuid4(), generation=1, reason="check_out"
    )


async def _told(service: Trial) -> None:
    """One round of the worker, to its end."""
    sending = service.parts.values[SENDING]
    await sending.run()
    await sending.settled()


async def _states(service: Trial) -> list[str]:
    rows = await service.context.pool.fetch("SELECT state FROM delivery ORDER BY delivery_id")
    return [row["state"] for row in rows]


pytestmark = pytest.mark.usefixtures("proven")


async def test_an_event_arrives_signed_and_once(service: Trial, receivers: Any) -> None:
    owner, receiver = await signed_in(service, role="owner"), await receivers()
    _, key = await _made(owner, receiver.url)
    device = await _happens(service)
    await _told(service)
    await _told(service)
    [(headers, body)] = receiver.heard
    said = orjson.loads(body)
    assert (said["type"], said["specversion"]) == (TYPE, "1.0")
    assert said["data"]["device_id"] == str(device)
    name, stamp = headers["webhook-id"], headers["webhook-timestamp"]
    made = hmac.digest(key, f"{name}.{stamp}.".encode() + body, hashlib.sha256)
    assert headers["webhook-signature"] == "v1," + base64.b64encode(made).decode()
    assert int(stamp) == int(NOW.timestamp())
    assert headers["Content-Type"].startswith("application/cloudevents+json")
    assert await _states(service) == ["delivered"]


async def test_an_event_that_is_handled_again_is_told_once(service: Trial, receivers: Any) -> None:
    owner, receiver = await signed_in(service, role="owner"), await receivers()
    await _made(owner, receiver.url)
    arrived = travelled(_event(uuid4()), service="enrollment")
    keeping = Keeping(service.context.clock)
    for _ in range(2):
        async with transaction(service.context.pool) as tx:
            await keeping.keep(tx, arrived)
    await _told(service)
    assert len(receiver.heard) == 1


async def test_only_what_is_wanted_is_kept(service: Trial, receivers: Any) -> None:
    owner, receiver = await signed_in(service, role="owner"), await receivers()
    await _made(owner, receiver.url, event_type=[AuditRecorded.TYPE])
    await _happens(service)
    assert await _states(service) == []


async def test_a_group_is_told_of_its_devices_alone(service: Trial, receivers: Any) -> None:
    owner, receiver = await signed_in(service, role="owner"), await receivers()
    group, inside, outside = uuid4(), uuid4(), uuid4()
    await service.context.pool.execute(
        "INSERT INTO device (device_id) VALUES ($1), ($2)", inside, outside
    )
    state = GroupState(group_id=group, name="Berlin")
    await service.hears(state, service="inventory", sequence=1)
    groups = DeviceGroups(device_id=inside, groups=[group])
    await service.hears(groups, service="inventory", sequence=1)
    await _made(owner, receiver.url, group=str(group))
    await _happens(service, outside)
    await _happens(service, inside)
    await _told(service)
    told = [orjson.loads(body)["data"]["device_id"] for _, body in receiver.heard]
    assert told == [str(inside)]


async def _fails(_request: web.Request) -> web.StreamResponse:
    return web.Response(status=500)


async def _redirects(_request: web.Request) -> web.StreamResponse:
    return web.Response(status=307, headers={"Location": "http://169.254.169.254/latest"})


async def _hangs(_request: web.Request) -> web.StreamResponse:
    await asyncio.Event().wait()
    return web.Response()


async def _floods(request: web.Request) -> web.StreamResponse:
    answer = web.StreamResponse()
    await answer.prepare(request)
    while True:
        await answer.write(b"x" * 65536)


@pytest.mark.parametrize("behave", [_fails, _redirects, _hangs, _floods])
async def test_a_receiver_that_does_harm_loses_nothing_and_blocks_nobody(
    service: Trial, receivers: Any, behave: Behave
) -> None:
    owner, bad, good = await signed_in(service, role="owner"), await receivers(), await receivers()
    await _made(owner, bad.url, name="Bad")
    await _made(owner, good.url, name="Good")
    bad.behave = behave
    sending = service.parts.values[SENDING]
    sending._limits = Limits(connect=0.5, total=0.5, size=1024)
    for _ in range(3):
        await _happens(service)
    await sending.run()
    await good.reaches(3)
    await sending.settled()
    assert len(bad.heard) == 1, "it rests after the first"
    assert sorted(await _states(service)) == ["delivered"] * 3 + ["waiting"] * 3
    bad.behave = _takes
    await _told(service)
    assert len(bad.heard) == 1
    later(service, WAITS[0])
    await _told(service)
    assert len(set(bad.ids)) == 3
    assert await _states(service) == ["delivered"] * 6
    first, again = bad.heard[0][0]["webhook-id"], [h["webhook-id"] for h, _ in bad.heard[1:]]
    assert first in again, "the id stays the same over all attempts"


async def test_after_two_days_it_is_dead_until_somebody_sends_it_again(
    service: Trial, receivers: Any
) -> None:
    owner, receiver = await signed_in(service, role="owner"), await receivers()
    webhook_id, _ = await _made(owner, receiver.url)
    receiver.behave = _fails
    dead = metrics.WEBHOOK_ATTEMPTS.labels("dead")._value
    before = dead.get()
    await _happens(service)
    await _told(service)
    for wait in WAITS:
        assert await _states(service) == ["waiting"]
        assert dead.get() == before
        later(service, wait)
        await _told(service)
    assert len(receiver.heard) == len(WAITS) + 1
    assert await _states(service) == ["dead"]
    assert dead.get() == before + 1
    later(service, timedelta(days=1))
    await _told(service)
    assert len(receiver.heard) == len(WAITS) + 1
    owner = await signed_in(service, role="owner")
    shown = (await owner.get(f"{PAGE}/{webhook_id}?state=dead")).text
    assert "It answered 500." in shown
    [delivery] = re.findall(r'name="delivery" value="([\w-]+)"', shown)
    receiver.behave = _takes
    answer = await owner.post(f"{PAGE}/{webhook_id}/again", {"delivery": delivery})
    assert answer.status == 303
    await _told(service)
    assert await _states(service) == ["delivered"]
    assert receiver.heard[0][0]["webhook-id"] == receiver.heard[-1][0]["webhook-id"] == delivery


async def test_all_dead_ones_are_sent_again_at_once(service: Trial, receivers: Any) -> None:
    owner, receiver = await signed_in(service, role="owner"), await receivers()
    webhook_id, _ = await _made(owner, receiver.url)
    for _ in range(3):
        await _happens(service)
    await service.context.pool.execute("UPDATE delivery SET state = 'dead'")
    assert (await owner.post(f"{PAGE}/{webhook_id}/again")).status == 303
    await _told(service)
    assert len(receiver.heard) == 3


async def test_a_worker_that_died_leaves_its_claims_to_the_next(
    service: Trial, receivers: Any
) -> None:
    owner, receiver = await signed_in(service, role="owner"), await receivers()
    await _made(owner, receiver.url)
    receiver.behave = _hangs
    await _happens(service)
    context = service.context
    async with opened(context.settings) as client:
        dying = Sending(context.pool, context.clock, _cipher(service), client)
        await dying.run()
        await receiver.reaches(1)
        await dying.aclose()
    receiver.behave = _takes
    await _told(service)
    assert len(receiver.heard) == 1, "the lease holds"
    later(service, LEASE)
    await _told(service)
    assert await _states(service) == ["delivered"]


async def test_many_workers_tell_each_event_once(service: Trial, receivers: Any) -> None:
    owner, receiver = await signed_in(service, role="owner"), await receivers()
    await _made(owner, receiver.url)
    for _ in range(10):
        await _happens(service)
    context = service.context
    async with opened(context.settings) as client:
        cipher = _cipher(service)
        workers = [Sending(context.pool, context.clock, cipher, client) for _ in range(3)]
        for worker in workers:
            await worker.run()
        for worker in workers:
            await worker.settled()
    assert sorted(receiver.ids) == sorted(set(receiver.ids))
    assert len(receiver.ids) == 10


async def test_a_disabled_one_keeps_what_waits_and_gets_nothing_new(
    service: Trial, receivers: Any
) -> None:
    owner, receiver = await signed_in(service, role="owner"), await receivers()
    webhook_id, _ = await _made(owner, receiver.url)
    await _happens(service)
    assert (await owner.post(f"{PAGE}/{webhook_id}/use", {"enabled": "false"})).status == 303
    await _happens(service)
    await _told(service)
    assert (receiver.heard, await _states(service)) == ([], ["waiting"])
    assert (await owner.post(f"{PAGE}/{webhook_id}/use", {"enabled": "true"})).status == 303
    await _told(service)
    assert len(receiver.heard) == 1


async def test_private_addresses_are_not_called(service: Trial, receivers: Any) -> None:
    owner, receiver = await signed_in(service, role="owner"), await receivers()
    await _made(owner, "https://169.254.169.254/hook")
    await _happens(service)
    await _told(service)
    result = await service.context.pool.fetchval("SELECT last_result FROM delivery")
    assert "does not call" in result
    assert receiver.heard == []
    for url in ("http://example.org/hook", "ftp://example.org", "https://a:b@example.org/"):
        fields = {"name": "X", "url": url, "event_type": [TYPE]}
        assert (await owner.post(PAGE, fields)).status == 422, url


async def test_who_may_not_read_events_has_them_sent_nowhere(service: Trial) -> None:
    held = ["webhook.read", "webhook.write", "enrollment.read"]
    somebody = await signed_in(service, everywhere=held)
    fields = {"name": "X", "url": "https://example.org/", "event_type": [AuditRecorded.TYPE]}
    answer = await somebody.post(PAGE, fields)
    assert (answer.status, "audit.read" in answer.text) == (403, True)
    assert (await somebody.post(PAGE, fields | {"event_type": [TYPE]})).status == 200
    assert (await somebody.post(PAGE, fields | {"event_type": ["no.such"]})).status == 422
    assert (await (await signed_in(service, everywhere=["webhook.read"])).post(PAGE)).status == 403


async def test_the_secret_is_shown_once_and_sealed(service: Trial, receivers: Any) -> None:
    owner, receiver = await signed_in(service, role="owner"), await receivers()
    webhook_id, key = await _made(owner, receiver.url)
    kept = await service.context.pool.fetchval("SELECT webhook::text FROM webhook")
    assert key.hex() not in kept
    text = base64.b64encode(key).decode()
    for path in (PAGE, f"{PAGE}/{webhook_id}"):
        assert text not in (await owner.get(path)).text
    listed = await service.call("GET", "/api/v1/console/webhooks")
    assert [each["url"] for each in listed.json["items"]] == [receiver.url]
    assert text not in listed.text
    records = await events(service, AuditRecorded)
    assert [each.action for each in records] == ["webhook.create"]
    assert all(text not in each.model_dump_json() for each in records)


async def test_programs_read_the_log(service: Trial, receivers: Any) -> None:
    owner, receiver = await signed_in(service, role="owner"), await receivers()
    webhook_id, _ = await _made(owner, receiver.url)
    for _ in range(3):
        await _happens(service)
    await _told(service)
    path = f"/api/v1/console/webhooks/{webhook_id}/deliveries"
    first = (await service.call("GET", f"{path}?limit=2")).json
    rest = (await service.call("GET", f"{path}?limit=2&cursor={first['next']}")).json
    found = first["items"] + rest["items"]
    assert [each["state"] for each in found] == ["delivered"] * 3
    assert rest["next"] is None
    assert (await service.call("GET", f"{path}?state=dead")).json["items"] == []
    answer: Answer = await service.call("GET", path, permissions=["audit.read"])
    assert answer.status == 403


async def test_what_is_over_is_forgotten(service: Trial, receivers: Any) -> None:
    owner, receiver = await signed_in(service, role="owner"), await receivers()
    await _made(owner, receiver.url)
    for state in ("waiting", "delivered", "dead"):
        device = await _happens(service)
        await service.context.pool.execute(
            "UPDATE delivery SET state = $1, made_at = $2 WHERE subject = $3",
            state,
            NOW,
            str(device),
        )
    later(service, sending_module.DELIVERED_DAYS)
    await service.run_job("sweep_deliveries")
    assert sorted(await _states(service)) == ["dead", "waiting"]
    later(service, sending_module.DEAD_DAYS - sending_module.DELIVERED_DAYS)
    await service.run_job("sweep_deliveries")
    assert await _states(service) == ["waiting"]


async def test_nobody_wants_anything_and_nothing_is_asked(service: Trial) -> None:
    """Without a webhook an event costs no statement, but once in a while."""
    assert await service.parts.values[WEBHOOKS].every() == []
    await _happens(service)
    assert await _states(service) == []


async def test_the_console_leaves_the_sending_to_it(service: Trial) -> None:
    def names(apart: bool) -> set[str]:
        settings = service.context.settings.model_copy(update={"webhooks_apart": apart})
        part: Any = service.parts.values[SENDING]
        parts = (part, part, part, part, part, part)
        jobs = jobs_of(*parts, settings, service.context.pool, service.context.clock)
        return {job.name for job in jobs}

    assert names(apart=False) - names(apart=True) == {"send_webhooks", "sweep_deliveries"}
