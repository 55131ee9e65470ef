"""Dropping what grew too old."""

from __future__ import annotations

from datetime import timedelta
from typing import Final

from services.inventory import metrics
from services.inventory.settings import InventorySettings
from services.inventory.store import answer_parts, facts, items
from shared.db.pool import Pool, transaction
from shared.runtime.clock import Clock

_CHUNK: Final = 5_000


class Retention:
    """Drops what grew too old, a chunk at a time."""

    def __init__(self, pool: Pool, settings: InventorySettings, clock: Clock) -> None:
        self._pool, self._settings, self._clock = pool, settings, clock

    async def run(self) -> bool:
        """Drop one chunk of each kind; True: more waits."""
        now = self._clock.now()
        before = now - timedelta(days=self._settings.history_days)
        async with transaction(self._pool) as tx:
            dropped = await facts.drop_old(tx, before, _CHUNK)
            dropped += await items.drop_old(tx, before, _CHUNK)
            metrics.HISTORY_DROPPED.inc(dropped)
            parts_before = now - timedelta(hours=self._settings.part_hours)
            dropped += await answer_parts.drop_old(tx, parts_before, _CHUNK)
        return dropped >= _CHUNK
