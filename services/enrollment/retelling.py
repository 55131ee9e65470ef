"""States of devices that no request tells: anew now and then, and of newcomers that stop half-way.

A compacted topic keeps the last record of a device, and by an accident of the relay that may be an
old one (docs/decisions/0031-states-are-told-anew.md). A newcomer's state is told when its first
TokenUpdate comes; if none comes, it is told here
(docs/decisions/0032-a-newcomer-is-told-with-its-token-update.md).
"""

from __future__ import annotations

import math
from collections.abc import Collection
from datetime import timedelta
from itertools import takewhile
from uuid import UUID

from services.enrollment import metrics
from services.enrollment.settings import EnrollmentSettings
from services.enrollment.store import rounds, states
from shared.bus import outbox
from shared.db.locks import lock_devices
from shared.db.pool import Connection, Pool, transaction
from shared.runtime.clock import Clock

_DAY = 86_400.0
_MOST = 200
_PAGE = 1_000


class Retelling:
    """Goes round all devices in about `retell_days`, in even steps, and after the newcomers."""

    def __init__(self, pool: Pool, settings: EnrollmentSettings, clock: Clock) -> None:
        self._pool, self._clock = pool, clock
        self._patience = timedelta(seconds=settings.newcomer_patience)
        self._share = settings.retell_every / (settings.retell_days * _DAY)

    async def tell_next(self) -> None:
        """Tell the states of the next few devices, in one short transaction."""
        async with transaction(self._pool) as tx:
            limit = min(_MOST, max(1, math.ceil(await rounds.devices(tx) * self._share)))
            devices = await rounds.next_devices(tx, limit)
            await _tell(tx, devices)
            await rounds.move(tx, devices[-1] if len(devices) == limit else rounds.START)
        metrics.STATES_RETOLD.inc(len(devices))

    async def tell_newcomers(self) -> bool:
        """Tell of those that have waited for their TokenUpdate; True: there may be more."""
        before = self._clock.now() - self._patience
        async with transaction(self._pool) as tx:
            page = await rounds.newcomers(tx, _PAGE)
            over = list(takewhile(lambda it: not it.waits or it.authenticated_at <= before, page))
            if not over:
                return False
            stalled = {one.device_id for one in over if one.waits}
            if stalled:
                await _tell(tx, stalled)
            await rounds.passed(tx, over[-1].enrollment_id)
        metrics.STALLED.inc(len(stalled))
        return len(over) == _PAGE


async def _tell(tx: Connection, devices: Collection[UUID]) -> None:
    await lock_devices(tx, devices)
    await outbox.emit(tx, await states.read(tx, devices))
