"""What people see of commands: asked for, on their way, done."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from services.command_queue import catalogue, expansion, pins, scoping
from services.command_queue.errors import NotFound
from services.command_queue.store import commands, devices, lists, presence
from services.command_queue.store.lists import Filters
from shared.db.pool import READING, Pool, Record, transaction
from shared.runtime.http import Reach

__all__ = ["Filters", "OfDevice", "Reading", "Row"]

_QUEUE: Final = 500
# How targets look between the moment their command ends and the sweeper's coming by.
_AFTER: Final[Mapping[str, Mapping[str, str]]] = {
    "cancelled": {
        "held": "cancelled",
        "queued": "cancelled",
        "deferred": "cancelled",
        "waiting": "cancelled",
        "unexpanded": "cancelled",
        "parked": "cancelled",
        "sent": "cancel_requested",
    },
    "expired": {
        "held": "expired",
        "queued": "expired",
        "deferred": "expired",
        "waiting": "expired",
        "unexpanded": "expired",
        "parked": "expired",
    },
}
# Asked for after everything that there is.
_LAST_ORDINAL: Final = 2**63 - 1
Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class OfDevice:
    """One device's open commands in their order, and a page of its outcomes, newest first."""

    last_seen_at: datetime | None
    queue: list[Row]
    history: list[Row]


class Reading:
    """Reads; changes nothing. `reach`: the groups a caller has the right on; None: all devices."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def get(self, command_id: UUID, reach: Reach) -> Row:
        """Return a command with its targets counted by state; raises NotFound."""
        async with transaction(self._pool, READING) as tx:
            found = await commands.get(tx, command_id, reach)
            if found is None:
                raise NotFound("command")
            counts = await commands.progress(tx, command_id)
        progress: dict[str, int] = {}
        for state, count in counts.items():
            shown = _shown(state, found["state"])
            progress[shown] = progress.get(shown, 0) + count
        return dict(found) | {"progress": progress}

    async def newest(self, filters: Filters, reach: Reach, limit: int) -> list[Row]:
        """Raises NotFound when the device that is asked about is outside."""
        async with transaction(self._pool, READING) as tx:
            if filters.device_id is not None:
                await scoping.must_see(tx, filters.device_id, reach)
            return [dict(row) for row in await lists.newest(tx, filters, reach, limit)]

    async def targets(
        self, command_id: UUID, reach: Reach, after: UUID | None, limit: int
    ) -> list[Row]:
        """Return targets that were queued or ended, by id; raises NotFound."""
        async with transaction(self._pool) as tx:
            command = await commands.get(tx, command_id, reach)
            if command is None:
                raise NotFound("command")
            found = await commands.targets(tx, command_id, reach, after, limit)
        return [_target(row, command["state"]) for row in found]

    async def of_device(
        self, device_id: UUID, reach: Reach, before: UUID | None, limit: int
    ) -> OfDevice:
        """All of it, whoever asked for it; raises NotFound when the device is outside."""
        async with transaction(self._pool) as tx:
            await scoping.must_see(tx, device_id, reach)
            queue = await commands.queue_of_device(tx, device_id, _QUEUE)
            history = await commands.history_of_device(tx, device_id, before, limit)
            seen = await presence.last_seen(tx, device_id)
        return OfDevice(
            last_seen_at=seen,
            queue=[_target(row, row["command_state"]) for row in queue],
            history=[dict(row) for row in history],
        )

    async def possible(self, device_id: UUID, reach: Reach) -> list[Row]:
        """Whether a device could take each kind that needs no parameters, and why it could not.

        Raises NotFound when the device is outside.
        """
        async with transaction(self._pool) as tx:
            await scoping.must_see(tx, device_id, reach)
            found = await devices.places(tx, [(device_id, None, _LAST_ORDINAL)])
        return [
            {
                "kind": one.kind,
                "command_class": pins.class_of(one, found[0].platform if found else None),
                "obstacle": _obstacle(one.request_type, found),
            }
            for one in catalogue.plain()
        ]


def _obstacle(request_type: str, found: list[devices.Place]) -> str | None:
    if not found:
        return "device unknown"
    why = expansion.obstacle(request_type, found[0])
    return why and why.removeprefix("not eligible: ")


def _target(row: Record, command_state: str) -> Row:
    return dict(row) | {"state": _shown(row["state"], command_state)}


def _shown(state: str, command_state: str) -> str:
    return _AFTER.get(command_state, {}).get(state, state)
