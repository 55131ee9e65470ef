"""Which devices a filter means, for a command to all of them: exactly, and at this moment."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import Final
from uuid import UUID

from services.console.store import view_lists as lists
from services.console.store.view_conditions import conditions
from services.console.views.filters import Filters
from shared.db.pool import READING, Pool, transaction
from shared.events.devices import Platform
from shared.runtime.clock import Clock
from shared.runtime.http import Reach

MOST: Final = 100_000
MANAGED: Final = "enrolled"


@dataclass(frozen=True)
class Chosen:
    """Devices that would be asked, and how many of those that were meant are left out."""

    device_ids: list[UUID]
    left_out: int
    """Not managed, beyond reach, or of a platform that is not asked."""

    @property
    def count(self) -> int:
        return len(self.device_ids)


@dataclass(frozen=True)
class Counted:
    """The same in numbers."""

    count: int
    left_out: int


class Selection:
    def __init__(self, pool: Pool, clock: Clock) -> None:
        self._pool, self._clock = pool, clock

    async def matching(self, filters: Filters, without: Collection[str], reach: Reach) -> Chosen:
        """The managed devices that a list has now; at most MOST and one more."""
        everything = await self._ids(filters, reach)
        narrower = _asked_of(filters, without)
        if narrower is None:
            return Chosen([], len(everything))
        chosen = everything if narrower == filters else await self._ids(narrower, reach)
        return Chosen(chosen, max(len(everything) - len(chosen), 0))

    async def counted(self, filters: Filters, without: Collection[str], reach: Reach) -> Counted:
        """How many `matching` would name: what a dialog says needs no ids."""
        everything = await self._count(filters, reach)
        narrower = _asked_of(filters, without)
        if narrower is None:
            return Counted(0, everything)
        chosen = everything if narrower == filters else await self._count(narrower, reach)
        return Counted(chosen, max(everything - chosen, 0))

    async def named(
        self, device_ids: Collection[UUID], without: Collection[str], reach: Reach
    ) -> Chosen:
        """Those of some devices that are managed."""
        async with transaction(self._pool, READING) as tx:
            rows = await lists.some(tx, list(device_ids), reach)
        chosen = sorted(
            row["device_id"]
            for row in rows
            if row["status"] == MANAGED and row["platform"] not in without
        )
        return Chosen(chosen, len(set(device_ids)) - len(chosen))

    async def _count(self, filters: Filters, reach: Reach) -> int:
        async with transaction(self._pool, READING) as tx:
            matching = conditions(filters, reach, self._clock.now())
            await lists.search(tx, matching, filters.words)
            return await lists.count(tx, matching, MOST + 1)

    async def _ids(self, filters: Filters, reach: Reach) -> list[UUID]:
        async with transaction(self._pool, READING) as tx:
            matching = conditions(filters, reach, self._clock.now())
            await lists.search(tx, matching, filters.words)
            return await lists.few(tx, matching, MOST + 1)


def _asked_of(filters: Filters, without: Collection[str]) -> Filters | None:
    """The managed ones among what filters mean; None: there are none."""
    managed = not filters.status or MANAGED in filters.status
    platforms = [one for one in filters.platform or tuple(Platform) if one not in without]
    if not managed or not platforms:
        return None
    return replace(filters, status=(MANAGED,), platform=tuple(platforms))
