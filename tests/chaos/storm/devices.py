"""Devices that live through the storm: they poll, wait for pushes, answer, refuse, repeat, hang up
in the middle, start over, check out and come back. They never give up.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from random import Random
from typing import Any

import aiohttp

from tests.chaos.storm.ledger import Book, Leaving, Ledger, Said, now
from tools.simulator.answers import answer
from tools.simulator.device import EnrollmentError, SimulatedDevice
from tools.simulator.enrollment import Enrollment
from tools.simulator.pushes import Address, Mailroom
from tools.simulator.wire.messages import Command, Reply

LOST = (aiohttp.ClientError, TimeoutError, EnrollmentError)
_BUSY = 503
_PATIENCE = 0.4
_MOST_COMMANDS = 200


class Refused(aiohttp.ClientError):
    """400: it does not speak for a current enrollment, or is ahead of an event."""


@dataclass
class Fleet:
    """What all devices share. `calm`: no more leaving, no silence, only answers."""

    session: aiohttp.ClientSession
    ledger: Ledger
    mailroom: Mailroom
    enroll_url: str
    has_left: Callable[[str], Awaitable[bool]]
    """Whether enrollment knows that a device's last enrollment has ended."""
    calm: bool = False
    devices: list[Living] = field(default_factory=list)


class Living:
    """One device with its habits, which are drawn from the seed."""

    def __init__(self, fleet: Fleet, device: SimulatedDevice, chance: Random) -> None:
        self.fleet, self.device, self.chance = fleet, device, chance
        self.book: Book = fleet.ledger.book()
        self.polls = chance.random() < 0.6  # the others come only when they are pushed
        self.refuses, self.fails = chance.choice([0.0, 0.1, 0.3]), chance.choice([0.0, 0.1])
        self.repeats, self.hangs_up = chance.choice([0.0, 0.2]), chance.choice([0.0, 0.0, 0.1])
        self.restless = chance.choice([0.0, 0.01, 0.03])
        self._unsent: tuple[Command, str, dict[str, Any]] | None = None
        self._awake = asyncio.Event()
        self._address: Address | None = None
        self.wants_back = False
        """Its last word was NotNow, or was lost: it comes again by itself (apple.md §1.3)."""
        self._erased_only_here = False
        self.life: asyncio.Task[None] | None = None

    async def live(self) -> None:
        """For ever: connect, work the queue off, and wait for a reason to come again."""
        while True:
            self._awake.clear()  # before it looks: a push that comes meanwhile counts
            try:
                await self._turn()
            except LOST:
                self.fleet.ledger.counts["connections lost"] += 1
                self.wants_back = True
            await self._pause()

    async def _turn(self) -> None:
        if self.device.enrollment is None:
            await self.come_back()
        await self._connect()
        if self.device.enrollment is None:  # it was erased just now
            return
        if not self.fleet.calm and self.chance.random() < self.restless:
            if self.chance.random() < 0.3:
                await self._check_out()
            else:
                await self.start_over()

    async def _pause(self) -> None:
        wait = self.chance.uniform(0.3, 1.5)
        if not (self.polls or self.wants_back or self.device.enrollment is None):
            wait = 3600.0
        elif not self.fleet.calm and self.chance.random() < 0.02:
            wait = 15.0  # silent for a while
        try:
            async with asyncio.timeout(wait):
                await self._awake.wait()
        except TimeoutError:
            pass

    def wake(self) -> None:
        self._awake.set()

    # Connecting

    async def _connect(self) -> None:
        self.wants_back = False
        reply = await (self._report() if self._unsent else self._idle())
        for _ in range(_MOST_COMMANDS):
            if self.device.enrollment is None or reply.command is None:
                return
            self._unsent = self._decide(reply.command)
            reply = await self._report()

    async def _idle(self) -> Reply:
        return await self._send("Idle", None, {})

    def _decide(self, command: Command) -> tuple[Command, str, dict[str, Any]]:
        draw = self.chance.random()
        if not self.fleet.calm and draw < self.refuses and command.request_type != "EraseDevice":
            return command, "NotNow", {}
        if draw > 1 - self.fails and command.request_type != "EraseDevice":
            return command, "Error", {}
        made = answer(self.device, command)
        return command, made.status, {**made.extra, "errors": made.errors}

    async def _report(self) -> Reply:
        """Tell what was done, until it was taken: then it is the server's to remember."""
        if self._unsent is None:
            raise RuntimeError("there is nothing to report")
        command, status, extra = self._unsent
        said = Said(command.uuid, status, now())
        self.book.said.append(said)
        erases = command.request_type == "EraseDevice" and status == "Acknowledged"
        try:
            reply = await self._send(status, command, dict(extra))
            if self.chance.random() < self.repeats:
                reply = await self._send(status, command, dict(extra))
        except Refused:
            if erases:  # the first try was taken, and with it management has ended
                self._erased()
            raise
        said.delivered = now()
        self._unsent = None
        self.fleet.ledger.counts[f"answers {status}"] += 1
        self.wants_back = status == "NotNow"
        if erases:
            self._erased()
        return reply

    async def _send(self, status: str, command: Command | None, extra: dict[str, Any]) -> Reply:
        """One request, and what it brought; raises unless it was answered with 200."""
        began = now()
        self.book.requests += 1
        asking = self.device.connect(
            status, command, errors=extra.pop("errors", ()), extra=extra
        )  # fmt: skip
        if not self.fleet.calm and self.chance.random() < self.hangs_up:
            async with asyncio.timeout(self.chance.uniform(0.0, 0.05)):
                reply = await asking
        else:
            reply = await asking
        if not reply.ok:
            if reply.status != _BUSY:
                self.fleet.ledger.counts[f"connect answered {reply.status}"] += 1
            if reply.unenrolls or reply.status not in (400, _BUSY):
                self.fleet.ledger.violated(f"connect answered {reply.status} {reply.body[:80]!r}")
            await asyncio.sleep(_PATIENCE)
            raise aiohttp.ClientError("busy") if reply.status == _BUSY else Refused(reply.status)
        if reply.command is not None:
            self.fleet.ledger.handed(self.book, reply.command.uuid, began)
        return reply

    # Leaving and coming back

    async def start_over(self) -> None:
        """Authenticate again, as after a restore: a new generation of the same enrollment."""
        leaving = self._leaves("Authenticate")
        await self._until_taken(self.device.authenticate)
        self._left(leaving)
        await self._until_taken(self.device.token_update)

    async def _check_out(self) -> None:
        """It is sent until it is answered; 400 means that an earlier try was taken."""
        leaving = self._leaves("check-out")
        message = self.device.message("CheckOut", Topic=self.device.managed.mdm.topic)
        await self._until_taken(lambda: self.device.checkin(message), taken=(200, 400))
        self._left(leaving)
        self._forget()

    def _erased(self) -> None:
        self._left(self._leaves("erase"))
        self.device.erase()
        self._forget()
        self._erased_only_here = True

    def _forget(self) -> None:
        self.device.forget_enrollment()
        self._unsent = None
        if self._address is not None:
            self.fleet.mailroom.forget(self._address)

    async def come_back(self) -> None:
        """Enroll with a new certificate. Setting up anew takes longer than an event travels: who
        came before enrollment knew of the erase would be a stranger with known hardware.
        """
        while self._erased_only_here:
            await asyncio.sleep(_PATIENCE)
            self._erased_only_here = not await self.fleet.has_left(self.book.device_id)
        prepared = await self._prepared()
        leaving = self._leaves("enrollment")
        await self._until_taken(lambda: self.device.authenticate(prepared))
        self.device.enrollment = prepared
        self._left(leaving)
        await self._until_taken(self.device.token_update)
        self._address = Address(prepared.push.token, prepared.push.magic, prepared.mdm.topic)
        self.fleet.mailroom.register(self._address, self.wake)
        self.wants_back = True

    async def _prepared(self) -> Enrollment:
        self.device.link.session = self.fleet.session
        while True:
            try:
                profile = await self.device.fetch_profile(self.fleet.enroll_url)
                return await self.device.prepare(profile)
            except LOST:
                await asyncio.sleep(_PATIENCE)

    def _leaves(self, what: str) -> Leaving:
        leaving = Leaving(what, now())
        self.book.leavings.append(leaving)
        return leaving

    def _left(self, leaving: Leaving) -> None:
        """From now on nothing of before counts; an answer that was not taken never will be."""
        leaving.ended = now()
        self.book.life += 1
        self._unsent = None
        self.fleet.ledger.counts[f"{leaving.what}s"] += 1

    async def _until_taken(self, ask: Any, *, taken: tuple[int, ...] = (200,)) -> None:
        while True:
            try:
                reply = await ask()
            except LOST:
                reply = None
            if reply is not None and reply.status in taken:
                return
            if reply is not None and reply.status != _BUSY:
                self.fleet.ledger.counts[f"check-in answered {reply.status}"] += 1
                if reply.status == 401 or reply.status >= 500:
                    self.fleet.ledger.violated(f"check-in answered {reply.status}")
            await asyncio.sleep(_PATIENCE)
