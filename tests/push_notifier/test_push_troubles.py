"""What becomes of pushes that APNs refuses, does not answer, or that cannot be made."""

from __future__ import annotations

from datetime import timedelta

import pytest

from services.push_notifier.certificates import Certificates
from services.push_notifier.sending import Sender
from services.push_notifier.store import attempts, channels
from shared.events.base import uuid7
from shared.events.pushes import PushFailed, PushSent
from tests.push_notifier.road import TOKEN, Road
from tools.embedded.apns import Rule


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
    while await road.sender.run():
        pass
    assert len(set(road.tokens_pushed())) == 25
    road.clock.advance(timedelta(seconds=5))  # longer than the first pause after a failure
    await road.sender.run()
    assert len(set(road.tokens_pushed())) == 35
    certificates.close()


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
