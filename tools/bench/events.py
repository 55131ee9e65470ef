"""How long events take: asked → pushed, and answered → fact → verdict → visible.

Commands are asked for, and then answered, at a constant rate, whether Muster keeps up or not. Times
are of the machine's monotonic clock, which all processes share.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final

from aiokafka import AIOKafkaConsumer

from shared.bus import envelope
from shared.bus.kafka import stop
from shared.events import Event
from shared.events.compliance import VerdictChanged, VerdictState
from shared.events.inventory import FactsChanged
from tools.bench import bodies, scenarios
from tools.bench.backlog import access
from tools.bench.bench import Bench, JsonLine
from tools.bench.driver import Manner
from tools.bench.fleet import Device
from tools.bench.muster import COMMANDS, Muster
from tools.bench.results import in_milliseconds
from tools.bench.scenarios import Asked

RATE: Final = 150.0
"""Commands asked for a second, then answers a second."""
A_CALL: Final = 10
CONNECTIONS: Final = 64
VERDICTS: Final = "/api/v1/compliance/devices/{}/verdicts"
_SAMPLE: Final = 25
"""One device in so many is looked up through the API until it shows the new verdict."""
_LOOK_SECONDS = 0.02
_PATIENCE = 60.0
_FACT: Final = "passcode.present"
_WATCHED: Final = {FactsChanged.TYPE, VerdictChanged.TYPE}

Times = dict[str, float]
"""By device id: when it happened."""


async def latency(bench: Bench) -> AsyncIterator[JsonLine]:
    """A round with passcodes, so that everything is known; then the devices have lost them."""
    muster, devices = bench.muster, bench.devices
    _, asked = await scenarios.enqueue(bench.ground, devices)
    await scenarios.drain(bench.ground, asked)
    await bench.calm()
    asked_at, asked = await _ask(bench)
    await bench.calm()
    yield duration("asked → pushed", asked_at, _pushed(muster, devices))
    talks = await scenarios.talks(bench.ground, asked, bodies.without_passcode)
    async with _watching(muster) as seen:
        looks = [
            asyncio.create_task(_look(muster, device, place))
            for place, device in enumerate(devices)
            if place % _SAMPLE == 0
        ]
        manner = Manner(CONNECTIONS, rate=RATE, keep_times=True)
        line, measured = await scenarios.answer(bench.ground, talks, manner, "answers at a rate")
        await _until_told(seen.setdefault(VerdictChanged.TYPE, {}), len(devices))
        visible = dict(found for found in await asyncio.gather(*looks) if found)
    yield line.json()
    ids = [muster.device_ids[device.udid] for device in devices]
    # A device's last request of the round is its answer.
    answered = {ids[place]: began for place, began, _ in measured.times}
    yield duration("answered → fact", answered, seen.get(FactsChanged.TYPE, {}))
    yield duration("answered → verdict", answered, seen.get(VerdictChanged.TYPE, {}))
    yield duration("answered → visible", {one: answered[one] for one in visible}, visible)


def duration(name: str, begun: Times, ended: Times) -> dict[str, Any]:
    """`missing`: what never came, or came before its cause and so has another."""
    took = [ended[one] - began for one, began in begun.items() if ended.get(one, 0.0) >= began]
    return {
        "scenario": f"events: {name}",
        "system": "muster",
        "unit": "devices",
        "units": len(took),
        "rate": RATE,
        "missing": len(begun) - len(took),
        **in_milliseconds(took),
    }


async def _ask(bench: Bench) -> tuple[Times, Asked]:
    """Ask for a command for ten devices at a time, at the rate; when was which asked for?"""
    muster, devices = bench.muster, bench.devices
    groups = [devices[at : at + A_CALL] for at in range(0, len(devices), A_CALL)]
    asked_at: Times = {}
    uuids: list[str] = []
    async with muster.cluster.session() as session:
        started = time.perf_counter()
        for place, group in enumerate(groups):
            await asyncio.sleep(started + place * A_CALL / RATE - time.perf_counter())
            began = time.perf_counter()
            body = muster.command(group)
            made = await muster.cluster.call(session, "command_queue", "POST", COMMANDS, json=body)
            uuids.append(str(made["command_id"]))
            asked_at |= dict.fromkeys(body["device_ids"], began)
    await muster.until_queued()
    return asked_at, Asked(devices, list(zip(groups, uuids, strict=True)))


def _pushed(muster: Muster, devices: Sequence[Device]) -> Times:
    """When the stand-in for APNs received the last push for each device."""
    to_monotonic = time.perf_counter() - time.time()
    ids = {bodies.push_token(one).hex(): muster.device_ids[one.udid] for one in devices}
    return {
        ids[push["token"]]: push["at"] + to_monotonic
        for push in muster.cluster.apns.received
        if push["token"] in ids
    }


@asynccontextmanager
async def _watching(muster: Muster) -> AsyncIterator[dict[str, Times]]:
    """When a consumer had the events that the answers lead to, by type and device."""
    seen: dict[str, Times] = {}
    topics = [FactsChanged.TOPIC, VerdictChanged.TOPIC]
    consumer = access(muster.cluster.running.kafka_admin).consumer(None, topics)
    await consumer.start()
    await consumer.seek_to_end()
    for place in consumer.assignment():
        await consumer.position(place)  # from here on, not from whenever it first asks
    watching = asyncio.create_task(_watch(consumer, seen))
    try:
        yield seen
    finally:
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)
        await stop(consumer)


async def _watch(consumer: AIOKafkaConsumer, seen: dict[str, Times]) -> None:
    async for record in consumer:
        now = time.perf_counter()
        if envelope.type_of(record.headers) in _WATCHED:
            event = envelope.decode(record.headers, record.value)
            if tells_of_loss(event):
                seen.setdefault(event.TYPE, {}).setdefault(event.subject, now)


def tells_of_loss(event: Event) -> bool:
    """Whether an event says what the answers of the round do: the passcode is gone.

    Others come about the same devices meanwhile, before their answers as well: reports that
    inventory asks for, verdicts of other policies. The first event about a device is not the one.
    """
    if isinstance(event, FactsChanged):
        return any(one.name == _FACT and one.value is False for one in event.changes)
    return isinstance(event, VerdictChanged) and event.state is VerdictState.NONCOMPLIANT


async def _until_told(times: Mapping[str, float], devices: int) -> None:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_PATIENCE):
            while len(times) < devices:  # noqa: ASYNC110 - whoever fills it has no time to tell
                await asyncio.sleep(_LOOK_SECONDS)


async def _look(muster: Muster, device: Device, place: int) -> tuple[str, float] | None:
    """Look until the API shows a device as it is without a passcode; None: it never did."""
    device_id = muster.device_ids[device.udid]
    await asyncio.sleep(place / RATE)
    deadline = time.monotonic() + _PATIENCE
    async with muster.cluster.session() as session:
        while time.monotonic() < deadline:
            path = VERDICTS.format(device_id)
            found = await muster.cluster.call(session, "compliance", "GET", path)
            if found["state"] == "noncompliant":
                return device_id, time.perf_counter()
            await asyncio.sleep(_LOOK_SECONDS)
    return None
