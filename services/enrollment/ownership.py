"""A personal device becomes the organisation's only after a wait that everybody hears of.

Personal devices are never erased, so this is new power over them: it is announced, takes effect
three days later, and anybody who may change the device can veto it by calling it personal again.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any, Final, Literal
from uuid import UUID

from services.enrollment.settings import EnrollmentSettings
from services.enrollment.store import ownership as store
from services.enrollment.store import states
from services.enrollment.store.ownership import Wait
from shared.bus import outbox
from shared.db.locks import lock_devices
from shared.db.pool import Connection, Pool, connected, transaction
from shared.events.base import Event
from shared.events.devices import DeviceChanged, Ownership, OwnershipAnnounced
from shared.runtime import auditing
from shared.runtime.clock import Clock
from shared.runtime.http import Caller

_AT_ONCE: Final = 100


class Ownerships:
    """Announces, vetoes and carries out."""

    def __init__(self, pool: Pool, settings: EnrollmentSettings, clock: Clock) -> None:
        self._pool, self._clock = pool, clock
        self._wait = timedelta(hours=settings.ownership_wait_hours)

    async def settle(
        self,
        tx: Connection,
        device_id: UUID,
        before: dict[str, Any],
        wanted: dict[str, Any],
        caller: Caller,
        permission: str,
    ) -> dict[str, Any]:
        """What of `wanted` may be done at once; the device's row is locked."""
        if "ownership" not in wanted or before["ownership"] != Ownership.PERSONAL:
            return wanted
        if wanted["ownership"] == Ownership.PERSONAL:
            if await store.veto(tx, device_id):
                event = OwnershipAnnounced(device_id=device_id, how="vetoed", actor=caller.actor)
                await outbox.emit(tx, [event])
                await _audit(tx, device_id, caller, permission, "device.ownership_veto")
            return wanted
        now = self._clock.now()
        wait = Wait(device_id, wanted["ownership"], caller.actor, now + self._wait)
        if await store.ask(tx, wait, now):
            await outbox.emit(tx, [_announcement(wait, "asked")])
            after = {"ownership": wait.ownership, "due_at": wait.due_at.isoformat()}
            await _audit(tx, device_id, caller, permission, "device.ownership_ask", after)
        return {name: value for name, value in wanted.items() if name != "ownership"}

    async def carry_out(self) -> bool:
        """Do what has waited long enough; True: there may be more."""
        now = self._clock.now()
        async with connected(self._pool) as connection:
            due = await store.due(connection, now, _AT_ONCE)
        if not due:
            return False
        async with transaction(self._pool) as tx:
            await lock_devices(tx, due)
            waits = await store.take(tx, due, now)
            changed = await store.apply(tx, waits)
            done = [wait for wait in waits if wait.device_id in changed]
            events: list[Event] = [event for wait in done for event in _change(wait)]
            await outbox.emit(tx, [*events, *await states.read(tx, changed)])
        return len(due) == _AT_ONCE


def _change(wait: Wait) -> list[Event]:
    changed = DeviceChanged(
        device_id=wait.device_id,
        actor=wait.actor,
        before={"ownership": "personal"},
        after={"ownership": wait.ownership},
    )
    return [changed, _announcement(wait, "done")]


def _announcement(wait: Wait, how: Literal["asked", "done"]) -> OwnershipAnnounced:
    return OwnershipAnnounced(
        device_id=wait.device_id,
        how=how,
        actor=wait.actor,
        ownership=Ownership(wait.ownership),
        due_at=wait.due_at,
    )


async def _audit(
    tx: Connection,
    device_id: UUID,
    caller: Caller,
    permission: str,
    action: str,
    after: dict[str, Any] | None = None,
) -> None:
    before = {"ownership": "personal"}
    await auditing.record(
        tx, caller, permission, action, str(device_id), before=before, after=after
    )
