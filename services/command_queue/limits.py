"""A simple limit on destruction, for everybody together, until the whole guard comes.

Over it a command is born held: no device hears of it, and it can be cancelled or expires.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from services.command_queue import metrics
from services.command_queue.settings import CommandQueueSettings
from services.command_queue.store import charges
from shared.db.pool import Connection
from shared.events.commands import CommandClass


@dataclass(frozen=True, slots=True)
class Weight:
    """What a command would cost; `management`: it would replace or end management itself."""

    command_id: UUID
    command_class: CommandClass
    targets: int
    management: bool


async def judge(
    tx: Connection, weights: Sequence[Weight], settings: CommandQueueSettings, now: datetime
) -> dict[UUID, str]:
    """Return why commands are held; those not named may run.

    Holds the installation's row until the transaction ends, when any of them is destructive.
    """
    destructive = [one for one in weights if one.command_class is CommandClass.DESTRUCTIVE]
    if not destructive:
        return {}
    hour, day = await charges.lock_and_sum(tx, now)
    holds: dict[UUID, str] = {}
    for one in destructive:
        if one.management:
            holds[one.command_id] = "only enrollment's own renewal may install an MDM payload"
            metrics.HELD.labels("management").inc()
        elif hour + one.targets > settings.destructive_per_hour:
            holds[one.command_id] = _over(one.targets, hour, settings.destructive_per_hour, "hour")
            metrics.HELD.labels("hour").inc()
        elif day + one.targets > settings.destructive_per_day:
            holds[one.command_id] = _over(one.targets, day, settings.destructive_per_day, "day")
            metrics.HELD.labels("day").inc()
        else:
            hour, day = hour + one.targets, day + one.targets
    return holds


async def charge(tx: Connection, spent: Sequence[tuple[UUID, int]], now: datetime) -> None:
    """Charge (command, targets) for good: there is no refund."""
    if spent:
        await charges.add(tx, spent, now)


def _over(targets: int, spent: int, limit: int, window: str) -> str:
    return (
        f"{targets} destructive targets: {spent} of {limit} of the installation's limit in one "
        f"{window} are spent"
    )
