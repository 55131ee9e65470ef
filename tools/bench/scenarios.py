"""What is measured: enrollments, empty polls, commands asked for, commands drained.

Each scenario prepares and signs its requests first, then measures only their sending.
"""

from __future__ import annotations

import asyncio
import itertools
import plistlib
import time
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol

from tools.bench.cpu import Usage
from tools.bench.driver import Measured, drive
from tools.bench.fleet import Member
from tools.bench.signing import CHECK_IN, CONNECT, Message, signed

CONNECTIONS = 16
_A_CALL = 100


class Stage(Protocol):
    """Where the services run, as far as a scenario needs to know."""

    host: str
    ports: dict[str, int]
    """By path: check-ins and connects are two services."""
    roots: dict[str, int]
    """Process ids by name: the measured service's first, `postgres`, then the others."""

    async def send_commands(self, device_ids: Sequence[str], key: str) -> str: ...

    async def until_expanded(self) -> None: ...


@dataclass
class Line:
    """One result; `json()` is what a line of the output holds."""

    scenario: str
    count: int
    unit: str
    seconds: float
    cpu_seconds: dict[str, float]
    measured: Measured | None = None
    more: dict[str, Any] = field(default_factory=dict)

    def json(self) -> dict[str, Any]:
        line: dict[str, Any] = {
            "scenario": self.scenario,
            "unit": self.unit,
            "count": self.count,
            "seconds": round(self.seconds, 3),
            "per_second": round(self.count / self.seconds, 1) if self.seconds else None,
            "cpu_ms_each": {
                name: round(1000 * used / self.count, 4) for name, used in self.cpu_seconds.items()
            },
        }
        if self.measured:
            line |= {
                "p50_ms": round(self.measured.quantile(0.50), 2),
                "p99_ms": round(self.measured.quantile(0.99), 2),
                "statuses": {str(code): n for code, n in sorted(self.measured.statuses.items())},
            }
        return line | self.more


@asynccontextmanager
async def metered(stage: Stage) -> AsyncIterator[dict[str, float]]:
    """CPU used inside the block, by process; filled when it ends."""
    used: dict[str, float] = {}
    before = Usage.now(stage.roots)
    yield used
    used.update(Usage.now(stage.roots).since(before))


async def enroll(stage: Stage, fleet: Sequence[Member]) -> Line:
    """Authenticate and TokenUpdate of devices that hold their certificate already."""
    first = await _signed(stage, [Message(m.signer, CHECK_IN, m.authenticate) for m in fleet])
    second = await _signed(stage, [Message(m.signer, CHECK_IN, m.token_update) for m in fleet])
    async with metered(stage) as used:
        authenticated = await _drive(stage, CHECK_IN, first)
        updated = await _drive(stage, CHECK_IN, second)
    both = Measured(
        authenticated.seconds + updated.seconds,
        authenticated.statuses + updated.statuses,
        authenticated.latencies + updated.latencies,
    )
    return Line("enroll", len(fleet), "enrollments (two check-ins)", both.seconds, used, both)


async def poll(stage: Stage, fleet: Sequence[Member], rounds: int) -> Line:
    """Idle polls of devices with nothing to do."""
    requests = await _signed(stage, [Message(m.signer, CONNECT, m.idle) for m in fleet])
    await _drive(stage, CONNECT, requests)  # what start-up work was left is not the poll's cost
    async with metered(stage) as used:
        measured = await _drive(stage, CONNECT, itertools.chain(*[requests] * rounds))
    return Line("poll", measured.requests, "empty Idle polls", measured.seconds, used, measured)


async def enqueue(stage: Stage, device_ids: Sequence[str], rounds: int, run: str) -> Line:
    """Commands to a hundred devices a call, until every pending row exists."""
    groups = [device_ids[i : i + _A_CALL] for i in range(0, len(device_ids), _A_CALL)]
    calls = [(n, group) for n in range(rounds) for group in groups]
    began = time.perf_counter()
    async with metered(stage) as used:
        for n, group in calls:
            await stage.send_commands(group, f"bench-{run}-{n}-{group[0]}")
        await stage.until_expanded()
    seconds = time.perf_counter() - began
    count = sum(len(group) for _, group in calls)
    return Line("enqueue", count, "commands to devices", seconds, used)


async def drain(stage: Stage, fleet: Sequence[Member], commands: Sequence[str]) -> Line:
    """Idle, command, answer: every device works off its queue; two requests a command."""
    idle = await _signed(stage, [Message(m.signer, CONNECT, m.idle) for m in fleet])
    answers: dict[str, list[bytes]] = {}
    for command in commands:
        bodies = [Message(m.signer, CONNECT, m.answer(command)) for m in fleet]
        answers[command] = await _signed(stage, bodies)
    handed, wrong = 0, 0
    total = Measured()
    async with metered(stage) as used:
        for _ in commands:
            given: dict[bytes, bytes] = {}
            total = _sum(total, await _drive(stage, CONNECT, idle, given))
            ready = []
            for place, request in enumerate(idle):
                uuid = _command_uuid(given.get(request, b""))
                if uuid in answers:
                    ready.append(answers[uuid][place])
                else:
                    wrong += 1
            handed += len(ready)
            total = _sum(total, await _drive(stage, CONNECT, ready))
    more = {"not_handed_out": wrong}
    return Line("drain", handed, "commands, Idle to answered", total.seconds, used, total, more)


def _sum(one: Measured, other: Measured) -> Measured:
    return Measured(
        one.seconds + other.seconds,
        one.statuses + other.statuses,
        one.latencies + other.latencies,
    )


def _command_uuid(body: bytes) -> str:
    return str(plistlib.loads(body)["CommandUUID"]) if body else ""


async def _signed(stage: Stage, messages: Sequence[Message]) -> list[bytes]:
    return await asyncio.to_thread(signed, messages, stage.host)


async def _drive(
    stage: Stage, path: str, requests: Iterable[bytes], given: dict[bytes, bytes] | None = None
) -> Measured:
    seen = given.__setitem__ if given is not None else None
    port = stage.ports[path]
    return await drive(stage.host, port, requests, connections=CONNECTIONS, seen=seen)
