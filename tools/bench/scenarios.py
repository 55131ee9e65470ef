"""What is measured of a device road: enrollments, polls, commands asked for, commands drained.

Each scenario signs its requests first, brings them to the generator, and measures only their
sending. All of them work on any `System`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tools.bench import bodies, signing
from tools.bench.driver import Manner, Measured, Target
from tools.bench.fleet import Device
from tools.bench.generator import Generator
from tools.bench.meter import Meter, Spent
from tools.bench.results import Line
from tools.bench.scripts import Lines, Round, Script, Talks
from tools.bench.system import System, Work, in_groups

CONNECTIONS = 16
Reply = Callable[[Device, str], bodies.Body]
"""A device's answer to the command of this name."""


@dataclass(frozen=True)
class Ground:
    """A system, the load generator, and the folder where signatures are kept."""

    system: System
    generator: Generator
    kept: Path


@dataclass(frozen=True)
class Asked:
    """Commands that wait in queues: for each call its devices and the command's name."""

    devices: Sequence[Device]
    calls: Sequence[tuple[Sequence[Device], str]]


async def enroll(
    ground: Ground, devices: Sequence[Device], *, connections: int = CONNECTIONS
) -> Line:
    """Authenticate, then TokenUpdate, of devices whose certificates are known."""
    system = ground.system
    await system.learn(devices)
    first = [(device, bodies.authenticate(device, system.topic)) for device in devices]
    second = [(device, bodies.token_update(device, system.topic)) for device in devices]
    door = system.check_in
    requests = [
        signing.check_ins(door.path, door.host, await _signed(ground, messages))
        for messages in (first, second)
    ]
    script = Lines(list(zip(*requests, strict=True)))
    measured, spent = await _send(ground, "enroll", door.target, script, Manner(connections))
    await system.know(devices)
    name = named("enroll", connections)
    return Line(name, system.name, "enrollments, two check-ins", len(devices), spent, measured)


async def poll(
    ground: Ground,
    devices: Sequence[Device],
    *,
    seconds: float,
    manner: Manner | None = None,
    name: str | None = None,
    tls: Target | None = None,
) -> Line:
    """Idle polls of devices with nothing to do; `tls`: over this address instead of the plain."""
    system, manner = ground.system, manner or Manner(CONNECTIONS)
    script = Round(await idles(ground, devices), seconds=seconds)
    where, work = _where(ground, tls)
    await _warm(ground, where, script)
    measured, spent = await _send(ground, work, where, script, manner)
    name = name or named("poll", manner.connections)
    return Line(name, system.name, "empty polls", measured.requests, spent, measured)


async def storm(
    ground: Ground,
    devices: Sequence[Device],
    *,
    connections: int | None = None,
    name: str = "storm",
    tls: Target | None = None,
) -> Line:
    """Every device at once (or so many at a time), each over a new connection."""
    script = Round(await idles(ground, devices))
    manner = Manner(connections or len(devices), keep_alive=False)
    where, work = _where(ground, tls)
    measured, spent = await _send(ground, work, where, script, manner)
    unit = "polls, a new connection each"
    return Line(name, ground.system.name, unit, measured.requests, spent, measured)


async def enqueue(
    ground: Ground,
    devices: Sequence[Device],
    *,
    commands: int = 1,
    connections: int = CONNECTIONS,
) -> tuple[Line, Asked]:
    """Commands to a hundred devices a call, until they stand in the devices' queues."""
    system = ground.system
    groups = in_groups(devices) * commands
    calls = system.calls(groups)
    manner = Manner(connections, keep_bodies=True)
    script = Round(calls.requests)
    await ground.generator.load(script)
    loop = asyncio.get_running_loop()
    async with Meter(system.ledger("enqueue"), system.admin).running() as spent:
        began = loop.time()
        measured = await ground.generator.run(calls.target, manner)
        await system.until_queued()
        seconds = loop.time() - began
    uuids = system.command_uuids(calls, measured.bodies)
    asked = Asked(devices, list(zip(groups, uuids, strict=True)))
    line = Line(
        named("enqueue", connections), system.name, "commands to devices",
        sum(map(len, groups)), spent, measured, seconds,
    )  # fmt: skip
    return line, asked


async def drain(ground: Ground, asked: Asked, *, connections: int = CONNECTIONS) -> Line:
    """Every device polls and answers until its queue is empty: two requests a first command."""
    script = await talks(ground, asked)
    line, _ = await answer(ground, script, Manner(connections), named("drain", connections))
    return line


async def talks(ground: Ground, asked: Asked, reply: Reply = bodies.security_info) -> Talks:
    """What the devices will say: Idle, then the answer to each command that was asked for."""
    door = ground.system.connect
    place = {device.udid: at for at, device in enumerate(asked.devices)}
    messages = [
        (device, reply(device, uuid)) for devices, uuid in asked.calls for device in devices
    ]
    signed = await asyncio.to_thread(signing.signed, messages)
    answers: list[dict[bytes, bytes]] = [{} for _ in asked.devices]
    requests = iter(signing.connects(door.path, door.host, signed))
    for devices, uuid in asked.calls:
        for device in devices:
            answers[place[device.udid]][uuid.encode()] = next(requests)
    return Talks(await idles(ground, asked.devices), answers)


async def answer(ground: Ground, script: Talks, manner: Manner, name: str) -> tuple[Line, Measured]:
    """Have the talks; tell when not every command was handed out and answered."""
    system = ground.system
    measured, spent = await _send(ground, "drain", system.connect.target, script, manner)
    expected = sum(map(len, script.answers))
    answered = measured.requests - len(script.idle)
    more: dict[str, Any] = {}
    left = await system.left()
    if answered != expected or left:
        more = {"not_handed_out": expected - answered, "left": left}
    unit = "commands, Idle to answered"
    return Line(name, system.name, unit, answered, spent, measured, more=more), measured


async def idles(ground: Ground, devices: Sequence[Device]) -> list[bytes]:
    """The Idle request of each device."""
    door = ground.system.connect
    messages = [(device, bodies.idle(device)) for device in devices]
    return signing.connects(door.path, door.host, await _signed(ground, messages))


def _where(ground: Ground, tls: Target | None) -> tuple[Target, Work]:
    return (tls, "tls") if tls else (ground.system.connect.target, "poll")


def named(scenario: str, connections: int) -> str:
    return scenario if connections == CONNECTIONS else f"{scenario}@{connections}"


async def _signed(ground: Ground, messages: Sequence[signing.Message]) -> list[signing.Signed]:
    return await asyncio.to_thread(signing.signed, messages, ground.kept)


async def _warm(ground: Ground, target: Target, script: Round) -> None:
    """What a server does once is not what a request costs."""
    await ground.generator.load(Round(script.requests[:200]))
    await ground.generator.run(target, Manner(CONNECTIONS))


async def _send(
    ground: Ground, work: Work, target: Target, script: Script, manner: Manner
) -> tuple[Measured, Spent]:
    await ground.generator.load(script)
    meter = Meter(ground.system.ledger(work), ground.system.admin)
    async with meter.running() as spent:
        measured = await ground.generator.run(target, manner)
    return measured, spent
