"""The rules of the queue for one device, written as plainly as can be, and tried as they are told.

Each step does something to the real queue and to the model; what the device is handed must be what
the model says.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta

import pytest

from services.command_queue.store import pending
from tests.command_queue.fleet import ASTRAY, Fleet, Given, Phone

KINDS = {
    "inventory.refresh": "harmless",
    "device.restart": "disruptive",
    "device.erase": "destructive",
}
OPEN = {"queued", "sent", "deferred", "cancel_requested"}


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
    """One device, its commands, and the freezes in force."""

    fleet: Fleet
    phone: Phone
    commands: list[Command] = field(default_factory=list)
    frozen: dict[str, str] = field(default_factory=dict)
    last: Command | None = None
    """What the device holds and has not answered."""
    turns: int = 0

    @property
    def open(self) -> list[Command]:
        return [one for one in self.commands if one.state in OPEN]

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

    def tick(self) -> None:
        """What is handed out later has a later time, as with any clock that does not stand."""
        self.fleet.clock.advance(timedelta(milliseconds=1))

    def check(self, given: Given | None, *, deferred_too: bool) -> None:
        expected = self.next_one(deferred_too=deferred_too)
        assert (given and given.command_uuid) == (expected and expected.command_id)
        self.last = expected
        if expected is not None:
            self.turns += 1
            expected.state, expected.sent_at = "sent", self.turns

    async def ask(self, kind: str, priority: int, seconds: int) -> None:
        asked = await self.fleet.ask(
            self.phone, kind=kind, priority=priority, expires_in_seconds=seconds
        )
        expires_at = self.fleet.clock.now() + timedelta(seconds=seconds)
        number = len(self.commands)
        self.commands.append(Command(asked["command_id"], kind, priority, number, expires_at))

    async def idle(self) -> None:
        self.tick()
        self.check(await self.phone.idle(), deferred_too=True)

    async def idle_and_lose_the_answer(self) -> None:
        """The process dies after its commit, or the device is out of reach: it knows of nothing."""
        await self.idle()
        self.last = None

    async def idle_and_crash(self) -> None:
        """The process dies before its commit: the device is told so, and nothing has happened."""
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(pending, "claim", _crash)
            answer = await self.phone.send(self.phone.body("Idle"))
        assert answer.status >= 500

    async def reply(self, status: str) -> None:
        if self.last is not None:
            await self._reply(self.last, status)

    async def repeat(self, status: str, number: int) -> None:
        """A late or repeated answer to anything ever asked."""
        await self._reply(self.commands[number % len(self.commands)], status)

    async def _reply(self, one: Command, status: str) -> None:
        self.tick()
        given = await self.phone.say(status, one.command_id)
        if status == "NotNow":
            if one.state == "sent" and one.expires_at <= self.fleet.clock.now():
                one.state = "cancelled" if one.cancelled else "expired"
            elif one.state == "sent":
                one.state = "deferred"
            elif one.state == "cancel_requested":
                one.state = "cancelled"
        elif one.state in OPEN - {"queued"}:
            one.state = "acknowledged" if status == "Acknowledged" else "failed"
        self.check(given, deferred_too=False)

    async def garble(self) -> None:
        answer = await self.phone.send(b"<plist><dict>")
        assert (answer.status, answer.body) == (200, b"")
        out = [one for one in self.commands if one.state in {"sent", "cancel_requested"}]
        if out:
            max(out, key=lambda one: one.sent_at).state = "failed"
        self.last = None

    async def cancel(self, number: int) -> None:
        one = self.commands[number % len(self.commands)]
        path = f"/api/v1/commands/{one.command_id}/cancel"
        done = (await self.fleet.trial.call("POST", path, {})).json["cancelled"]
        one.cancelled = one.cancelled or done

    async def freeze(self, command_class: str) -> None:
        if command_class not in self.frozen:
            body = {"command_class": command_class, "reason": "model"}
            answer = await self.fleet.trial.call("POST", "/api/v1/commands/freeze", body)
            self.frozen[command_class] = answer.json["freeze_id"]

    async def lift(self) -> None:
        # Whose keys it takes is in test_freezes.py; here it is what becomes of the queue.
        await self.fleet.rows("UPDATE command_freeze SET lifted_at = now()")
        self.frozen.clear()

    async def sweep(self) -> None:
        await self.fleet.job("sweep ended commands")
        now = self.fleet.clock.now()
        for one in self.commands:
            if one.cancelled and one.state in {"queued", "deferred"}:
                one.state = "cancelled"
            elif one.cancelled and one.state == "sent":
                one.state = "cancel_requested"
            elif one.expires_at <= now and one.state in {"queued", "deferred"}:
                one.state = "expired"

    def wait(self, seconds: int) -> None:
        self.fleet.clock.advance(timedelta(seconds=seconds))

    async def fence(self) -> None:
        """The device starts over: a new generation, to which nothing of before is handed out."""
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
        await self.sweep()
        assert await self.fleet.rows(ASTRAY) == []
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


async def _crash(*_: object) -> None:
    raise SystemError("as if the process had been killed here")
