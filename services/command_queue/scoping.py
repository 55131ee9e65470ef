"""Which devices a caller with rights on some groups may name, and what such callers are told."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final
from uuid import UUID

from services.command_queue.errors import NotFound, OutOfReach
from services.command_queue.store import scopes
from shared.db.pool import Connection
from shared.runtime import turns
from shared.runtime.http import Reach

_PIECE: Final = 2000


async def refuse_outside(tx: Connection, device_ids: Sequence[UUID], reach: Reach) -> None:
    """Raise OutOfReach when one of these is outside; unknown devices are outside, too."""
    count = 0
    async for some in turns.pieces(device_ids, _PIECE):
        count += await scopes.outside(tx, some, reach)
    if count:
        raise OutOfReach(count)


async def must_see(tx: Connection, device_id: UUID, reach: Reach) -> None:
    """Raise NotFound when the device is outside."""
    if await scopes.outside(tx, [device_id], reach):
        raise NotFound("device")
