"""Static groups: scopes of people's rights, named and filled by people only (decision 44)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Final
from uuid import UUID

from pydantic import BaseModel, ConfigDict, StringConstraints

from services.inventory import telling
from services.inventory.store import groups, memberships
from services.inventory.store.groups import Group
from shared.db.pool import Connection, Pool, transaction
from shared.events import uuid7
from shared.runtime import auditing
from shared.runtime.clock import Clock
from shared.runtime.http import Caller
from shared.runtime.jobs import Wake
from shared.runtime.paging import page_of
from shared.runtime.problems import Problem

__all__ = ["MEMBERS", "READ", "WRITE", "Change", "Group", "Groups", "NewGroup"]

READ: Final = "group.read"
WRITE: Final = "group.write"
MEMBERS: Final = "group.members"
MOST_GROUPS: Final = 10_000

Name = Annotated[
    str,
    StringConstraints(
        min_length=1, max_length=100, strip_whitespace=True, pattern=r"^[^\x00-\x1f\x7f]+$"
    ),
]
Text = Annotated[str, StringConstraints(max_length=300, pattern=r"^[^\x00]*$")]


class NewGroup(BaseModel):
    model_config = ConfigDict(extra="forbid")

    name: Name
    description: Text | None = None
    protected: bool = False
    """Destructive commands to its members are always held."""
    reason: Text | None = None


class Change(BaseModel):
    """What may be changed; a field that is absent stays."""

    model_config = ConfigDict(extra="forbid")

    name: Name | None = None
    description: Text | None = None
    protected: bool | None = None
    reason: Text | None = None


class Groups:
    """Creates, changes and deletes groups; `deleted` wakes the job that empties them."""

    def __init__(self, pool: Pool, clock: Clock, deleted: Wake) -> None:
        self._pool, self._clock, self._deleted = pool, clock, deleted

    async def page(
        self, who: Caller, after: UUID | None, text: str | None, limit: int
    ) -> tuple[Sequence[Group], str | None]:
        """Groups by id."""
        async with transaction(self._pool) as tx:
            rows = await groups.page(tx, after, who.reach(READ), text, limit + 1)
        return page_of(rows, limit, lambda row: [str(row.group_id)])

    async def one(self, who: Caller, group_id: UUID) -> Group:
        async with transaction(self._pool) as tx:
            return known(await groups.one(tx, group_id, who.reach(READ)))

    async def members(
        self, who: Caller, group_id: UUID, after: UUID | None, limit: int
    ) -> tuple[Sequence[dict[str, Any]], str | None]:
        """Members by id."""
        async with transaction(self._pool) as tx:
            known(await groups.one(tx, group_id, who.reach(READ)))
            rows = await memberships.page(tx, group_id, after, limit + 1)
        return page_of(rows, limit, lambda row: [str(row["device_id"])])

    async def create(self, wanted: NewGroup, who: Caller) -> UUID:
        """Make an empty group."""
        group_id, now = uuid7(), self._clock.now()
        async with transaction(self._pool) as tx:
            await _name_is_free(tx, wanted.name, group_id)
            if await groups.count(tx) >= MOST_GROUPS:
                detail = f"There are {MOST_GROUPS} groups, which is the most: delete some first."
                raise Problem(409, "groups_too_many", detail)
            await groups.create(
                tx,
                group_id,
                wanted.name,
                wanted.description,
                protected=wanted.protected,
                at=now,
                by=who.actor,
            )
            await telling.tell_groups(tx, [group_id])
            after = wanted.model_dump(exclude={"reason"})
            await auditing.record(
                tx, who, WRITE, "group.create", str(group_id), after=after, reason=wanted.reason
            )
        return group_id

    async def change(self, group_id: UUID, wanted: Change, who: Caller) -> Group:
        """Apply a change; one that changes nothing leaves no trace. Whether a group is protected
        is decided on all devices: who works inside of it cannot lift that.
        """
        given = wanted.model_dump(exclude_unset=True, exclude={"reason"})
        given = {
            key: value for key, value in given.items() if key == "description" or value is not None
        }
        async with transaction(self._pool) as tx:
            stored = known(await groups.lock(tx, group_id, who.reach(WRITE)))
            before = {name: getattr(stored, name) for name in ("name", "description", "protected")}
            after: dict[str, Any] = before | given
            if after == before:
                return stored
            if after["protected"] != stored.protected:
                who.require(WRITE)
            await _name_is_free(tx, after["name"], group_id)
            now = self._clock.now()
            await groups.change(tx, group_id, **after, at=now, by=who.actor)
            await telling.tell_groups(tx, [group_id])
            changed = {name for name in after if after[name] != before[name]}
            old, new = ({name: of[name] for name in changed} for of in (before, after))
            target = str(group_id)
            await auditing.record(
                tx, who, WRITE, "group.change", target, before=old, after=new, reason=wanted.reason
            )
            return known(await groups.one(tx, group_id, None))

    async def delete(self, group_id: UUID, who: Caller, reason: str | None) -> None:
        """Take a group away from everybody; its members leave it in the background."""
        async with transaction(self._pool) as tx:
            stored = known(await groups.lock(tx, group_id, None))
            await groups.delete(tx, group_id, self._clock.now(), who.actor)
            before = {
                "name": stored.name,
                "description": stored.description,
                "protected": stored.protected,
                "members": stored.members,
            }
            await auditing.record(
                tx, who, WRITE, "group.delete", str(group_id), before=before, reason=reason
            )
        self._deleted.set()


def known(group: Group | None) -> Group:
    """Refuse what is not there, or not within reach, in the same words."""
    if group is None:
        raise unknown()
    return group


def unknown() -> Problem:
    return Problem(404, "group_unknown", "No group has this id.")


async def _name_is_free(tx: Connection, name: str, group_id: UUID) -> None:
    if await groups.name_taken(tx, name, group_id):
        raise Problem(409, "name_taken", "Another group has this name: choose a different one.")
