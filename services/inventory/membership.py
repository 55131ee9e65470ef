"""Devices come into groups and leave them, by people's word only.

Whoever puts a device into a group gives power over it to everybody with rights on that group, so
they need the permission on both (security.md, People). Devices' rows are locked first, sorted, then
the group's: so does everything else here.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final
from uuid import UUID

from services.inventory import telling
from services.inventory.groups import MEMBERS, Group, known
from services.inventory.store import groups, memberships
from shared.db.locks import IN_ORDER, lock_known_devices
from shared.db.pool import Connection, Pool, transaction
from shared.runtime import auditing
from shared.runtime.clock import Clock
from shared.runtime.http import Caller, Reach
from shared.runtime.problems import Problem

MOST_AT_ONCE: Final = 10_000
MOST_GROUPS_A_DEVICE: Final = 100
_BITE: Final = 500


class Membership:
    """Adds and removes members."""

    def __init__(self, pool: Pool, clock: Clock) -> None:
        self._pool, self._clock = pool, clock

    async def add(
        self, group_id: UUID, device_ids: Sequence[UUID], who: Caller, reason: str | None
    ) -> tuple[int, int]:
        """Put devices into a group: all of them or none. Returns how many came, and how many are
        in it now; who was in it already stays.
        """
        reach, wanted = who.reach(MEMBERS), sorted(set(device_ids), key=IN_ORDER)
        async with transaction(self._pool) as tx:
            known(await groups.one(tx, group_id, reach))
            # Before the locks, and again under them: a device may go, or leave, meanwhile.
            await _refuse_outside(tx, wanted, reach)
            await lock_known_devices(tx, wanted)
            await _refuse_outside(tx, wanted, reach)
            group = known(await groups.lock(tx, group_id, reach))
            now = self._clock.now()
            added = await memberships.add(tx, group_id, wanted, now, who.actor)
            await _refuse_overfull(tx, added)
            await self._tell(tx, group, added, who, "added", reason)
        return len(added), group.members + len(added)

    async def remove(
        self, group_id: UUID, device_ids: Sequence[UUID], who: Caller, reason: str | None
    ) -> tuple[int, int]:
        """Take devices out of a group; who is not in it is passed over. Returns how many left, and
        how many are in it now.
        """
        reach = who.reach(MEMBERS)
        async with transaction(self._pool) as tx:
            _may_let_go(known(await groups.one(tx, group_id, reach)), who)
            members = await memberships.among(tx, group_id, list(set(device_ids)))
            await lock_known_devices(tx, members)
            group = known(await groups.lock(tx, group_id, reach))
            _may_let_go(group, who)
            removed = await memberships.remove(tx, group_id, members)
            await self._tell(tx, group, removed, who, "removed", reason)
        return len(removed), group.members - len(removed)

    async def _tell(
        self,
        tx: Connection,
        group: Group,
        moved: Sequence[UUID],
        who: Caller,
        what: str,
        reason: str | None,
    ) -> None:
        if not moved:
            return
        change = len(moved) if what == "added" else -len(moved)
        before = {"name": group.name, "members": group.members}
        after = {"name": group.name, "members": group.members + change, what: len(moved)}
        action = f"group.members.{what}"
        target = str(group.group_id)
        await auditing.record(
            tx, who, MEMBERS, action, target, before=before, after=after, reason=reason
        )
        await telling.tell_devices(tx, moved)


def _may_let_go(group: Group, who: Caller) -> None:
    """Leaving a protected group ends a device's protection: that is decided on all devices."""
    if group.protected:
        who.require(MEMBERS)


async def _refuse_outside(tx: Connection, device_ids: Sequence[UUID], reach: Reach) -> None:
    """By number, never by name: an id that is outside is answered like one that nobody knows."""
    count = await memberships.outside(tx, device_ids, reach)
    if not count:
        return
    if reach is None:
        detail = f"{count} of these devices are not known: nothing was changed."
        raise Problem(422, "devices_unknown", detail, devices=count)
    detail = f"{count} of these devices are not within your reach: nothing was changed."
    raise Problem(403, "devices_outside", detail, devices=count)


async def _refuse_overfull(tx: Connection, device_ids: Sequence[UUID]) -> None:
    count = await memberships.overfull(tx, device_ids, MOST_GROUPS_A_DEVICE)
    if count:
        detail = (
            f"{count} of these devices are in {MOST_GROUPS_A_DEVICE} groups already, which is the "
            "most: nothing was changed."
        )
        raise Problem(409, "groups_of_device_too_many", detail, devices=count)


async def leave(tx: Connection, device_ids: Sequence[UUID]) -> None:
    """Devices that were deleted leave their groups; their rows are locked."""
    left = await memberships.leave(tx, device_ids)
    await telling.tell_devices(tx, sorted(left, key=IN_ORDER))


class Dissolving:
    """Empties deleted groups, a bite of members a transaction: where it stands is who is left.

    The group is told as deleted when its last member has left it.
    """

    def __init__(self, pool: Pool, clock: Clock) -> None:
        self._pool, self._clock = pool, clock

    async def run(self) -> bool:
        """Take one bite; True: more may wait."""
        async with transaction(self._pool) as tx:
            group_id = await groups.dissolving(tx)
            if group_id is None:
                return False
            some = await memberships.some(tx, group_id, _BITE)
            if some:
                await lock_known_devices(tx, some)
                left = await memberships.remove(tx, group_id, some)
                await telling.tell_devices(tx, left)
            elif await groups.dissolved(tx, group_id, self._clock.now()):
                await telling.tell_groups(tx, [group_id])
        return True
