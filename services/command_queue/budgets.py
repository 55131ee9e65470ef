"""What may be harmed in a while, by one person and by everybody together (security.md, The guard).

Over a budget a command is born held: no device hears of it, it costs nothing, and it can be
cancelled or expires. What runs is charged whole and for good.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

from services.command_queue import metrics
from services.command_queue.settings import CommandQueueSettings, Window
from services.command_queue.store import charges
from services.command_queue.store.charges import Charge, Span
from shared.db.pool import Connection, Pool, transaction
from shared.events.commands import CommandClass
from shared.runtime.clock import Clock

ALL_NEED: Final = 3
ALL_WAIT: Final = timedelta(hours=24)
"""Beyond the installation's budget: approvers, and how long those who look may say no."""
_NOBODY: Final = ("service:", "job:")
_CHARGED: Final = (CommandClass.DESTRUCTIVE, CommandClass.DISRUPTIVE)


@dataclass(frozen=True, slots=True)
class Weight:
    """What a command would cost, and who is at its root.

    `management`: it would replace or end management itself. `proposed`: a service asks for it, and
    no person has decided. `protected`: so many of its devices are.
    """

    command_id: UUID
    command_class: CommandClass
    targets: int
    actor: str
    management: bool = False
    proposed: bool = False
    protected: int = 0


@dataclass(frozen=True, slots=True)
class Hold:
    """Why a command is held, for metrics and for people, and who can let it run.

    `needs`: so many distinct approvers, None: nobody can. `wait`: no sooner than so long after.
    """

    why: str
    reason: str
    needs: int | None = 1
    wait: timedelta = timedelta(0)


@dataclass(frozen=True, slots=True)
class Budget:
    """A window, what is spent of it and what it holds; `actor` None: of everybody together."""

    actor: str | None
    command_class: CommandClass
    window: Window
    spent: int
    limit: int


class Budgets:
    """What people may look at: the same sums that commands are judged by."""

    def __init__(self, pool: Pool, clock: Clock, settings: CommandQueueSettings) -> None:
        self._pool, self._clock, self._settings = pool, clock, settings

    async def of(self, actor: str) -> list[Budget]:
        """The budgets of an actor and of the installation; what runs next may have less."""
        async with transaction(self._pool) as tx:
            fleet = await charges.fleet(tx)
            return await _read(tx, [actor], _CHARGED, fleet, self._settings, self._clock.now())

    async def count_fleet(self) -> None:
        """Count the devices that were seen in the last thirty days."""
        async with transaction(self._pool) as tx:
            await charges.count_fleet(tx, self._clock.now())


def is_charged(one: Weight) -> bool:
    """Whether it can harm, and so costs something."""
    return one.command_class in _CHARGED


async def judge(
    tx: Connection, weights: Sequence[Weight], settings: CommandQueueSettings, now: datetime
) -> dict[UUID, Hold]:
    """Return why commands are held; those not named may run, and must be charged in `tx`.

    Holds the installation's row until the transaction ends, when any of them can harm: so the
    actor's needs no lock of its own.
    """
    charged = [one for one in weights if is_charged(one)]
    if not charged:
        return {}
    fleet = await charges.take_turns(tx)
    actors = sorted({one.actor for one in charged})
    classes = [kind for kind in _CHARGED if any(one.command_class is kind for one in charged)]
    budgets = await _read(tx, actors, classes, fleet, settings, now)
    left = {budget: budget.limit - budget.spent for budget in budgets}
    holds: dict[UUID, Hold] = {}
    for one in charged:
        hold = _hold(one, left)
        if hold is None:
            for budget in _of(one, left):
                left[budget] -= one.targets
        else:
            holds[one.command_id] = hold
            metrics.HELD.labels(hold.why).inc()
    return holds


async def judge_approved(
    tx: Connection, one: Weight, settings: CommandQueueSettings, now: datetime
) -> Hold | None:
    """Why one person's approval is not enough: approvals lift the actor's limit, and only three of
    them everybody's. Holds the installation's row; charge in `tx` what runs.
    """
    fleet = await charges.take_turns(tx)
    left = {
        budget: budget.limit - budget.spent
        for budget in await _read(tx, [], [one.command_class], fleet, settings, now)
    }
    return _over_budget(one, left)


async def charge(tx: Connection, spent: Sequence[Weight], now: datetime) -> None:
    """Charge commands that run, for good: there is no refund."""
    rows = [
        Charge(one.command_id, one.targets, one.command_class, one.actor)
        for one in spent
        if is_charged(one)
    ]
    if rows:
        await charges.add(tx, rows, now)


def _hold(one: Weight, left: dict[Budget, int]) -> Hold | None:
    if one.management:
        why = "only enrollment's own renewal may install an MDM payload"
        return Hold("management", why, needs=None)
    everybodys = _over_budget(one, {key: of for key, of in left.items() if key.actor is None})
    if everybodys is not None:
        return _over_budget(one, left, everybodys)
    if one.protected:
        return Hold("protected", f"{one.protected} of its devices are protected by their group")
    if one.proposed and one.command_class is CommandClass.DESTRUCTIVE:
        return Hold("proposed", "a service proposes it: a person has to decide")
    if one.proposed and one.actor.startswith(_NOBODY):
        return Hold("no person", "no person is at its root: one has to decide")
    return _over_budget(one, left)


def _over_budget(
    one: Weight, left: dict[Budget, int], everybodys: Hold | None = None
) -> Hold | None:
    """The first budget that has not room enough names the reason; everybody's takes the most."""
    for budget in _of(one, left):
        if one.targets > left[budget]:
            reason = _over(one, budget, left[budget])
            if budget.actor is None or everybodys is not None:
                why = f"everybody {budget.window.words}"
                return Hold(why, reason, ALL_NEED, ALL_WAIT)
            return Hold(f"actor {budget.window.words}", reason)
    return None


def _of(one: Weight, left: dict[Budget, int]) -> list[Budget]:
    return [
        budget
        for budget in left
        if budget.command_class is one.command_class and budget.actor in {None, one.actor}
    ]


def _over(one: Weight, budget: Budget, left: int) -> str:
    whose = "the installation's" if budget.actor is None else "the asker's"
    spent = budget.limit - left
    return (
        f"{one.targets} {one.command_class} targets: {spent} of {budget.limit} of {whose} budget "
        f"for {budget.window.words} are spent"
    )


async def _read(
    tx: Connection,
    actors: Sequence[str],
    classes: Sequence[CommandClass],
    fleet: int,
    settings: CommandQueueSettings,
    now: datetime,
) -> list[Budget]:
    """The shortest windows first: they are the first to have room again."""
    windows = [
        (actor, kind, window)
        for kind in classes
        for actor in [*actors, None]
        for window in _windows(settings, kind, of_all=actor is None)
    ]
    spent = await charges.sums(
        tx, [Span(actor, kind, window.length) for actor, kind, window in windows], now
    )
    return [
        Budget(actor, kind, window, sum_, window.limit(fleet if actor is None else 0))
        for (actor, kind, window), sum_ in zip(windows, spent, strict=True)
    ]


def _windows(
    settings: CommandQueueSettings, kind: CommandClass, *, of_all: bool
) -> Sequence[Window]:
    if kind is CommandClass.DESTRUCTIVE:
        return settings.destructive_of_all if of_all else settings.destructive_of_actor
    return settings.disruptive_of_all if of_all else settings.disruptive_of_actor
