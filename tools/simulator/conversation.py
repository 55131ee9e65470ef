"""What a device does once awake: report what is unsent, fetch, answer, until there is nothing."""

from __future__ import annotations

import asyncio
import uuid
from dataclasses import dataclass
from enum import Enum

import aiohttp

from tools.simulator.answers import After, Answer, answer
from tools.simulator.behaviour import NORMAL, Behaviour
from tools.simulator.device import EnrollmentError, SimulatedDevice
from tools.simulator.report import Tally
from tools.simulator.traits import User
from tools.simulator.wire.messages import Command, Reply

_MOST_COMMANDS = 10_000


class Outcome(Enum):
    """How a connection ended, which decides when the device comes again."""

    DONE = "nothing left to do"
    NOT_NOW = "refused last"  # the device polls again by itself (apple.md 1.3, rule 2)
    LOST = "not delivered"  # the answer is kept and sent again (apple.md 1.1)
    ENDED = "no longer managed"
    OFF = "restarting or off"


@dataclass(frozen=True, slots=True)
class _Unsent:
    command: Command
    answer: Answer


class Conversation:
    """The connections of one device, one at a time a channel."""

    def __init__(
        self,
        device: SimulatedDevice,
        behaviour: Behaviour = NORMAL,
        tally: Tally | None = None,
    ) -> None:
        self.device = device
        self.behaviour = behaviour
        self.tally = tally or Tally()
        self._unsent: dict[str | None, _Unsent] = {}
        self._later: list[After] = []

    async def run(self, user: User | None = None) -> Outcome:
        """Connect on the device's channel, or a user's, and work until the server has nothing."""
        self.tally.connections += 1
        try:
            outcome = await self._run(user)
        except (aiohttp.ClientError, TimeoutError):
            self.tally.lost += 1
            return Outcome.LOST
        return outcome

    async def _run(self, user: User | None) -> Outcome:
        status, reply = await self._open(user)
        refused: set[str] = set()
        for _ in range(_MOST_COMMANDS):
            if reply.unenrolls:
                self.device.forget_enrollment()
                return Outcome.ENDED
            if not reply.delivered:
                self.tally.refusals[reply.status] += 1
                return Outcome.LOST
            unsent = self._unsent.pop(_channel(user), None)
            if unsent is not None and unsent.answer.ends and unsent.answer.after is not None:
                await unsent.answer.after()
                return Outcome.OFF if self.device.enrollment else Outcome.ENDED
            if unsent is not None and unsent.answer.after is not None:
                self._later.append(unsent.answer.after)
            if reply.command is None:
                return await self._finish(status)
            # After another answer it may be offered again, right after its refusal it may not
            # (apple.md 1.3, rule 4).
            if status == "NotNow" and reply.command.uuid in refused:
                self.device.complaints["a refused command again at once"] += 1
                return Outcome.NOT_NOW
            status = await self._carry_out(reply.command, user)
            if status == "NotNow":
                refused.add(reply.command.uuid)
            reply = await self._report(user)
        self.device.complaints[f"{_MOST_COMMANDS} commands on one connection"] += 1
        return Outcome.LOST

    async def _open(self, user: User | None) -> tuple[str, Reply]:
        if _channel(user) in self._unsent:
            return self._unsent[_channel(user)].answer.status, await self._report(user)
        if self.behaviour.invents:
            invented = str(uuid.uuid4()).upper()
            return "Acknowledged", await self.device.connect("Acknowledged", invented, user=user)
        return "Idle", await self.device.connect("Idle", user=user)

    async def _carry_out(self, command: Command, user: User | None) -> str:
        """Do it, or refuse; the answer waits to be reported. Returns its status."""
        receipt = self.device.receipts[command.uuid]
        self.tally.commands[command.request_type] += 1
        self.tally.repeats += receipt.times > 1 and receipt.statuses[-1:] != ["NotNow"]
        if self.behaviour.pause:
            await asyncio.sleep(self.behaviour.pause)
        if self.behaviour.refuses(self.device.traits, command.request_type, receipt.times):
            made = Answer("NotNow", {})
        else:
            made = answer(self.device, command, user)
        self._unsent[_channel(user)] = _Unsent(command, made)
        return made.status

    async def _report(self, user: User | None) -> Reply:
        unsent = self._unsent[_channel(user)]
        self.tally.answers[unsent.answer.status] += 1
        if self.behaviour.repeats:
            await self._send(unsent, user, lose_reply=True)
        return await self._send(unsent, user)

    async def _send(self, unsent: _Unsent, user: User | None, *, lose_reply: bool = False) -> Reply:
        return await self.device.connect(
            unsent.answer.status,
            unsent.command,
            user=user,
            errors=unsent.answer.errors,
            extra=unsent.answer.extra,
            lose_reply=lose_reply,
        )

    async def _finish(self, status: str) -> Outcome:
        """The queue is empty: now comes what answers announced (renewal, declarations)."""
        while self._later:
            after = self._later.pop(0)
            try:
                await after()
            except (EnrollmentError, aiohttp.ClientError, TimeoutError) as error:
                self.tally.failures[f"afterwards: {error}"] += 1
        if self.device.enrollment is None:
            return Outcome.ENDED
        return Outcome.NOT_NOW if status == "NotNow" else Outcome.DONE


def _channel(user: User | None) -> str | None:
    return user.user_id if user else None
