"""Old entries go, and what is left stays provable.

First the chains say from where on they are kept, then a root is signed over that, and only then do
partitions go: at no time is something missing of which the roots say that it is there.
"""

from __future__ import annotations

import logging
from datetime import datetime, timedelta
from typing import Final

from services.console.store import audit_upkeep as store
from shared.db import partitions
from shared.db.pool import Pool, transaction
from shared.runtime import auditing
from shared.runtime.clock import Clock
from shared.runtime.http import Caller

log = logging.getLogger(__name__)

JOB: Final = "job:forget_audit"
_SPAN_DAYS: Final = 7


class Forgetting:
    """Makes room for what will be recorded; drops whole weeks that are older than `days`."""

    def __init__(self, pool: Pool, days: int, clock: Clock) -> None:
        self._pool, self._days, self._clock = pool, days, clock

    async def run(self) -> None:
        await partitions.make_ahead(self._pool, "audit", span_days=_SPAN_DAYS)
        oldest = self._clock.now() - timedelta(days=self._days)
        # Of the week that it lies in nothing goes.
        week, _ = next(iter(partitions.spans(oldest, oldest, _SPAN_DAYS)))
        if await self._said(week):
            await partitions.drop_old(self._pool, "audit", week)
            async with transaction(self._pool) as tx:
                await store.drop_roots(tx, week)

    async def _said(self, week: datetime) -> bool:
        """Whether a root says already that nothing is kept from before."""
        async with transaction(self._pool) as tx:
            moved = await store.move_firsts(tx, week)
            if moved:
                after = {"kept_from": week.date().isoformat(), "chains": moved}
                job = Caller(JOB, frozenset(), source=JOB)
                await auditing.record(tx, job, "retention", "audit.forget", "audit", after=after)
                log.info("Old entries of the audit go with the next root", extra=after)
            return await store.unsaid(tx) == 0
