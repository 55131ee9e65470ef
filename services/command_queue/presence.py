"""When devices were last seen: noted in memory, written in bulk, told once an hour."""

from __future__ import annotations

import asyncio
import logging
from datetime import datetime
from typing import Final
from uuid import UUID

from services.command_queue import metrics
from services.command_queue.store import presence
from shared.bus import outbox
from shared.db.locks import lock_devices
from shared.db.pool import Pool, describe, transaction
from shared.events.commands import DeviceSeen
from shared.runtime.clock import Clock

log = logging.getLogger(__name__)

_BULK: Final = 1000
# A database that is away for long must not fill the memory: a sighting is no great loss.
_MOST_NOTED: Final = 500_000


class Presence:
    """The sightings of one process. What a killed process had noted is lost."""

    def __init__(self, pool: Pool, clock: Clock) -> None:
        self._pool, self._clock = pool, clock
        self._noted: dict[UUID, datetime] = {}

    def note(self, device_id: UUID) -> None:
        if len(self._noted) < _MOST_NOTED:
            self._noted[device_id] = self._clock.now()

    async def run(self, seconds: float) -> None:
        """Write every so often, in every process that serves devices, until cancelled."""
        while True:
            await asyncio.sleep(seconds)
            try:
                while await self.flush():
                    pass
            except Exception as error:  # noqa: BLE001 - the next turn may do better
                log.warning("Sightings could not be written", extra={"error": describe(error)})

    async def flush(self) -> bool:
        """Write a bulk of what was noted; True when more waits."""
        bulk = {one: self._noted[one] for one in sorted(self._noted)[:_BULK]}
        if not bulk:
            return False
        async with transaction(self._pool) as tx:
            untold = await presence.seen(tx, bulk)
        for device_id, at in bulk.items():
            if self._noted.get(device_id) == at:
                del self._noted[device_id]
        metrics.SEEN.inc(len(bulk))
        if untold:
            await self._tell(untold)
        return bool(self._noted)

    async def _tell(self, devices: list[UUID]) -> None:
        """Tell the others of sightings; apart, because telling takes the devices' locks."""
        async with transaction(self._pool) as tx:
            await lock_devices(tx, devices)
            told = await presence.tell(tx, devices)
            await outbox.emit(
                tx, [DeviceSeen(device_id=one.device_id, seen_at=one.last_seen_at) for one in told]
            )
