"""What command_queue does by itself."""

from __future__ import annotations

import time
from datetime import timedelta
from typing import Final

from services.command_queue import expansion, measuring, releasing, sweeping
from services.command_queue.approvals import Approvals
from services.command_queue.budgets import Budgets
from services.command_queue.expansion import Bite
from services.command_queue.settings import CommandQueueSettings
from shared.db.plans import analyze_grown
from shared.db.pool import Pool, connected
from shared.runtime.clock import Clock
from shared.runtime.jobs import Job, Wake

_LONGEST_REST: Final = 0.5
_NAP: Final = 0.1
"""So often a long rest looks for a command that is new: it may be one for a single device."""


def jobs(
    settings: CommandQueueSettings,
    pool: Pool,
    road: Pool,
    clock: Clock,
    budgets: Budgets,
    expand: Wake,
    sweep: Wake,
) -> list[Job]:
    unknown = timedelta(seconds=settings.unknown_device_seconds)
    unanswered = timedelta(seconds=settings.unanswered_seconds)
    kept = timedelta(days=settings.history_days)

    async def expand_targets() -> bool:
        begun = time.monotonic()
        bite = await expansion.expand(road, clock.now(), unknown)
        if bite is Bite.LATER:
            # Devices and people go before what is large; a new command ends the rest early.
            rest = (time.monotonic() - begun) * (1 / settings.fan_out_share - 1)
            await _rest(road, expand, min(rest, _LONGEST_REST))
        return bool(bite)

    async def give_up() -> bool:
        return await expansion.give_up(road, clock.now())

    async def sweep_ended() -> bool:
        return await sweeping.sweep(pool, clock.now(), unanswered)

    async def tidy() -> bool:
        return await sweeping.tidy(pool, clock.now(), kept)

    async def measure() -> None:
        await measuring.measure(pool, clock.now())

    async def keep_plans() -> None:
        async with connected(pool) as connection:
            await analyze_grown(connection)

    return [
        # Chunks are taken once whoever takes them: single only because two would wait for each
        # other's devices.
        Job("expand targets", 0.5, expand_targets, wake=expand),
        Job("give up unknown devices", 10, give_up),
        Job("sweep ended commands", 5, sweep_ended, wake=sweep),
        Job("tidy history", 6 * 3600, tidy),
        Job("count the fleet", 1800, budgets.count_fleet),
        Job("analyze what has grown", 5, keep_plans),
        # Every process tells: the gauge of one that lost the job would stand still.
        Job("measure queues", 60, measure, single=False),
    ]


def approval_jobs(pool: Pool, clock: Clock, approvals: Approvals, wake: Wake) -> list[Job]:
    async def queue_released() -> bool:
        return await releasing.release(pool, clock.now())

    return [
        Job("release approved commands", 30, approvals.release_ripe),
        Job("queue released targets", 5, queue_released, wake=wake),
    ]


async def _rest(road: Pool, expand: Wake, seconds: float) -> None:
    """Wait so long, or until there is a new command: this process is told of those that it took in
    itself, and looks for others.
    """
    until = time.monotonic() + seconds
    while (left := until - time.monotonic()) > 0:
        if await expand.wait(min(left, _NAP)) or await expansion.is_new(road):
            return
