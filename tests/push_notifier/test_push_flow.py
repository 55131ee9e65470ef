"""From work that waits to a push sent, on a real database and against the stand-in."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any
from uuid import UUID

from services.push_notifier.consumers import handlers
from shared.bus import apply
from shared.bus.testing import travelled
from shared.events.base import uuid7
from shared.events.commands import (
    CommandDeferred,
)
from shared.events.device_state import ChannelState, DeviceState, EnrollmentState
from shared.events.devices import Ownership, Platform
from shared.events.pushes import PushSent
from tests.push_notifier.road import TOKEN, Road


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
    await road.waiting()
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
    device, channel = await road.waiting()
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
