"""Many devices at once: enroll them, then let each live with pushes, polls and answers."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from random import Random

import aiohttp

from tools.simulator import behaviour as behaviours
from tools.simulator.behaviour import Behaviour
from tools.simulator.conversation import Conversation, Outcome
from tools.simulator.device import EnrollmentError, SimulatedDevice
from tools.simulator.enrollment import USER_CHANNELS, PushChannel
from tools.simulator.memory import Memory
from tools.simulator.pushes import Address, Mailroom
from tools.simulator.report import Tally
from tools.simulator.traits import User

_PATIENCE = 6
_FIRST_RETRY, _LONGEST_RETRY = 1.0, 60.0


@dataclass(frozen=True, slots=True)
class Habits:
    """How the fleet as a whole lives. Times in seconds."""

    concurrency: int = 16
    poll_every: float | None = None
    """How often a device connects without a push; None: never."""
    after_not_now: tuple[float, float] = (3.0, 10.0)
    """When a device that refused last comes back by itself: between these."""
    off_for: float = 10.0
    """How long a restart or a switched-off device stays away."""
    user_channels: bool = False
    """Whether Macs open their user's channel too."""
    re_enroll: bool = False
    """Whether an erased device is enrolled again by its next user."""
    behaviours: Mapping[str, int] = field(default_factory=lambda: behaviours.EVERYDAY)


class Member:
    """A device as part of a fleet: when it wakes, and for which of its channels."""

    def __init__(
        self, device: SimulatedDevice, behaviour: Behaviour, enroll_url: str, tally: Tally
    ) -> None:
        self.device = device
        self.behaviour = behaviour
        self.enroll_url = enroll_url
        self.conversation = Conversation(device, behaviour, tally)
        self.chance: Random = device.traits.random("life")
        self.awake = asyncio.Event()
        self.called: set[str | None] = set()
        self.addresses: list[Address] = []
        self.lost_in_a_row = 0
        self.pause: float | None = None
        """Seconds until it connects by itself; None: not before a push."""
        behaviour.prepare(device)

    def wake(self, channel: str | None) -> None:
        self.called.add(channel)
        self.awake.set()

    def wake_all(self) -> None:
        enrollment = self.device.enrollment
        self.called |= {None, *(enrollment.users if enrollment else ())}
        self.awake.set()


class Fleet:
    """The devices of one run. `enroll` first, then `live` until cancelled."""

    def __init__(
        self,
        devices: Sequence[SimulatedDevice],
        enroll_urls: Sequence[str],
        session: aiohttp.ClientSession,
        *,
        habits: Habits | None = None,
        tally: Tally | None = None,
        memory: Memory | None = None,
    ) -> None:
        self.habits = habits or Habits()
        self.tally = tally or Tally()
        self.mailroom = Mailroom(self.tally.pushes)
        self._session = session
        self._memory = memory
        self._places = asyncio.Semaphore(self.habits.concurrency)
        self.tally.devices = len(devices)
        self.members = [
            self._member(device, enroll_urls[position % len(enroll_urls)])
            for position, device in enumerate(devices)
        ]

    def _member(self, device: SimulatedDevice, enroll_url: str) -> Member:
        chosen = behaviours.choose(device.traits, self.habits.behaviours)
        device.link.session = self._session
        device.link.patience = _PATIENCE
        return Member(device, chosen, enroll_url, self.tally)

    async def enroll(self) -> None:
        """Enroll every device that no earlier run enrolled, then let each empty its queue."""
        await asyncio.gather(*(self._first_enrollment(member) for member in self.members))

    async def live(self) -> None:
        """Devices connect when pushed, polled or refused, until the task is cancelled."""
        async with asyncio.TaskGroup() as tasks:
            for member in self.members:
                tasks.create_task(self._live(member))

    async def _first_enrollment(self, member: Member) -> None:
        async with self._places:
            if self._memory is not None and self._memory.restore(member.device):
                self.tally.restored += 1
                member.pause = self.habits.poll_every
                self._register(member)
            elif await self._enroll(member):
                self.tally.enrolled += 1
            else:
                return
        member.wake_all()
        await self._connect(member)

    async def _enroll(self, member: Member) -> bool:
        device = member.device
        member.pause = self.habits.poll_every
        try:
            await device.enroll(self._session, member.enroll_url)
            if self._has_user_channel(device):
                await device.token_update(device.traits.user)
        except (EnrollmentError, aiohttp.ClientError, TimeoutError) as error:
            self.tally.not_enrolled.append(
                {"index": device.traits.index, "udid": device.udid, "why": str(error)}
            )
            return False
        self._register(member)
        self._save(member)
        return True

    def _has_user_channel(self, device: SimulatedDevice) -> bool:
        offered = USER_CHANNELS in device.managed.mdm.capabilities
        return self.habits.user_channels and device.traits.is_mac and offered

    def _register(self, member: Member) -> None:
        """Tell the mailroom where the device is reached now, and no longer where it was."""
        for address in member.addresses:
            self.mailroom.forget(address)
        member.addresses = []
        enrollment = member.device.enrollment
        if enrollment is None or member.behaviour.silent:
            return
        channels: list[tuple[str | None, PushChannel]] = [(None, enrollment.push)]
        channels += [(user_id, push) for user_id, (_, push) in enrollment.users.items()]
        for channel, push in channels:
            address = Address(push.token, push.magic, enrollment.mdm.topic)
            member.addresses.append(address)
            self.mailroom.register(address, partial(member.wake, channel))

    def _save(self, member: Member) -> None:
        if self._memory is not None:
            self._memory.save(member.device)

    async def _live(self, member: Member) -> None:
        if member.behaviour.silent:
            return
        while member.device.enrollment is not None or await self._begin_again(member):
            try:
                async with asyncio.timeout(member.pause):
                    await member.awake.wait()
            except TimeoutError:
                member.wake_all()
            await self._connect(member)

    async def _connect(self, member: Member) -> None:
        """One connection for each channel that was called."""
        member.awake.clear()
        called, member.called = member.called, set()
        enrollment = member.device.enrollment
        if enrollment is None or member.behaviour.silent:
            return
        outcomes = []
        for channel in sorted(called & {None, *enrollment.users}, key=str):
            user: User | None = enrollment.users[channel][0] if channel else None
            async with self._places:
                outcomes.append(await member.conversation.run(user))
            if member.device.enrollment is None:
                break
        if member.device.enrollment is not enrollment:
            await self._renewed(member)
        self._save(member)
        member.pause = self._next(member, outcomes)
        if Outcome.OFF in outcomes:
            await asyncio.sleep(self.habits.off_for)
            member.device.state.powered = True
            member.wake_all()

    async def _renewed(self, member: Member) -> None:
        """Another enrollment than before, or none: other tokens, and the user signs up again."""
        device = member.device
        if device.enrollment is not None and self._has_user_channel(device):
            try:
                await device.token_update(device.traits.user)
            except (aiohttp.ClientError, TimeoutError) as error:
                self.tally.failures[f"user channel: {error}"] += 1
        self._register(member)

    def _next(self, member: Member, outcomes: Sequence[Outcome]) -> float | None:
        if Outcome.ENDED in outcomes:
            self.tally.ended += 1
            return None
        if Outcome.LOST in outcomes:
            member.lost_in_a_row += 1
            longest = min(_FIRST_RETRY * 2**member.lost_in_a_row, _LONGEST_RETRY)
            return member.chance.uniform(longest / 2, longest)
        member.lost_in_a_row = 0
        if Outcome.NOT_NOW in outcomes:
            return member.chance.uniform(*self.habits.after_not_now)
        return self.habits.poll_every

    async def _begin_again(self, member: Member) -> bool:
        """An erased device enrolls again, where that is wanted; whether it lives on."""
        self._register(member)
        if not self.habits.re_enroll:
            return False
        await asyncio.sleep(self.habits.off_for)
        async with self._places:
            enrolled = await self._enroll(member)
        if enrolled:
            member.wake_all()
        return enrolled
