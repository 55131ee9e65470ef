"""From work waiting to a push sent, on a real database and against the stand-in."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from services.push_notifier.certificates import NOBODY, Certificates
from services.push_notifier.consumers import handlers
from services.push_notifier.sending import Pushed, Sender
from services.push_notifier.settings import PushSettings
from services.push_notifier.stand_in import StandInPortal
from services.push_notifier.store import attempts, channels
from shared.bus import apply, outbox
from shared.bus.testing import travelled
from shared.db.pool import Pool, open_pool
from shared.events.base import Event, uuid7
from shared.events.commands import (
    CommandDeferred,
    CommandFinished,
    CommandQueued,
    QueuedTarget,
    TargetState,
)
from shared.events.device_state import ChannelState, DeviceState, EnrollmentState
from shared.events.devices import Ownership, Platform
from shared.events.pushes import PushCertificateChanged, PushFailed, PushSent
from shared.runtime.clock import FixedClock
from shared.runtime.jobs import Wake
from shared.runtime.testing import RecordedCalls
from shared.sealed import Keyring, LocalCipher, PublicKeys, ensure_service_keys
from tools.embedded.apns import ApnsStandIn, Rule
from tools.embedded.testing import MakeDatabase

pytestmark = pytest.mark.usefixtures("road")


@dataclass
class Road:
    """push_notifier's parts on real servers, and a device made up for it."""

    pool: Pool
    clock: FixedClock
    settings: PushSettings
    certificates: Certificates
    sender: Sender
    portal: StandInPortal
    public: PublicKeys
    apns: ApnsStandIn
    cipher: LocalCipher
    keyring: Keyring
    calls: RecordedCalls
    wake: Wake = field(default_factory=Wake)

    async def hear(
        self, *events: Event, service: str = "command_queue", sequence: int | None = None
    ) -> None:
        travelling = travelled(*events, service=service, sequence=sequence)
        await apply(self.pool, "push_notifier", handlers(self.settings, self.wake), travelling)

    async def events(self, kind: type[Event]) -> list[Any]:
        async with self.pool.acquire() as connection:
            waiting = await outbox.read(connection, "push_notifier")
        return [event for event in waiting if isinstance(event, kind)]

    async def topic(self) -> str:
        changed = await self.events(PushCertificateChanged)
        return str(changed[-1].topic)

    async def enroll(
        self, device: UUID, token: str, since: datetime, *, state: Any = "enrolled"
    ) -> UUID:
        channel = UUID(int=device.int + 1)
        secret = json.dumps({"token": token, "magic": "m"}).encode()
        await self.hear(
            DeviceState(
                device_id=device,
                platform=Platform.IOS,
                ownership=Ownership.CORPORATE,
                enrollments=[
                    EnrollmentState(
                        enrollment_id=UUID(int=device.int + 2),
                        generation=1,
                        state=state,
                        pins=[],
                        authenticated_at=since,
                        channels=[
                            ChannelState(
                                channel_id=channel,
                                kind="device",
                                open=state == "enrolled",
                                push_topic=await self.topic(),
                                push=self.public.seal(
                                    "push_notifier", secret, purpose="push", device_id=device
                                ),
                                push_updated_at=since,
                            )
                        ],
                    )
                ],
            ),
            service="enrollment",
        )
        return channel

    async def queue(self, device: UUID, channel: UUID, sequence: int | None = None) -> None:
        now = self.clock.now()
        await self.hear(
            CommandQueued(
                command_id=uuid7(),
                kind="raw",
                queued_at=now,
                targets=[QueuedTarget(device_id=device, channel_id=channel)],
            ),
            sequence=sequence,
        )

    async def finish(
        self,
        device: UUID,
        channel: UUID,
        *,
        empty: bool,
        came_after: timedelta | None = None,
        deliveries: int = 1,
        sequence: int | None = None,
    ) -> None:
        """`came_after`: how long from queueing the device took to fetch the command."""
        now = self.clock.now()
        await self.hear(
            CommandFinished(
                device_id=device,
                channel_id=channel,
                command_id=uuid7(),
                kind="raw",
                state=TargetState.ACKNOWLEDGED,
                deliveries=deliveries,
                queued_at=now,
                handed_out_at=None if came_after is None else now + came_after,
                finished_at=now,
                queue_empty=empty,
            ),
            sequence=sequence,
        )

    @asynccontextmanager
    async def push_on_its_way(self, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[None]:
        """Within, the push that was due is with APNs, and the sender knows no answer yet."""
        arrived, answer, push = asyncio.Event(), asyncio.Event(), self.sender._push

        async def slowly(*due: Any) -> Pushed:
            pushed = await push(*due)
            arrived.set()
            await answer.wait()
            return pushed

        with monkeypatch.context() as patch:
            patch.setattr(self.sender, "_push", slowly)
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self.sender.run())
                await arrived.wait()
                yield
                answer.set()

    def tokens_pushed(self) -> list[str]:
        return [push["token"] for push in self.apns.received if push["token"] != NOBODY]


@pytest.fixture
async def road(make_database: MakeDatabase, tmp_path: Path) -> AsyncIterator[Road]:
    apns = ApnsStandIn(tmp_path / "apns")
    await apns.start()
    keys = tmp_path / "keys"
    ensure_service_keys(keys, "push_notifier")
    pool = await open_pool(await make_database("push_notifier"), name="test")
    settings = PushSettings(
        apns_host="127.0.0.1",
        apns_port=apns.port,
        apns_trust=apns.trust,
        apns_portal_url=f"{apns.side_url}/portal/certificate",
        send_timeout=2,
    )
    # A minute ahead of the database's clock: what handlers make due "now" is due.
    clock = FixedClock(datetime.now(UTC) + timedelta(minutes=1))
    cipher, calls = LocalCipher.load(keys / "push_notifier"), RecordedCalls()
    certificates = Certificates(pool, cipher, calls, settings, clock)
    keyring = Keyring.load(keys / "push_notifier")
    sender = Sender(pool, keyring, certificates, settings, clock)
    portal = StandInPortal(pool, settings.apns_portal_url or "", certificates)
    await portal.run()
    apns.received.clear()  # the push that tried the certificate
    public = PublicKeys(keys / "public")
    yield Road(
        pool, clock, settings, certificates, sender, portal, public, apns, cipher, keyring, calls
    )
    certificates.close()
    await pool.close()
    await apns.stop()


TOKEN = "0a" * 32


async def test_one_wake_a_channel_however_many_commands_wait(road: Road) -> None:
    device = uuid7()
    channel = await road.enroll(device, TOKEN, road.clock.now())
    for _ in range(5):
        await road.queue(device, channel)
    await road.sender.run()
    await road.queue(device, channel)
    await road.sender.run()
    assert road.tokens_pushed() == [TOKEN]
    (sent,) = await road.events(PushSent)
    assert sent.channel_id == channel


async def test_what_was_queued_before_the_queue_was_empty_and_comes_later_wakes_nobody(
    road: Road,
) -> None:
    """Both come on topics of their own, in any order; `ce_sequence` says which was said last."""
    device = uuid7()
    channel = await road.enroll(device, TOKEN, road.clock.now())
    await road.finish(device, channel, empty=True, sequence=50)
    await road.queue(device, channel, sequence=40)
    await road.sender.run()
    assert road.tokens_pushed() == []
    await road.queue(device, channel, sequence=60)
    await road.sender.run()
    assert road.tokens_pushed() == [TOKEN]


async def test_that_the_queue_was_empty_before_the_newest_command_stops_no_wake(road: Road) -> None:
    device = uuid7()
    channel = await road.enroll(device, TOKEN, road.clock.now())
    await road.queue(device, channel, sequence=60)
    await road.finish(device, channel, empty=True, sequence=50)
    await road.sender.run()
    assert road.tokens_pushed() == [TOKEN]
    await road.finish(device, channel, empty=True, sequence=70)
    assert await road.pool.fetchval("SELECT waiting_since FROM channel") is None


async def test_a_channel_heard_of_first_when_its_queue_was_empty_is_not_woken_late(
    road: Road,
) -> None:
    device, channel = uuid7(), uuid7()
    await road.finish(device, channel, empty=True, sequence=50)
    await road.queue(device, channel, sequence=40)
    assert await road.pool.fetchval("SELECT waiting_since FROM channel") is None


async def test_pushes_wait_in_the_database_not_in_memory_while_apns_is_slow(road: Road) -> None:
    """At most one batch is on its way; what APNs never answered comes again later."""
    settings = road.settings.model_copy(update={"send_at_once": 10, "send_timeout": 0.3})
    certificates = Certificates(road.pool, road.cipher, road.calls, settings, road.clock)
    sender = Sender(road.pool, road.keyring, certificates, settings, road.clock)
    road.apns.rules.append(Rule(drop=True))
    for number in range(1, 36):
        device = uuid7()
        await road.queue(device, await road.enroll(device, f"{number:064x}", road.clock.now()))
    assert await sender.run()  # a full batch: more waits
    assert len(road.tokens_pushed()) == 10
    due = "SELECT count(*) FROM channel WHERE next_push_at <= $1"
    assert await road.pool.fetchval(due, road.clock.now()) == 25
    road.apns.rules.clear()
    road.apns.received.clear()
    while await sender.run():
        pass
    assert len(set(road.tokens_pushed())) == 25
    road.clock.advance(timedelta(seconds=5))  # longer than the first pause after a failure
    await sender.run()
    assert len(set(road.tokens_pushed())) == 35
    certificates.close()


async def test_no_push_before_the_token_update(road: Road) -> None:
    device = uuid7()
    channel = await road.enroll(device, TOKEN, road.clock.now(), state="pending")
    await road.queue(device, channel)
    await road.sender.run()
    assert road.tokens_pushed() == []
    await road.enroll(device, TOKEN, road.clock.now())
    await road.sender.run()
    assert road.tokens_pushed() == [TOKEN]


async def test_a_quarantined_enrollment_is_never_woken_and_takes_no_ones_place(road: Road) -> None:
    """Even if its token were told, as it never is; the device's own channel stays as it was."""
    device, real, fake = uuid7(), uuid7(), uuid7()

    def claims(enrollment_id: UUID, state: Any, token: str) -> EnrollmentState:
        secret = json.dumps({"token": token, "magic": "m"}).encode()
        sealed = road.public.seal("push_notifier", secret, purpose="push", device_id=device)
        channel = ChannelState(
            channel_id=UUID(int=enrollment_id.int + 1),
            kind="device",
            open=True,
            push_topic=topic,
            push=sealed,
            push_updated_at=road.clock.now(),
        )
        return EnrollmentState(
            enrollment_id=enrollment_id,
            generation=1,
            state=state,
            pins=[],
            authenticated_at=road.clock.now(),
            channels=[channel],
        )

    topic = await road.topic()
    told = DeviceState(
        device_id=device,
        platform=Platform.IOS,
        ownership=Ownership.CORPORATE,
        current_enrollment=real,
        enrollments=[claims(real, "enrolled", TOKEN), claims(fake, "quarantined", "ee" * 32)],
    )
    await road.hear(told, service="enrollment")
    for one in (fake, real):
        await road.queue(device, UUID(int=one.int + 1))
    await road.sender.run()
    assert road.tokens_pushed() == [TOKEN]


async def test_a_silent_device_is_woken_again_on_schedule(road: Road) -> None:
    device = uuid7()
    channel = await road.enroll(device, TOKEN, road.clock.now())
    await road.queue(device, channel)
    await road.sender.run()
    waits = (*road.settings.repush_after, road.settings.repush_after[-1])
    for pushed, wait in enumerate(waits, start=1):
        road.clock.advance(timedelta(seconds=wait - 1))
        await road.sender.run()
        assert len(road.apns.received) == pushed
        road.clock.advance(timedelta(seconds=1))
        await road.sender.run()
        assert len(road.apns.received) == pushed + 1


async def test_an_emptied_queue_ends_the_schedule(road: Road) -> None:
    device = uuid7()
    channel = await road.enroll(device, TOKEN, road.clock.now())
    await road.queue(device, channel)
    await road.sender.run()
    await road.finish(device, channel, empty=True)
    road.clock.advance(timedelta(days=2))
    await road.sender.run()
    assert len(road.apns.received) == 1
    await road.queue(device, channel)
    await road.sender.run()
    assert len(road.apns.received) == 2


async def test_not_now_then_another_answer_schedules_a_push(road: Road) -> None:
    """apple.md §1.11, 11."""
    device = uuid7()
    channel = await road.enroll(device, TOKEN, road.clock.now())
    await road.hear(
        CommandDeferred(device_id=device, channel_id=channel, command_id=uuid7(), push_wanted=True)
    )
    await road.sender.run()
    assert road.tokens_pushed() == []
    road.clock.advance(timedelta(seconds=road.settings.not_now_wait))
    await road.sender.run()
    assert road.tokens_pushed() == [TOKEN]


@pytest.mark.parametrize("reason", ["BadDeviceToken", "DeviceTokenNotForTopic"])
async def test_a_dead_token_is_left_alone_until_the_next_token_update(
    road: Road, reason: str
) -> None:
    device = uuid7()
    channel = await road.enroll(device, TOKEN, road.clock.now())
    road.apns.rules.append(Rule(status=400, reason=reason, times=1))
    await road.queue(device, channel)
    await road.sender.run()
    (failed,) = await road.events(PushFailed)
    assert failed.token_dead
    assert failed.reason == reason
    await road.queue(device, channel)
    road.clock.advance(timedelta(days=1))
    await road.sender.run()
    assert len(road.apns.received) == 1
    await road.enroll(device, "0b" * 32, road.clock.now())
    await road.sender.run()
    assert road.tokens_pushed() == [TOKEN, "0b" * 32]


async def test_a_stale_410_is_about_the_token_before(road: Road) -> None:
    """apple.md §1.11, 25."""
    device, since = uuid7(), road.clock.now()
    channel = await road.enroll(device, TOKEN, since)
    stale = int((since - timedelta(hours=1)).timestamp() * 1000)
    road.apns.rules.append(Rule(status=410, reason="Unregistered", timestamp=stale, times=1))
    await road.queue(device, channel)
    await road.sender.run()
    road.clock.advance(timedelta(minutes=1))
    await road.sender.run()
    assert [push["status"] for push in road.apns.received] == [410, 200]
    fresh = int((since + timedelta(hours=1)).timestamp() * 1000)
    road.apns.rules.append(Rule(status=410, reason="Unregistered", timestamp=fresh, times=1))
    road.clock.advance(timedelta(hours=1))
    await road.sender.run()
    road.clock.advance(timedelta(days=3))
    await road.sender.run()
    assert [push["status"] for push in road.apns.received] == [410, 200, 410]


async def test_a_refused_certificate_opens_the_circuit_for_its_topic(road: Road) -> None:
    first, second = uuid7(), uuid7()
    one = await road.enroll(first, TOKEN, road.clock.now())
    two = await road.enroll(second, "0c" * 32, road.clock.now())
    road.apns.rules.append(Rule(status=403, reason="BadCertificate", times=1))
    await road.queue(first, one)
    await road.sender.run()
    await road.queue(second, two)
    await road.sender.run()
    assert len(road.apns.received) == 1
    road.clock.advance(timedelta(minutes=2))
    await road.sender.run()
    assert [push["status"] for push in road.apns.received] == [403, 200, 200]


async def test_a_refused_certificate_costs_the_other_topics_nothing(road: Road) -> None:
    """However many wait for it: a look steps over the topic, and takes what waits longest."""
    now = road.clock.now()
    async with road.pool.acquire() as connection:
        await connection.execute(
            "INSERT INTO channel (channel_id, device_id, open, topic, push, waiting_since,"
            " next_push_at) SELECT gen_random_uuid(), gen_random_uuid(), true, topic, 'x', $1,"
            " $1::timestamptz - place * interval '1 second'"
            " FROM (VALUES ('a', 1), ('refused', 30000), ('z', 2)) AS topics (topic, many),"
            " LATERAL generate_series(1, many) AS place",
            now,
        )
        await connection.execute("ANALYZE channel")
        await attempts.open_circuits(connection, ["refused"], now, timedelta(hours=1), "expired")
        plan = await connection.fetchval(
            "EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) " + channels.CLAIM_DUE,
            now,
            timedelta(0),
            100,
        )
        assert plan[0]["Plan"]["Shared Hit Blocks"] < 100
        later, lease = now + timedelta(seconds=5), timedelta(minutes=1)
        first = await channels.claim_due(connection, later, lease, 2)
        rest = await channels.claim_due(connection, later, lease, 2)
        assert sorted(one.topic for one in [*first, *rest]) == ["a", "z", "z"]
        assert len(first) == 2
        again = await channels.claim_due(connection, now + timedelta(hours=2), lease, 40000)
    assert len(again) == 30003


async def test_busy_and_broken_answers_are_tried_again(road: Road) -> None:
    device = uuid7()
    channel = await road.enroll(device, TOKEN, road.clock.now())
    road.apns.rules += [
        Rule(status=429, reason="TooManyRequests", times=1),
        Rule(status=503, reason="ServiceUnavailable", times=1),
        Rule(goaway=True, times=1),
    ]
    await road.queue(device, channel)
    for _ in range(4):
        await road.sender.run()
        road.clock.advance(timedelta(minutes=1))
    assert len(await road.events(PushSent)) == 1
    assert len(await road.events(PushFailed)) == 3


async def test_equal_tokens_of_different_devices_are_pushed_each(road: Road) -> None:
    """apple.md §1.12, 6."""
    devices = [uuid7(), uuid7()]
    for device in devices:
        channel = await road.enroll(device, TOKEN, road.clock.now())
        await road.queue(device, channel)
    await road.sender.run()
    assert road.tokens_pushed() == [TOKEN, TOKEN]
    assert {event.device_id for event in await road.events(PushSent)} == set(devices)


async def test_older_device_state_changes_nothing(road: Road) -> None:
    device = uuid7()
    channel = await road.enroll(device, "0d" * 32, road.clock.now())
    state = DeviceState(
        device_id=device, platform=Platform.IOS, ownership=Ownership.UNKNOWN, enrollments=[]
    )
    old = travelled(state, service="enrollment", sequence=0)
    await apply(road.pool, "push_notifier", handlers(road.settings, road.wake), old)
    await road.queue(device, channel)
    await road.sender.run()
    assert road.tokens_pushed() == ["0d" * 32]


async def test_a_token_that_does_not_open_is_our_fault_and_stops_nobody(road: Road) -> None:
    device, good = uuid7(), uuid7()
    channel = await road.enroll(device, TOKEN, road.clock.now())
    await road.pool.execute("UPDATE channel SET push = 'bm90IHNlYWxlZA=='")
    await road.queue(device, channel)
    other = await road.enroll(good, "0e" * 32, road.clock.now())
    await road.queue(good, other)
    await road.sender.run()
    assert road.tokens_pushed() == ["0e" * 32]
    (failed,) = await road.events(PushFailed)
    assert not failed.token_dead


async def test_a_crash_between_claim_and_record_repeats_the_push(road: Road) -> None:
    device = uuid7()
    channel = await road.enroll(device, TOKEN, road.clock.now())
    await road.queue(device, channel)
    async with road.pool.acquire() as connection:
        await connection.execute(
            "UPDATE channel SET next_push_at = $1::timestamptz + interval '60 s', attempts = 1",
            road.clock.now(),
        )
    await road.sender.run()
    assert road.tokens_pushed() == []
    road.clock.advance(timedelta(seconds=61))
    await road.sender.run()
    assert road.tokens_pushed() == [TOKEN]


async def test_a_token_that_comes_while_the_old_one_is_pushed_is_pushed_at_once(
    road: Road, monkeypatch: pytest.MonkeyPatch
) -> None:
    device = uuid7()
    channel = await road.enroll(device, TOKEN, road.clock.now())
    await road.queue(device, channel)
    async with road.push_on_its_way(monkeypatch):
        await road.enroll(device, "0b" * 32, road.clock.now() + timedelta(seconds=1))
    await road.sender.run()
    assert road.tokens_pushed() == [TOKEN, "0b" * 32]


async def test_work_that_comes_while_a_push_for_finished_work_is_on_its_way_is_pushed_at_once(
    road: Road, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The device may be quicker than the answer of APNs."""
    device = uuid7()
    channel = await road.enroll(device, TOKEN, road.clock.now())
    await road.queue(device, channel)
    async with road.push_on_its_way(monkeypatch):
        await road.finish(device, channel, empty=True)
        await road.queue(device, channel)
    await road.sender.run()
    assert road.tokens_pushed() == [TOKEN, TOKEN]


async def test_a_queue_emptied_while_a_push_is_on_its_way_ends_the_schedule(
    road: Road, monkeypatch: pytest.MonkeyPatch
) -> None:
    device = uuid7()
    channel = await road.enroll(device, TOKEN, road.clock.now())
    await road.queue(device, channel)
    async with road.push_on_its_way(monkeypatch):
        await road.finish(device, channel, empty=True)
    road.clock.advance(timedelta(days=1))
    await road.sender.run()
    assert road.tokens_pushed() == [TOKEN]
