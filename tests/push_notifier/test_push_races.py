"""What happens while a push is on its way, and when its sender dies."""

from __future__ import annotations

from datetime import timedelta

import pytest

from tests.push_notifier.road import TOKEN, Road


async def test_a_crash_between_claim_and_record_repeats_the_push(road: Road) -> None:
    await road.waiting()
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
    device, _ = await road.waiting()
    async with road.push_on_its_way(monkeypatch):
        await road.enroll(device, "0b" * 32, road.clock.now() + timedelta(seconds=1))
    await road.sender.run()
    assert road.tokens_pushed() == [TOKEN, "0b" * 32]


async def test_work_that_comes_while_a_push_for_finished_work_is_on_its_way_is_pushed_at_once(
    road: Road, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The device may be quicker than the answer of APNs."""
    device, channel = await road.waiting()
    async with road.push_on_its_way(monkeypatch):
        await road.finish(device, channel, empty=True)
        await road.queue(device, channel)
    await road.sender.run()
    assert road.tokens_pushed() == [TOKEN, TOKEN]


async def test_a_queue_emptied_while_a_push_is_on_its_way_ends_the_schedule(
    road: Road, monkeypatch: pytest.MonkeyPatch
) -> None:
    device, channel = await road.waiting()
    async with road.push_on_its_way(monkeypatch):
        await road.finish(device, channel, empty=True)
    road.clock.advance(timedelta(days=1))
    await road.sender.run()
    assert road.tokens_pushed() == [TOKEN]
