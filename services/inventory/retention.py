"""Dropping what grew too old."""

from __future__ import annotations

from datetime import timedelta
from typing import Final

from services.inventory import metrics
from services.inventory.settings import InventorySettings
from services.inventory.store import answer_parts
from shared.db import partitions
from shared.db.pool import Pool, transaction
from shared.runtime.clock import Clock

_CHUNK: Final = 5_000
_HISTORIES: Final = ("fact_history", "item_history")


class Retention:
    """Drops what grew too old, and makes room for what comes."""

    def __init__(self, pool: Pool, settings: InventorySettings, clock: Clock) -> None:
        self._pool, self._settings, self._clock = pool, settings, clock

    async def run(self) -> bool:
        """Care for the partitions, and drop one chunk of slices; True: more of them wait."""
        now = self._clock.now()
        before = now - timedelta(days=self._settings.history_days)
        for table in _HISTORIES:
            await partitions.make_ahead(self._pool, table)
            dropped = await partitions.drop_old(self._pool, table, before)
            metrics.HISTORY_DROPPED.inc(len(dropped))
        parts_before = now - timedelta(hours=self._settings.part_hours)
        async with transaction(self._pool) as tx:
            return await answer_parts.drop_old(tx, parts_before, _CHUNK) == _CHUNK
