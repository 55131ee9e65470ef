"""Devices as people see and change them: name, tags, ownership, user; and taking them out."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from services.enrollment.leaving import Departures
from services.enrollment.ownership import Ownerships
from services.enrollment.store import certificates, devices, enrollments, fences, states
from services.enrollment.store.certificates import Listed
from services.enrollment.store.devices import Device
from services.enrollment.store.enrollments import Told
from services.enrollment.store.fences import Fence
from shared.bus import outbox
from shared.db.locks import lock_devices
from shared.db.pool import Connection, Pool, connected, transaction
from shared.events.devices import DeviceChanged, Ownership
from shared.runtime import auditing
from shared.runtime.clock import Clock
from shared.runtime.http import Caller, Reach
from shared.runtime.internal import InternalCallFailed
from shared.runtime.problems import Problem

__all__ = ["REVOKE", "WRITE", "Change", "Device", "Directory", "find"]

WRITE = "enrollment.device.write"
REVOKE = "enrollment.revoke"
_ENROLLED = "enrolled"

Tag = Annotated[str, StringConstraints(min_length=1, max_length=100, strip_whitespace=True)]
Text = Annotated[str, StringConstraints(max_length=200, strip_whitespace=True)]


class Change(BaseModel):
    """What may be changed; a field that is absent stays, null clears."""

    model_config = ConfigDict(extra="forbid")

    name: Text | None = None
    tags: list[Tag] | None = Field(default=None, max_length=50)
    ownership: Ownership | None = None
    user: Text | None = None


class Directory:
    """Reads and changes devices."""

    def __init__(
        self, pool: Pool, departures: Departures, ownerships: Ownerships, clock: Clock
    ) -> None:
        self._pool, self._departures, self._clock = pool, departures, clock
        self._ownerships = ownerships

    async def page(
        self,
        after: UUID | None,
        *,
        platform: str | None,
        state: str | None,
        text: str | None,
        reach: Reach,
        limit: int,
    ) -> Sequence[Device]:
        """In the order they were first seen."""
        async with connected(self._pool) as connection:
            return await devices.page(connection, after, platform, state, text, reach, limit)

    async def get(self, device_id: UUID, reach: Reach) -> tuple[Device, Sequence[Told]]:
        """A device and its enrollments, newest first."""
        async with connected(self._pool) as connection:
            return await find(connection, device_id, reach), await enrollments.of_device(
                connection, device_id
            )

    async def change(self, device_id: UUID, change: Change, caller: Caller) -> Device:
        """Apply a person's change; one that changes nothing leaves no trace.

        A personal device that is to be the organisation's waits: it is announced only.
        """
        reach = caller.reach(WRITE)
        async with transaction(self._pool) as tx:
            await lock_devices(tx, [device_id])
            before = _changeable(await find(tx, device_id, reach))
            wanted = _wanted(change)
            settle = self._ownerships.settle
            after = before | await settle(tx, device_id, before, wanted, caller, WRITE)
            if after != before:
                await devices.change(tx, device_id, after)
                await _announce(tx, device_id, before, after, caller)
            return await find(tx, device_id, reach)

    async def certificates(
        self,
        device_id: UUID | None,
        reach: Reach,
        after: tuple[datetime, bytes] | None,
        limit: int,
    ) -> Sequence[Listed]:
        """Newest first."""
        async with connected(self._pool) as connection:
            return await certificates.page(connection, device_id, reach, after, limit)

    async def revoke(
        self, device_id: UUID, enrollment_id: UUID | None, caller: Caller, reason: str
    ) -> str:
        """Order the end of an enrollment (default: the current one): "ended", or "pending" until
        command_queue has confirmed that it serves it no more.

        It harms like a command that destroys, and is charged like one before anything is done.
        """
        async with connected(self._pool) as connection:
            found = await _ending(connection, device_id, enrollment_id, caller.reach(REVOKE))
        if found.state == _ENROLLED:
            await self._departures.charge(_fence(device_id, found, caller), caller.actor)
        async with transaction(self._pool) as tx:
            await lock_devices(tx, [device_id])
            found = await _ending(tx, device_id, found.enrollment_id, caller.reach(REVOKE))
            fence = _fence(device_id, found, caller)
            await fences.add(tx, [fence], self._clock.now())
            await auditing.record(
                tx,
                caller,
                REVOKE,
                "device.revoke",
                str(device_id),
                before={"enrollment_id": str(found.enrollment_id), "state": found.state},
                reason=reason,
            )
        try:
            await self._departures.confirm(fence)
        except InternalCallFailed:
            return "pending"
        return "ended"


async def _ending(
    tx: Connection, device_id: UUID, enrollment_id: UUID | None, reach: Reach
) -> Told:
    """The enrollment that a person wants to end; raises Problem."""
    device = await find(tx, device_id, reach)
    wanted = enrollment_id or device.current_enrollment
    told = await enrollments.of_device(tx, device_id)
    found = next((one for one in told if one.enrollment_id == wanted), None)
    if found is None or found.state == "ended":
        raise Problem(409, "not_enrolled", "This device has no such enrollment.")
    return found


def _fence(device_id: UUID, found: Told, caller: Caller) -> Fence:
    return Fence(
        found.enrollment_id, device_id, found.generation, "revoked", "revoked", caller.actor
    )


async def find(tx: Connection, device_id: UUID, reach: Reach) -> Device:
    """A device within reach; raises Problem: what is outside is answered like what is not there."""
    device = await devices.get(tx, device_id, reach)
    if device is None:
        raise Problem(404, "device_unknown", "There is no such device.")
    return device


def _changeable(device: Device) -> dict[str, Any]:
    return {
        "name": device.name,
        "tags": device.tags,
        "ownership": device.ownership,
        "user": device.user_name,
    }


def _wanted(change: Change) -> dict[str, Any]:
    given = change.model_dump(mode="json", exclude_unset=True)
    if "tags" in given:
        given["tags"] = sorted(set(given["tags"] or ()))
    if "ownership" in given:
        given["ownership"] = given["ownership"] or "unknown"
    return {key: None if value == "" else value for key, value in given.items()}


async def _announce(
    tx: Connection, device_id: UUID, before: dict[str, Any], after: dict[str, Any], caller: Caller
) -> None:
    """Tell the others what changed, and only that."""
    changed = {name for name in after if after[name] != before[name]}
    old = {name: before[name] for name in changed}
    new = {name: after[name] for name in changed}
    event = DeviceChanged(device_id=device_id, actor=caller.actor, before=old, after=new)
    await outbox.emit(tx, [event, *await states.read(tx, [device_id])])
    await auditing.record(tx, caller, WRITE, "device.change", str(device_id), before=old, after=new)
