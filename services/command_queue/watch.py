"""How the guard stands, in few words: for people who look whether all is well."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from services.command_queue import approvers
from services.command_queue.approvers import APPROVE, UNFREEZE
from services.command_queue.lifting import NEEDS
from services.command_queue.powers import Power, Powers
from services.command_queue.store import approvals, freezes
from services.command_queue.store import approvers as store
from shared.db.pool import Connection, Pool, Record, transaction
from shared.runtime.clock import Clock
from shared.runtime.http import Reach

MOST_HELD: Final = 1000
"""Held commands are counted so far and no further."""


@dataclass(frozen=True, slots=True)
class Guard:
    """`approvers` and `lifters` could decide now, with a key and an age; of all devices."""

    held: int
    freezes: list[Record]
    powers: list[Power]
    approvers: int
    lifters: int
    lifters_needed: int = NEEDS


class Watch:
    def __init__(self, pool: Pool, clock: Clock, powers: Powers, age: timedelta) -> None:
        self._pool, self._clock, self._powers, self._age = pool, clock, powers, age

    async def look(self, reach: Reach) -> Guard:
        """What waits within reach; the rest is told to those alone who reach all devices."""
        async with transaction(self._pool) as tx:
            held = await approvals.count_waiting(tx, self._clock.now(), reach, MOST_HELD)
            if reach is not None:
                return Guard(held, [], [], 0, 0)
            standing = await freezes.standing(tx)
            able = [await self._able(tx, permission) for permission in (APPROVE, UNFREEZE)]
        return Guard(held, standing, await self._powers.young(), *able)

    async def _able(self, tx: Connection, permission: str) -> int:
        """How many people could use this right now, on all devices."""
        now, found = self._clock.now(), 0
        for account_id in await store.holders(tx, permission):
            standing = await approvers.standing(tx, account_id, permission, now, self._age)
            found += standing.why_not is None and standing.reach is None
        return found
