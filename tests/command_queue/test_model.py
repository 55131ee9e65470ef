"""The queue against a model of it: whatever happens in whatever order, the device is handed exactly
what the model says, and every target ends exactly once.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from services.command_queue.app import SERVICE
from shared.runtime.clock import FixedClock
from shared.runtime.testing import trial
from tests.command_queue.fleet import Fleet, Given, Phone
from tools.embedded.testing import MakeDatabase

KINDS = {
    "inventory.refresh": "harmless",
    "device.restart": "disruptive",
    "device.erase": "destructive",
}
OPEN = {"queued", "sent", "deferred", "cancel_requested"}

ASK = st.tuples(
    st.just("ask"), st.sampled_from(sorted(KINDS)), st.integers(-2, 2), st.sampled_from([60, 3600])
)
STEPS = st.one_of(
    ASK,
    ASK,
    st.tuples(st.just("idle")),
    st.tuples(st.just("reply"), st.sampled_from(["Acknowledged", "Error", "NotNow", "Strange"])),
    st.tuples(st.just("reply"), st.sampled_from(["Acknowledged", "NotNow"])),
    st.tuples(st.just("repeat"), st.sampled_from(["Acknowledged", "NotNow"]), st.integers(0, 9)),
    st.tuples(st.just("garble")),
    st.tuples(st.just("cancel"), st.integers(0, 9)),
    st.tuples(st.just("freeze"), st.sampled_from(["harmless", "disruptive", "destructive"])),
    st.tuples(st.just("lift")),
    st.tuples(st.just("sweep")),
    st.tuples(st.just("wait"), st.sampled_from([20, 61])),
    st.tuples(st.just("fence")),
)


@dataclass
class Command:
    """What the model knows of one command to one device."""

    command_id: str
    kind: str
    priority: int
    number: int
    expires_at: datetime
    state: str = "queued"
    cancelled: bool = False
    sent_at: int = 0


@dataclass
class Model:
    """The rules of the queue, written as plainly as can be."""

    fleet: Fleet
    phone: Phone
    commands: list[Command] = field(default_factory=list)
    frozen: dict[str, str] = field(default_factory=dict)
    last: Command | None = None
    turns: int = 0

    async def step(self, step: tuple[Any, ...]) -> None:
        await getattr(self, f"do_{step[0]}")(*step[1:])

    def find(self, command_id: str) -> Command:
        return next(one for one in self.commands if one.command_id == command_id)

    def next_one(self, *, deferred_too: bool) -> Command | None:
        now = self.fleet.clock.now()
        states = {"queued", "sent", "deferred"} if deferred_too else {"queued", "sent"}
        fit = [
            one
            for one in self.commands
            if one.state in states
            and not one.cancelled
            and one.expires_at > now
            and KINDS[one.kind] not in self.frozen
        ]
        return min(fit, key=lambda one: (-one.priority, one.number), default=None)

    def check(self, given_one: Given | None, *, deferred_too: bool) -> None:
        expected = self.next_one(deferred_too=deferred_too)
        assert (given_one and given_one.command_uuid) == (expected and expected.command_id)
        self.last = expected
        if expected is not None:
            self.turns += 1
            expected.state, expected.sent_at = "sent", self.turns

    async def do_ask(self, kind: str, priority: int, seconds: int) -> None:
        asked = await self.fleet.ask(
            self.phone, kind=kind, priority=priority, expires_in_seconds=seconds
        )
        expires_at = self.fleet.clock.now() + timedelta(seconds=seconds)
        number = len(self.commands)
        self.commands.append(Command(asked["command_id"], kind, priority, number, expires_at))

    async def do_idle(self) -> None:
        self.check(await self.phone.idle(), deferred_too=True)

    async def do_reply(self, status: str) -> None:
        if self.last is not None:
            await self._reply(self.last, status)

    async def do_repeat(self, status: str, number: int) -> None:
        """A late or repeated answer to anything ever asked."""
        if self.commands:
            await self._reply(self.commands[number % len(self.commands)], status)

    async def _reply(self, one: Command, status: str) -> None:
        given_one = await self.phone.say(status, one.command_id)
        if status == "NotNow":
            if one.state == "sent":
                one.state = "deferred"
            elif one.state == "cancel_requested":
                one.state = "cancelled"
        elif one.state in OPEN - {"queued"}:
            one.state = "acknowledged" if status == "Acknowledged" else "failed"
        self.check(given_one, deferred_too=False)

    async def do_garble(self) -> None:
        answer = await self.phone.send(b"<plist><dict>")
        assert (answer.status, answer.body) == (200, b"")
        out = [one for one in self.commands if one.state in {"sent", "cancel_requested"}]
        if out:
            max(out, key=lambda one: one.sent_at).state = "failed"
        self.last = None

    async def do_cancel(self, number: int) -> None:
        if not self.commands:
            return
        one = self.commands[number % len(self.commands)]
        path = f"/api/v1/commands/{one.command_id}/cancel"
        done = (await self.fleet.trial.call("POST", path, {})).json["cancelled"]
        one.cancelled = one.cancelled or done

    async def do_freeze(self, command_class: str) -> None:
        if command_class not in self.frozen:
            body = {"command_class": command_class, "reason": "model"}
            answer = await self.fleet.trial.call("POST", "/api/v1/commands/freeze", body)
            self.frozen[command_class] = answer.json["freeze_id"]

    async def do_lift(self) -> None:
        for freeze_id in self.frozen.values():
            path = f"/api/v1/commands/freeze?freeze_id={freeze_id}&reason=model"
            assert (await self.fleet.trial.call("DELETE", path)).json["lifted"]
        self.frozen.clear()

    async def do_sweep(self) -> None:
        await self.fleet.job("sweep ended commands")
        now = self.fleet.clock.now()
        for one in self.commands:
            if one.cancelled and one.state in {"queued", "deferred"}:
                one.state = "cancelled"
            elif one.cancelled and one.state == "sent":
                one.state = "cancel_requested"
            elif one.expires_at <= now and one.state in {"queued", "deferred"}:
                one.state = "expired"

    async def do_wait(self, seconds: int) -> None:
        self.fleet.clock.advance(timedelta(seconds=seconds))

    async def do_fence(self) -> None:
        self.phone.generation += 1
        assert (await self.fleet.fence(self.phone, self.phone.generation)).status == 200
        assert await self.phone.idle() is None
        await self.phone.tell()
        for one in self.commands:
            if one.state in {"queued", "deferred"}:
                one.state = "cancelled"
            elif one.state in {"sent", "cancel_requested"}:
                one.state = "unconfirmed"
        self.last = None

    async def compare(self) -> None:
        """Every target is where the model has it, and told of once if it has ended."""
        await self.do_sweep()
        rows = await self.fleet.rows(
            "SELECT command_id, state FROM pending WHERE device_id = $1"
            " UNION ALL SELECT command_id, state FROM outcome WHERE device_id = $1",
            self.phone.device_id,
        )
        found = sorted((str(row["command_id"]), row["state"]) for row in rows)
        assert found == sorted((one.command_id, one.state) for one in self.commands)
        told = sorted(
            (str(event.command_id), str(event.state))
            for event in await self.fleet.finished()
            if event.device_id == self.phone.device_id
        )
        ended = [one for one in self.commands if one.state not in OPEN]
        assert told == sorted((one.command_id, one.state) for one in ended)


@pytest.fixture
async def lenient(
    make_database: MakeDatabase, tmp_path: Path, clock: FixedClock
) -> AsyncIterator[Fleet]:
    """A fleet whose limit on destruction is out of the way."""
    environ = {
        "MUSTER_COMMAND_QUEUE_SEEN_FLUSH_SECONDS": "3600",
        "MUSTER_COMMAND_QUEUE_DESTRUCTIVE_PER_HOUR": "100000",
        "MUSTER_COMMAND_QUEUE_DESTRUCTIVE_PER_DAY": "100000",
    }
    dsn = await make_database("command_queue")
    async with trial(SERVICE, dsn, tmp_path, clock=clock, environ=environ) as running:
        found = Fleet(running, clock)
        await found.publish()
        yield found


@settings(
    max_examples=25,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(steps=st.lists(STEPS, min_size=5, max_size=40))
async def test_the_queue_does_what_the_model_does(
    lenient: Fleet, steps: list[tuple[Any, ...]]
) -> None:
    model = Model(lenient, await lenient.enroll())
    try:
        for step in steps:
            await model.step(step)
        await model.compare()
    finally:
        await model.do_lift()
