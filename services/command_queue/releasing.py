"""From let run to queued: targets that were placed as held, a few hundred at a time, resumable."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Final
from uuid import UUID

from services.command_queue.settling import Origin
from services.command_queue.store import approvals as store
from shared.bus import outbox
from shared.db.locks import lock_devices
from shared.db.pool import Pool, Record, transaction
from shared.events import Event
from shared.events.commands import CommandQueued, QueuedTarget

_LIMIT: Final = 250


async def release(pool: Pool, now: datetime) -> bool:
    """Queue the next held targets of a released command; True when more may wait."""
    async with transaction(pool) as tx:
        command_id = await store.first_released(tx)
        found = await store.still_held(tx, command_id, _LIMIT) if command_id else []
    if command_id is None:
        return False
    async with transaction(pool) as tx:
        await lock_devices(tx, {device for device, _ in found})
        command = await store.command(tx, command_id)
        queued = await store.queue(tx, command_id, found, now) if found else []
        if queued and command is not None:
            await outbox.emit(tx, [_told(command, queued, now)])
        if len(found) < _LIMIT:
            await store.all_queued(tx, command_id)
    return len(found) == _LIMIT


def _told(command: Record, queued: Sequence[tuple[UUID, UUID]], now: datetime) -> Event:
    event = CommandQueued(
        command_id=command["command_id"],
        kind=command["kind"],
        queued_at=now,
        targets=[QueuedTarget(device_id=one[0], channel_id=one[1]) for one in sorted(queued)],
    )
    origin = Origin.of(
        command["command_id"],
        command["correlation_id"],
        command["traceparent"],
        command["created_at"],
    )
    return event.because(origin)
