"""The storm: a fleet and people at work, faults by a schedule, and now and then a calm in which
everything must be true.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from random import Random
from typing import Any

import aiohttp
from aiokafka.errors import KafkaError

from services.command_queue.lifting import NEEDS
from shared.db.pool import TRANSIENT
from tests.chaos.storm import check_commands, check_events, check_state
from tests.chaos.storm.calm import until_quiet
from tests.chaos.storm.devices import Fleet, Living
from tests.chaos.storm.faults import KINDS, STRUCK_NOTHING, Fault, schedule, victims_of
from tests.chaos.storm.holders import appoint
from tests.chaos.storm.ledger import Ledger
from tests.chaos.storm.people import People
from tests.chaos.storm.rebuilding import empty_projections
from tests.chaos.storm.report import Report
from tests.chaos.storm.stage import Stage
from tests.chaos.storm.wire import Wire
from tools.simulator.device import SimulatedDevice
from tools.simulator.keys import KeyStore
from tools.simulator.pushes import Mailroom, listen

Say = Callable[[str], None]
TOGETHER = 3
"""Faults that last at the same time, at most."""
ENDED = """
SELECT NOT EXISTS (
    SELECT FROM enrollment WHERE device_id = $1::uuid AND state <> 'ended'
) AS ended
"""
IDS = "SELECT device_id::text AS id, serial FROM device"


@dataclass(frozen=True)
class Plan:
    """How strong a storm is. `spell`: faults between two calms."""

    seed: int
    faults: int = 150
    spell: int = 25
    devices: int = 20
    pace: float = 0.35
    only: Sequence[str] = ()
    """Kinds of fault; empty: all."""
    rebuild: bool = True
    """Whether projections are emptied at the end."""


@dataclass
class Storm:
    """`async with Storm.over(stage, plan, say) as storm: await storm.blow()`."""

    stage: Stage
    plan: Plan
    say: Say
    session: aiohttp.ClientSession
    report: Report
    ledger: Ledger = field(default_factory=Ledger)
    fleet: Fleet = field(init=False)
    people: People = field(init=False)
    wire: Wire = field(init=False)
    _locks: dict[str, asyncio.Lock] = field(default_factory=dict)
    _began: float = field(default_factory=time.monotonic)

    @classmethod
    @contextlib.asynccontextmanager
    async def over(cls, stage: Stage, plan: Plan, say: Say) -> AsyncIterator[Storm]:
        """Enroll the fleet in fine weather, and let it live."""
        async with stage.session() as session, AsyncExitStack() as life:
            storm = cls(stage, plan, say, session, Report(plan.seed, stage.plant))
            storm.wire = Wire(stage.broker())
            await storm._enroll()
            life.callback(storm.people.leave)
            for living in storm.fleet.devices:
                living.life = asyncio.create_task(living.live())
                life.push_async_callback(_ended, living.life)
            pushes = listen(session, stage.apns.side_url, storm.fleet.mailroom)
            life.push_async_callback(_ended, asyncio.create_task(pushes))
            yield storm

    async def blow(self) -> Report:
        """Strike all faults of the plan; ends early once something was found."""
        faults = schedule(self.plan.seed, self.plan.faults, self.plan.only)
        for start in range(0, len(faults), self.plan.spell):
            await self._spell(faults[start : start + self.plan.spell])
            if self.ledger.violations:
                break
        if self.plan.rebuild and not self.ledger.violations:
            await self._rebuild()
        self.report.counts = self.ledger.counts
        self.report.violations = self.ledger.violations
        return self.report

    async def _spell(self, spell: Sequence[Fault]) -> None:
        self.fleet.calm = False
        work = asyncio.create_task(self.people.work())
        together = asyncio.Semaphore(TOGETHER)
        async with asyncio.TaskGroup() as striking:
            for fault in spell:
                await together.acquire()
                task = striking.create_task(self._strike(fault))
                task.add_done_callback(lambda _: together.release())
                await asyncio.sleep(fault.gap)
                if self.ledger.violations:
                    break
        await _ended(work)
        await self._calm()

    async def _strike(self, fault: Fault) -> None:
        async with AsyncExitStack() as held:
            for victim in victims_of(fault):
                await held.enter_async_context(self._locks.setdefault(victim, asyncio.Lock()))
            self._tell(f"{fault.number:>4}/{self.plan.faults} {fault}")
            self.report.last.append(fault)
            try:
                await KINDS[fault.kind].strike(self.stage, fault)
                self.report.struck[fault.kind] += 1
            except STRUCK_NOTHING as error:
                self.report.missed[fault.kind] += 1
                self._tell(f"     {fault.kind} {fault.victim} met nobody: {error!r:.120}")
        await self._look_for_fallen()

    async def _look_for_fallen(self) -> None:
        for name, words in self.stage.fallen().items():
            self.ledger.violated(f"{name} ended by itself: {words}")
            await self.stage.launch(name)

    async def _calm(self) -> None:
        """Heal, let everything come to rest, and compare."""
        self._tell("calm")
        try:
            await self.stage.heal()
        except (RuntimeError, TimeoutError) as error:
            self.ledger.violated(f"a service does not come back: {error!r:.2000}")
            return
        self.fleet.calm = True
        await self.people.finish()
        await self.people.lift_all()
        await self.people.cancel_held()
        if unrest := await until_quiet(self.stage, self.wire, self.fleet, self._tell):
            self.ledger.violated(f"it does not come to rest: {unrest}")
        await self._check()
        self._tell(f"checked: {len(self.ledger.violations)} violations")

    async def _rebuild(self) -> None:
        """At the end, while all is calm: projections are emptied and come back by themselves."""
        self._tell("projections are emptied")
        await empty_projections(self.stage)
        if unrest := await until_quiet(self.stage, self.wire, self.fleet, self._tell):
            self.ledger.violated(f"emptied projections do not come back: {unrest}")
        await self.wire.catch_up()
        await check_state.check(self.stage, self.wire, self.ledger, self.report)
        self._tell(f"checked: {len(self.ledger.violations)} violations")

    async def _check(self) -> None:
        self.report.spells += 1
        for living in self.fleet.devices:
            if living.life is not None and living.life.done():
                raise RuntimeError("a simulated device died") from living.life.exception()
        await self.wire.catch_up()
        chance = Random(self.plan.seed)
        await check_commands.check(self.stage, self.ledger, self.report, chance)
        await check_events.check(self.stage, self.wire, self.ledger, self.report)
        await check_state.check(self.stage, self.wire, self.ledger, self.report)
        await self._look_for_fallen()

    async def _enroll(self) -> None:
        chance = Random(self.plan.seed)
        body = {"name": "storm", "max_uses": 100_000, "serials": "any"}
        made = await self._call("enrollment", "POST", "/api/v1/enrollment/credentials", body)
        self.fleet = Fleet(
            self.session, self.ledger, Mailroom(self.ledger.counts), made["enroll_url"], self._left
        )
        keys = KeyStore(self.stage.home.cache / "device-keys", shared=16)
        for index in range(self.plan.devices):
            device = SimulatedDevice("storm", index, keys=keys)
            habits = Random(chance.getrandbits(64))
            self.fleet.devices.append(Living(self.fleet, device, habits))
        self._tell(f"{self.plan.devices} devices enroll")
        await asyncio.gather(*(living.come_back() for living in self.fleet.devices))
        rows = await self.stage.query("enrollment", IDS)
        by_serial = {row["serial"]: row["id"] for row in rows}
        for living in self.fleet.devices:
            living.book.device_id = by_serial[living.device.traits.serial]
        ids = sorted(living.book.device_id for living in self.fleet.devices)
        self.people = People(
            self.stage, self.session, self.ledger, Random(chance.getrandbits(64)), ids,
            await appoint(self.stage, NEEDS), self.plan.pace,
        )  # fmt: skip

    async def _left(self, device_id: str) -> bool:
        try:
            [row] = await self.stage.query("enrollment", ENDED, device_id)
        except TRANSIENT:
            return False
        return bool(row["ended"])

    async def _call(self, service: str, method: str, path: str, body: Any) -> Any:
        while True:
            try:
                return await self.stage.call(self.session, service, method, path, json=body)
            except (aiohttp.ClientError, RuntimeError, KafkaError):
                await asyncio.sleep(0.5)  # no push certificate yet

    def _tell(self, what: str) -> None:
        self.say(f"{time.monotonic() - self._began:6.1f} s  {what}")


async def _ended(task: asyncio.Task[Any]) -> None:
    """End a task of ours; one that ended before by an error is told of."""
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
