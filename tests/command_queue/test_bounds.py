"""What devices and strangers can make command_queue remember is bounded (docs/back-pressure.md)."""

from __future__ import annotations

import asyncio
from typing import Any, Literal

import pytest

from services.command_queue import delivery, presence
from services.command_queue.http.devices import CONNECT
from services.command_queue.store import outcomes
from tests.command_queue.fleet import Fleet, Phone


async def test_sightings_that_cannot_be_written_do_not_pile_up(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(presence, "_MOST_NOTED", 3)
    noted = fleet.trial.parts.values[CONNECT]._presence
    phones = await fleet.enroll(5)
    for phone in phones:
        await phone.idle()
    assert len(noted._noted) == 3
    while await noted.flush():
        pass
    assert len(await fleet.rows("SELECT FROM presence")) == 3
    await phones[4].idle()  # there is room again
    await noted.flush()
    assert len(await fleet.rows("SELECT FROM presence")) == 4


async def test_who_poisons_batches_is_remembered_for_a_while_only(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(delivery, "_POISONERS", 2)
    settle = outcomes.settle

    async def refuse(tx: Any, ends: Any, now: Any, *, out_of: Any) -> Any:
        if any(end.state == "acknowledged" for end in ends):
            raise ValueError("not to be stored")
        return await settle(tx, ends, now, out_of=out_of)

    monkeypatch.setattr(outcomes, "settle", refuse)
    remembered = fleet.trial.parts.values[CONNECT]._delivery._poison
    for _ in range(5):
        phone = await fleet.enroll()
        await fleet.ask(phone)
        one = await phone.idle()
        assert one
        await phone.say("Acknowledged", one.command_uuid)
        assert len(remembered) <= 2


def _large(phone: Phone) -> bytes:
    return phone.body("Acknowledged", "0", Rest=b"x" * 2 * 1024 * 1024)


async def test_a_stranger_takes_no_place_that_large_answers_need(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All places are taken: a device would wait its turn, a stranger is sent away at once."""
    connect = fleet.trial.parts.values[CONNECT]
    monkeypatch.setattr(connect, "large", asyncio.Semaphore(0))
    stranger, device = fleet.phone(), await fleet.enroll()
    answer = await stranger.send(_large(stranger))
    assert (answer.status, answer.headers["Retry-After"]) == (503, "5")
    waiting = asyncio.create_task(device.send(_large(device)))
    await asyncio.sleep(0.3)
    assert not waiting.done()
    connect.large.release()
    assert (await waiting).status == 200


class _Places(asyncio.Semaphore):
    """Tells when somebody waits for a place: nothing more of a body is read then."""

    def __init__(self, count: int) -> None:
        super().__init__(count)
        self.wanted = asyncio.Event()

    async def acquire(self) -> Literal[True]:
        self.wanted.set()
        return await super().acquire()


async def test_bodies_of_all_devices_together_are_bounded(fleet: Fleet) -> None:
    """A device's bytes count until it is answered, however it is answered."""
    connect = fleet.trial.parts.values[CONNECT]
    gate = fleet.trial._listening._open["devices"].gates[0]
    connect.large = places = _Places(0)
    device = await fleet.enroll()
    waiting = asyncio.create_task(device.send(_large(device)))
    async with asyncio.timeout(30):
        await places.wanted.wait()
    gate._most_bodies = gate._bodies
    assert (await device.send(device.body("Idle"))).status == 503
    gate._most_bodies *= 100
    connect.large.release()
    assert (await waiting).status == 200
    assert gate._bodies == 0
    assert await device.idle() is None
