"""What people ask of push_notifier: certificates, a device's pushes, a push by hand."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from services.push_notifier.store import attempts, certificates, channels
from services.push_notifier.store.certificates import FormerCertificate, PushCertificate
from shared.db.locks import lock_devices
from shared.db.pool import Pool, transaction
from shared.runtime import auditing
from shared.runtime.clock import Clock
from shared.runtime.http import Caller, Reach
from shared.runtime.jobs import Wake
from shared.runtime.paging import Page, page_of
from shared.runtime.problems import Problem

WAKE = "push.wake"


class History:
    def __init__(self, pool: Pool, clock: Clock, sender: Wake) -> None:
        self._pool = pool
        self._clock = clock
        self._sender = sender

    async def certificates(
        self,
    ) -> tuple[list[PushCertificate], list[FormerCertificate], datetime]:
        """In use, and replaced."""
        async with self._pool.acquire() as connection:
            now = self._clock.now()
            in_use = await certificates.all_of_them(connection)
            return in_use, await certificates.former(connection), now

    async def of_device(self, device_id: UUID, reach: Reach, page: Page) -> dict[str, Any]:
        async with self._pool.acquire() as connection:
            if not await channels.within(connection, device_id, reach):
                raise _unknown()
            known = await channels.of_device(connection, device_id)
            sent = await attempts.recent(connection, device_id, page.after_id(), page.limit + 1)
        if not known:
            raise _unknown()
        items, cursor = page_of(sent, page.limit, lambda row: [row["attempt_id"]])
        return {"channels": known, "items": items, "next": cursor}

    async def wake(self, device_id: UUID, who: Caller) -> int:
        """Push to every open channel of the device; the number of channels."""
        reach = who.reach(WAKE)
        async with transaction(self._pool) as tx:
            # Before the lock: a stranger's id must leave no row.
            if not await channels.within(tx, device_id, reach):
                raise _unknown()
            await lock_devices(tx, [device_id])
            woken = await channels.wake_device(tx, device_id)
            if not woken:
                raise Problem(409, "no_channel", "This device has no open channel to push to.")
            await auditing.record(tx, who, WAKE, "push.wake", str(device_id))
        self._sender.set()
        return woken


def _unknown() -> Problem:
    return Problem(404, "device_unknown", "No channel of such a device is known here.")
