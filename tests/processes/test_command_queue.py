"""command_queue as three processes: the same results as one (architecture §1: any number)."""

from __future__ import annotations

import asyncio
import os
import signal

import aiohttp
import pytest

from shared.events.commands import DeviceSeen
from tests.command_queue.fleet import Fleet, Given, Phone
from tests.processes.conftest import PROCESSES, family_of
from tests.processes.family import Family

pytestmark = pytest.mark.timeout(300)  # starting processes is what a busy machine is slow at

POLLS = "muster_command_queue_polls_total"


async def test_each_command_is_handed_out_once_by_whichever_process(fleet: Fleet) -> None:
    """Batches of three processes meet at the same devices: nothing doubles, nothing hangs."""
    phones = await fleet.enroll(40)
    for _ in range(3):
        await fleet.ask(*phones)
    drained = await asyncio.gather(*(_drain_by_many(phone) for phone in phones))
    assert [len(given) for given in drained] == [3] * 40
    assert all(len({one.command_uuid for one in given}) == 3 for given in drained)
    assert len(await fleet.finished()) == 120
    deliveries = await fleet.rows("SELECT DISTINCT deliveries FROM outcome")
    assert deliveries == [{"deliveries": 1}]
    assert await fleet.rows("SELECT FROM pending") == []
    assert all(await family_of(fleet).measured(POLLS)), "a process took no part"


async def _drain_by_many(phone: Phone) -> list[Given]:
    found = []
    one = await phone.idle()
    while one is not None:
        found.append(one)
        one = await phone.say("Acknowledged", one.command_uuid)
    return found


async def test_one_device_on_many_connections_is_given_one_thing(fleet: Fleet) -> None:
    """Polls of one device in all processes at once: the same command each time, one at a time."""
    phone = await fleet.enroll()
    first = await fleet.ask(phone)
    await fleet.ask(phone)
    given = await asyncio.gather(*(phone.idle() for _ in range(30)))
    assert {one.command_uuid for one in given if one} == {first["command_id"]}


async def test_a_device_seen_by_all_processes_is_told_once(fleet: Fleet) -> None:
    phones = await fleet.enroll(20)
    for _ in range(4):
        await asyncio.gather(*(phone.idle() for phone in phones))
    async with asyncio.timeout(30):
        while len(await fleet.rows("SELECT FROM presence")) < 20:  # noqa: ASYNC110
            await asyncio.sleep(0.1)
    # All have written what they noted: one more flush of each changes nothing.
    await asyncio.sleep(1.2)
    seen = [event for event in await fleet.events() if isinstance(event, DeviceSeen)]
    assert sorted(event.device_id for event in seen) == sorted(p.device_id for p in phones)


async def test_one_child_goes_in_order_and_no_request_is_lost(fleet: Fleet) -> None:
    """SIGTERM to each in turn, under load on kept-alive connections, without a single retry."""
    family = family_of(fleet)
    phones = await fleet.enroll(30)
    over = asyncio.Event()
    polls = 0

    async def live(phone: Phone, session: aiohttp.ClientSession) -> None:
        nonlocal polls
        url = family.url("devices") + "/mdm/apple/connect"
        body = phone.body("Idle")
        headers = {"Mdm-Signature": phone.identity.header(body, fleet.clock.now())}
        while not over.is_set():
            # POST: aiohttp repeats a PUT by itself when a kept-alive connection is gone.
            async with session.post(url, data=body, headers=headers) as answer:
                assert answer.status == 200
                polls += 1
            await asyncio.sleep(0.01)

    async with aiohttp.ClientSession() as session, asyncio.TaskGroup() as group:
        for phone in phones:
            group.create_task(live(phone, session))
        for _ in range(PROCESSES):
            oldest = family.children()[0]
            os.kill(oldest, signal.SIGTERM)
            await _replaced(family, oldest)
        over.set()
    assert polls > 300
    assert family.said().count("died") == 0


async def _replaced(family: Family, old: int) -> None:
    async with asyncio.timeout(60):
        while (  # noqa: ASYNC110 - other processes tell nobody
            old in family.children() or len(family.children()) < PROCESSES
        ):
            await asyncio.sleep(0.05)
    await family.until_ready()


async def test_a_child_that_drains_says_so_and_the_shared_address_serves(fleet: Fleet) -> None:
    family = family_of(fleet)
    phone = await fleet.enroll()
    async with aiohttp.ClientSession() as session:
        ready = [f"http://127.0.0.1:{port}/readyz" for port in family.own_ports]
        # A silent kept-alive connection holds one of them back for a moment.
        async with session.get(family.url("devices") + "/nothing") as answer:
            assert answer.status == 404
        opened = await family.measured("muster_http_connections_open")
        holds = family.children()[opened.index(max(opened))]
        os.kill(holds, signal.SIGTERM)
        said: set[str] = set()
        async with asyncio.timeout(60):
            while "this process: draining\n" not in said:
                said = {await _said(session, url) for url in ready}
        assert (await fleet.fence(phone, 1)).status == 200
        await _replaced(family, holds)


async def _said(session: aiohttp.ClientSession, url: str) -> str:
    try:
        async with session.get(url) as answer:
            return await answer.text()
    except aiohttp.ClientError:
        return "gone"
