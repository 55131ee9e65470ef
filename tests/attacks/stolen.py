"""A whole installation in one process, for what a stolen account does to it.

Console and command_queue run as in production, each on a database of its own; what the console
tells travels to command_queue, and the console asks it over HTTP. Devices come without HTTP, by
the very call that a proven device's request ends in: what they are handed is the harm.
"""

from __future__ import annotations

import asyncio
import plistlib
import re
import secrets
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from services.command_queue.apple.answers import FINAL, Answer
from services.command_queue.http.devices import CONNECT
from services.command_queue.turn import Turn
from services.console import access
from services.console.http.keys import SESSIONS
from services.console.sessions import Visit
from services.console.store import accounts, factors
from shared.bus import outbox
from shared.db.pool import transaction
from shared.events import Event, uuid7
from shared.events.access import AccountState
from shared.events.commands import GuardAlarmed
from shared.events.device_state import ChannelState, DeviceState, EnrollmentState
from shared.events.devices import Ownership, Platform
from shared.runtime import testing
from shared.runtime.clock import FixedClock
from shared.runtime.testing import Trial
from tests.command_queue.approving import Person
from tests.command_queue.fleet import Fleet
from tests.console.browsing import Browser

API = "/api/v1/commands"
_PIECE = 1000
_IDLE = Answer("Idle")
_NEWS = (AccountState,)
_OPEN = "SELECT DISTINCT device_id FROM pending WHERE state IN ('queued', 'sent')"


@dataclass(frozen=True)
class Device:
    """One of the fleet: a Mac or an iPhone, enrolled with all rights."""

    state: DeviceState

    @property
    def device_id(self) -> UUID:
        return self.state.device_id

    @property
    def channel_id(self) -> UUID:
        return self.state.enrollments[0].channels[0].channel_id

    @property
    def turn(self) -> Turn:
        return Turn(self.device_id, self.state.enrollments[0].enrollment_id, self.channel_id, _IDLE)


def made(number: int, now: datetime) -> Device:
    enrollment = EnrollmentState(
        enrollment_id=uuid7(),
        generation=1,
        state="enrolled",
        mode="device",
        supervised=True,
        access_rights=8191,
        udid=f"UDID-{number}",
        pins=[secrets.token_hex(32)],
        channels=[ChannelState(channel_id=uuid7(), kind="device", open=True)],
        authenticated_at=now,
        enrolled_at=now,
    )
    state = DeviceState(
        device_id=uuid7(),
        name=f"device {number}",
        serial=f"SERIAL{number:06}",
        platform=Platform.MACOS if number % 2 else Platform.IOS,
        ownership=Ownership.CORPORATE,
        os_version="14.5" if number % 2 else "17.5",
        enrollments=[enrollment],
        current_enrollment=enrollment.enrollment_id,
    )
    return Device(state)


@dataclass(frozen=True)
class Harm:
    """What one device was handed, and when."""

    at: datetime
    device_id: UUID
    command_id: UUID
    request_type: str


@dataclass
class World:
    console: Trial
    queue: Trial
    clock: FixedClock
    devices: list[Device] = field(default_factory=list)
    harm: list[Harm] = field(default_factory=list)
    asked: dict[UUID, str] = field(default_factory=dict)
    """The class of each command that was asked for, as the attack itself knows it."""
    states: dict[UUID, str] = field(default_factory=dict)
    """How it was born."""
    _told: int = 0

    def __post_init__(self) -> None:
        self.fleet = Fleet(self.queue, self.clock)

    async def populate(self, size: int, known_to_console: int) -> None:
        """Enroll the fleet; some of it is all that the console's own pages need."""
        self.devices = [made(number, self.clock.now()) for number in range(size)]
        for at in range(0, size, _PIECE):
            states = [one.state for one in self.devices[at : at + _PIECE]]
            await self.queue.hears(*states, service="enrollment")
        some = [one.state for one in self.devices[:known_to_console]]
        await self.console.hears(*some, service="enrollment")
        await self.queue.context.pool.execute(
            "INSERT INTO presence (device_id, last_seen_at) SELECT unnest($1::uuid[]), $2",
            [one.device_id for one in self.devices],
            self.clock.now(),
        )
        await self.queue.run_job("count the fleet")

    # ---- People --------------------------------------------------------------------------------

    async def hire(self, name: str, role: str) -> Person:
        """Somebody with an account and a key, as the console has it and tells it."""
        now = self.clock.now()
        person = Person(self.fleet, now, account_id=uuid7(now))
        async with transaction(self.console.context.pool) as tx:
            email = f"{person.account_id}@example.org"
            await accounts.add(tx, person.account_id, name, email, now)
            await accounts.grant(tx, uuid7(now), person.account_id, role, None, now, "test")
        await self.give_key(person)
        return person

    async def give_key(self, person: Person) -> None:
        """Register the person's key, as whoever has a session of theirs may."""
        key = person.key.kept(self.clock.now())
        async with transaction(self.console.context.pool) as tx:
            await accounts.lock(tx, person.account_id)
            assert await factors.add_key(tx, person.account_id, key)
            await access.tell(tx, person.account_id)
        await self.travel()

    async def session(self, account_id: UUID) -> Browser:
        """A browser that is signed in as somebody, second factor and all."""
        browser = Browser(self.console)
        browser.account_id = account_id
        async with transaction(self.console.context.pool) as tx:
            sessions = self.console.parts.values[SESSIONS]
            visit = Visit("198.51.100.66", "a thief's browser")
            secret = await sessions.begin(tx, account_id, "test", visit, proven=True)
        browser.cookies["muster"] = secret
        answer = await browser.get("/me/sessions")
        assert answer.status == 200, answer.text
        return browser

    async def travel(self) -> None:
        """Bring what the console has told of people to command_queue."""
        async with self.console.context.pool.acquire() as connection:
            events = await outbox.read(connection, "console")
        news = [one for one in events if isinstance(one, _NEWS)]
        for event in news[self._told :]:
            await self.queue.hears(event, service="console")
        self._told = len(news)

    # ---- Devices -------------------------------------------------------------------------------

    async def come(self, devices: Iterable[Device] | None = None) -> int:
        """All these devices (default: those with open work) come, and take all that they are given.

        Returns how many commands were handed out.
        """
        await self.fleet.job("expand targets")
        await self.fleet.job("queue released targets")
        if devices is None:
            rows = await self.queue.context.pool.fetch(_OPEN)
            wanted = {row["device_id"] for row in rows}
            devices = [one for one in self.devices if one.device_id in wanted]
        before, everybody = len(self.harm), list(devices)
        for at in range(0, len(everybody), _PIECE):
            await asyncio.gather(*(self._drain(one) for one in everybody[at : at + _PIECE]))
        return len(self.harm) - before

    async def _drain(self, device: Device) -> None:
        delivery = self.queue.parts.values[CONNECT]._delivery
        turn = device.turn
        while document := await delivery.take(turn):
            given = plistlib.loads(document)
            command_id = UUID(given["CommandUUID"])
            kind = given["Command"]["RequestType"]
            self.harm.append(Harm(self.clock.now(), device.device_id, command_id, kind))
            said = Answer("Acknowledged", str(command_id), command_id, FINAL["Acknowledged"])
            turn = Turn(turn.device_id, turn.enrollment_id, turn.channel_id, said)

    # ---- What came of it -----------------------------------------------------------------------

    def note(self, accepted: Mapping[str, Any], command_class: str) -> str:
        """Remember what was asked for, whatever command_queue takes it for; how it was born."""
        command_id = UUID(str(accepted["command_id"]))
        self.asked[command_id] = command_class
        self.states[command_id] = str(accepted["state"])
        return str(accepted["state"])

    def worst(self, command_class: str, length: timedelta) -> int:
        """The most targets of a class that were reached in any stretch of time so long."""
        times = sorted(
            one.at for one in self.harm if self.asked.get(one.command_id) == command_class
        )
        worst = first = 0
        for last, at in enumerate(times):
            while times[first] <= at - length:
                first += 1
            worst = max(worst, last - first + 1)
        return worst

    async def events(self) -> list[Event]:
        async with self.queue.context.pool.acquire() as connection:
            return await outbox.read(connection, "command_queue")

    async def alarms(self, kind: str) -> list[GuardAlarmed]:
        return [
            one for one in await self.events() if isinstance(one, GuardAlarmed) and one.kind == kind
        ]


def key_of(page: testing.Answer) -> str:
    """The idempotency key in a form."""
    found: Sequence[str] = re.findall(r'name="key" value="([^"]+)"', page.text)
    return found[0]
