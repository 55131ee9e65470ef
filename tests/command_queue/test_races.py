"""Acceptance 8: no answer that begins after a cancel's, freeze's or fence's own answer hands such
a command out, whoever else is at work.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta

import pytest

from shared.events import uuid7
from shared.events.commands import CommandFinished, TargetState
from tests.command_queue.fleet import Fleet, Given, Phone

WORKERS = 50


@dataclass
class Watch:
    """What was handed out by answers that began after a stop had been answered."""

    stopped: set[str] = field(default_factory=set)
    """Command ids, added once the stop has been answered."""
    handed: int = 0
    wrong: list[str] = field(default_factory=list)
    warm: asyncio.Event = field(default_factory=asyncio.Event)
    late: int = 0
    seen_enough: asyncio.Event = field(default_factory=asyncio.Event)

    async def poll(self, say: Callable[[], Awaitable[Given | None]]) -> Given | None:
        before = set(self.stopped)
        one = await say()
        self.late += len(before) == len(self.stopped) > 0
        if self.late >= 2 * WORKERS:
            self.seen_enough.set()
        if one is not None:
            self.handed += 1
            if self.handed == WORKERS // 2:
                self.warm.set()
            if one.command_uuid in before:
                self.wrong.append(one.command_uuid)
        return one


async def _worker(
    phone: Phone, watch: Watch, over: asyncio.Event, seed: int, *, answers: bool = True
) -> None:
    """A device that polls, answers, forgets to answer and says NotNow."""
    chance = random.Random(seed)
    one: Given | None = None
    while not over.is_set():
        uuid = one.command_uuid if one else None
        if uuid is None or not answers or chance.random() < 0.3:
            one = await watch.poll(phone.idle)
        else:
            status = chance.choice(["Acknowledged", "NotNow", "Error"])
            one = await watch.poll(lambda s=status, u=uuid: phone.say(s, u))  # type: ignore[misc]


async def _race(
    phones: list[Phone],
    commands: list[str],
    stop: Callable[[str], Awaitable[None]],
    *,
    stops: Sequence[str] = (),
    answers: bool = True,
) -> Watch:
    """Let fifty devices poll while the commands are stopped one after the other."""
    watch, over = Watch(), asyncio.Event()
    async with asyncio.TaskGroup() as group:
        for number, phone in enumerate(phones):
            group.create_task(_worker(phone, watch, over, number, answers=answers))
        await watch.warm.wait()
        for command_id in commands:
            await stop(command_id)
            watch.stopped.update(stops or [command_id])
        # Polls that began after the last stop was answered: two a device.
        watch.late = 0
        watch.seen_enough.clear()
        await watch.seen_enough.wait()
        over.set()
    return watch


async def _commands(fleet: Fleet, phones: list[Phone], count: int) -> list[str]:
    return [
        (await fleet.ask(*phones, kind="device.restart", priority=number))["command_id"]
        for number in range(count)
    ]


async def _check_outcomes(fleet: Fleet, targets: int) -> list[CommandFinished]:
    """Each target has one outcome or one open row, and one event for each outcome."""
    finished = await fleet.finished()
    keys = [(event.command_id, event.channel_id) for event in finished]
    assert len(keys) == len(set(keys))
    outcomes = await fleet.rows("SELECT command_id, channel_id FROM outcome")
    pending = await fleet.rows("SELECT command_id, channel_id FROM pending")
    assert len(outcomes) == len(finished)
    assert len(outcomes) + len(pending) == targets
    return finished


async def test_fifty_workers_and_cancels(fleet: Fleet) -> None:
    phones = await fleet.enroll(WORKERS)
    commands = await _commands(fleet, phones, 8)

    async def stop(command_id: str) -> None:
        path = f"/api/v1/commands/{command_id}/cancel"
        assert (await fleet.trial.call("POST", path, {})).status == 200

    watch = await _race(phones, list(reversed(commands)), stop)
    assert watch.wrong == []
    assert watch.handed > 0
    await fleet.job("sweep ended commands")
    await _check_outcomes(fleet, WORKERS * 8)
    for phone in phones:
        assert await phone.idle() is None


async def test_fifty_workers_and_freezes(fleet: Fleet) -> None:
    phones = await fleet.enroll(WORKERS)
    first = await _commands(fleet, phones, 4)

    async def stop(_: str) -> None:
        fleet.clock.advance(timedelta(milliseconds=1))
        body = {"before": fleet.clock.now().isoformat(), "reason": "race"}
        answer = await fleet.trial.call("POST", "/api/v1/commands/freeze", body)
        assert answer.status == 201

    # One freeze stops all that was asked for before it.
    watch = await _race(phones, ["the freeze"], stop, stops=first)
    assert watch.wrong == []
    assert watch.handed > 0
    second = await _commands(fleet, phones, 1)
    one = await phones[0].idle()
    assert one
    assert one.command_uuid == second[0]


async def test_fifty_workers_and_fences(fleet: Fleet) -> None:
    phones = await fleet.enroll(WORKERS)
    commands = await _commands(fleet, phones, 6)
    watches = {phone.udid: Watch() for phone in phones}
    over = asyncio.Event()
    async with asyncio.TaskGroup() as group:
        for number, phone in enumerate(phones):
            group.create_task(_worker(phone, watches[phone.udid], over, number))
        for phone in phones:
            assert (await fleet.fence(phone, 2)).status == 200
            watches[phone.udid].stopped.update(commands)
        for watch in watches.values():
            watch.late = 2 * WORKERS - 2
            watch.seen_enough.clear()
        await asyncio.gather(*(watch.seen_enough.wait() for watch in watches.values()))
        over.set()
    assert [watch.wrong for watch in watches.values() if watch.wrong] == []
    finished = await _check_outcomes(fleet, WORKERS * 6)
    assert await fleet.rows("SELECT FROM pending") == []
    states = {event.state for event in finished}
    assert TargetState.CANCELLED in states
    # Also in the new generation nothing of the old one comes back.
    for phone in phones:
        phone.generation = 2
        await phone.tell()
        assert await phone.idle() is None


async def test_fifty_workers_and_expiry(fleet: Fleet) -> None:
    phones = await fleet.enroll(WORKERS)
    commands = [
        (await fleet.ask(*phones, kind="device.restart", expires_in_seconds=60 + number))[
            "command_id"
        ]
        for number in range(5)
    ]
    at = {command_id: 60 + number for number, command_id in enumerate(commands)}
    begun = fleet.clock.now()

    async def stop(command_id: str) -> None:
        wanted = begun + timedelta(seconds=at[command_id])
        fleet.clock.advance(wanted - fleet.clock.now())
        # No sweeper came by yet: the clock alone must be enough.
        await asyncio.sleep(0)

    watch = await _race(phones, commands, stop, answers=False)
    assert watch.wrong == []
    await fleet.job("sweep ended commands")
    await _check_outcomes(fleet, WORKERS * 5)


@pytest.mark.parametrize("status", ["Acknowledged", "Error"])
async def test_the_same_answer_from_fifty_connections_has_one_outcome(
    fleet: Fleet, status: str
) -> None:
    phone = await fleet.enroll()
    await fleet.ask(phone)
    one = await phone.idle()
    assert one
    await asyncio.gather(*(phone.say(status, one.command_uuid) for _ in range(WORKERS)))
    assert len(await fleet.finished()) == 1
    assert len(await fleet.rows("SELECT FROM outcome")) == 1


async def test_a_command_is_expanded_once_by_two_runners(fleet: Fleet) -> None:
    phones = await fleet.enroll(30)
    for _ in range(5):
        await fleet.ask(*phones, expand=False)
    await asyncio.gather(*(fleet.job("expand targets") for _ in range(4)))
    assert len(await fleet.rows("SELECT FROM pending")) == 150
    assert len(await fleet.queued()) == 150


async def test_what_was_asked_of_one_enrollment_never_reaches_the_next(fleet: Fleet) -> None:
    """A device checks out and comes back before its commands came into a queue: an erase that was
    meant for the old owner's enrollment must not find the new one.
    """
    phone = await fleet.enroll()
    asked = await fleet.ask(phone, kind="device.erase", expand=False)
    former = replace(phone, state="ended", open=False)
    await fleet.fence(former, former.generation, "ended")
    phone.enrollment_id, phone.channel_id = uuid7(), uuid7()
    phone.identity = fleet.authority.issue(phone.udid)
    await fleet.trial.hears(phone.told(former), service="enrollment")
    later = await fleet.ask(phone, expand=False)
    await fleet.job("expand targets")
    given = await phone.drain()
    assert [one.command_uuid for one in given] == [later["command_id"]]
    [target] = await fleet.targets(asked["command_id"])
    assert (target["state"], target["reason"]) == ("cancelled", "enrollment ended")
