"""What the others hear of groups: of each device all its groups, of each group what it is."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final
from uuid import UUID

from services.inventory import metrics
from services.inventory.settings import InventorySettings
from services.inventory.store import groups, memberships, rounds
from shared.bus import outbox
from shared.db.locks import lock_known_devices
from shared.db.pool import Connection, Pool, transaction
from shared.events.groups import DeviceGroups, GroupState
from shared.runtime import turns

_DAY: Final = 86_400.0
_MOST: Final = 200


async def tell_devices(tx: Connection, device_ids: Sequence[UUID]) -> None:
    """Tell all groups of these devices; their rows are locked. In pieces: they may be thousands."""
    async for some in turns.pieces(device_ids):
        told = await memberships.of_devices(tx, some)
        await outbox.emit(tx, [DeviceGroups(device_id=one, groups=held) for one, held in told])


async def tell_groups(tx: Connection, group_ids: Sequence[UUID]) -> None:
    """Tell what these groups are; locks their rows."""
    await outbox.emit(tx, [GroupState(**row) for row in await groups.states(tx, group_ids)])


class Retelling:
    """Goes round all groups and all devices that are or were in one, in about `retell_days`.

    A compacted topic keeps the last record, and by an accident of the relay that may be an old one
    (docs/decisions/0031-states-are-told-anew.md): a service that is built anew later would believe
    that a device is within somebody's reach which left it long ago.
    """

    def __init__(self, pool: Pool, settings: InventorySettings) -> None:
        self._pool = pool
        self._share = settings.retell_every / (settings.retell_days * _DAY)

    async def tell_next(self) -> None:
        """Tell the next few, in one short transaction: devices first, then groups."""
        async with transaction(self._pool) as tx:
            most_devices, most_groups = (self._step(size) for size in await rounds.sizes(tx))
            devices = await rounds.next_devices(tx, most_devices)
            await lock_known_devices(tx, devices)
            await tell_devices(tx, devices)
            some = await rounds.next_groups(tx, most_groups)
            await tell_groups(tx, some)
            await rounds.move(
                tx,
                devices[-1] if len(devices) == most_devices else rounds.START,
                some[-1] if len(some) == most_groups else rounds.START,
            )
        metrics.GROUPS_RETOLD.inc(len(devices) + len(some))

    def _step(self, size: int) -> int:
        return min(_MOST, max(1, math.ceil(size * self._share)))
