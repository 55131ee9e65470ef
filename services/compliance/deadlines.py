"""Verdicts that time changes: silence, and reports that grow old."""

from __future__ import annotations

from collections import defaultdict
from uuid import UUID

from services.compliance.judging import Judge, Work
from services.compliance.settings import ComplianceSettings
from services.compliance.store import verdicts
from services.compliance.verdicts import Occasion
from shared.db.locks import lock_devices
from shared.db.pool import Pool, transaction
from shared.runtime.clock import Clock


class Deadlines:
    """Judges what is due, found by an index of due times: its cost follows what is due, not the
    fleet.
    """

    def __init__(
        self, pool: Pool, settings: ComplianceSettings, clock: Clock, judge: Judge
    ) -> None:
        self._pool, self._settings, self._clock, self._judge = pool, settings, clock, judge

    async def run(self) -> bool:
        """Judge a batch; True: more is due."""
        limit = self._settings.due_batch
        async with transaction(self._pool) as tx:
            due = await verdicts.due(tx, self._clock.now(), limit)
            policies: dict[UUID, set[UUID]] = defaultdict(set)
            for device_id, policy_id in due:
                policies[device_id].add(policy_id)
            await lock_devices(tx, policies)
            work = Work(
                dict.fromkeys(policies, Occasion()),
                policies={device_id: frozenset(found) for device_id, found in policies.items()},
            )
            if due:
                await self._judge.judge(tx, work, "time")
        return len(due) == limit
