"""Every device's state is told anew now and then, a few at a time.

A compacted topic keeps the last record of a device, and by an accident of the relay that may be an
old one (docs/decisions/0031-states-are-told-anew.md).
"""

from __future__ import annotations

import math

from services.enrollment import metrics
from services.enrollment.settings import EnrollmentSettings
from services.enrollment.store import rounds, states
from shared.bus import outbox
from shared.db.locks import lock_devices
from shared.db.pool import Pool, transaction

_DAY = 86_400.0
_MOST = 200


class Retelling:
    """Goes round all devices in about `retell_days`, in even steps."""

    def __init__(self, pool: Pool, settings: EnrollmentSettings) -> None:
        self._pool = pool
        self._share = settings.retell_every / (settings.retell_days * _DAY)

    async def tell_next(self) -> None:
        """Tell the states of the next few devices, in one short transaction."""
        async with transaction(self._pool) as tx:
            limit = min(_MOST, max(1, math.ceil(await rounds.devices(tx) * self._share)))
            devices = await rounds.next_devices(tx, limit)
            await lock_devices(tx, devices)
            await outbox.emit(tx, await states.read(tx, devices))
            await rounds.move(tx, devices[-1] if len(devices) == limit else rounds.START)
        metrics.STATES_RETOLD.inc(len(devices))
