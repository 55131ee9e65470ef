"""Who gives whom what: nobody what they do not hold there, and the last owner stays."""

from __future__ import annotations

from collections.abc import Iterable
from uuid import UUID

from services.console import access
from services.console.people import Person
from services.console.permissions import ALL, OWNER, held_by
from services.console.store import accounts
from services.console.store import people as store
from services.console.store.people import Account, Grant, Role
from shared.db.pool import Connection, Pool, transaction
from shared.events.base import uuid7
from shared.runtime import auditing
from shared.runtime.clock import Clock
from shared.runtime.problems import Problem

__all__ = ["Account", "Grant", "Granting", "Role", "check_holds"]

GRANT, ROLE = "role.grant", "role.write"
MOST_GRANTS = 100
"""Of one account: they travel in its access tokens (decision 38)."""


class Granting:
    def __init__(self, pool: Pool, clock: Clock) -> None:
        self._pool, self._clock = pool, clock

    async def roles(self) -> list[Role]:
        """Built-in ones first, each with what it holds now."""
        return [
            Role(role.role_id, role.name, role.built_in, sorted(_held(role)))
            for role in await store.roles(self._pool)
        ]

    async def grant(
        self, person: Person, account_id: UUID, role_id: str, group_id: UUID | None
    ) -> None:
        """Let an account hold a role, on all devices or a group's; its sessions end."""
        async with transaction(self._pool) as tx:
            await accounts.lock(tx, account_id)
            await give(tx, person, account_id, role_id, group_id, self._clock)
            await access.end_sessions(tx, account_id, self._clock.now())
            await access.tell(tx, account_id)

    async def take(self, person: Person, account_id: UUID, grant_id: UUID) -> None:
        """Take a role away: only who could have given it, and never the last owner's."""
        async with transaction(self._pool) as tx:
            await store.hold_owners(tx, OWNER)
            await accounts.lock(tx, account_id)
            grant = await store.grant(tx, grant_id)
            if grant is None or grant.account_id != account_id:
                raise Problem(404, "grant_unknown", "This role is not held any more.")
            check_holds(person, {GRANT, *access.permissions_of(grant)}, grant.group_id)
            await store.drop_grant(tx, grant_id)
            await an_owner_stays(tx)
            before = _told(grant.role_id, grant.group_id)
            target = f"account:{account_id}"
            await auditing.record(tx, person.caller, GRANT, "role.take", target, before=before)
            await access.end_sessions(tx, account_id, self._clock.now())
            await access.tell(tx, account_id)

    async def add_role(self, person: Person, name: str, permissions: Iterable[str]) -> str:
        """A custom role of what its maker holds on all devices."""
        wanted = frozenset(permissions)
        if not wanted or not wanted <= ALL:
            raise Problem(422, "permissions_unknown", "Choose permissions from the list.")
        check_holds(person, wanted, None)
        role_id = str(uuid7())
        async with transaction(self._pool) as tx:
            if not await store.add_role(tx, role_id, name, sorted(wanted)):
                raise Problem(409, "role_taken", "There is a role of this name.")
            after = {"name": name, "permissions": sorted(wanted)}
            target = f"role:{role_id}"
            await auditing.record(tx, person.caller, ROLE, "role.create", target, after=after)
        return role_id


async def give(
    tx: Connection,
    person: Person,
    account_id: UUID,
    role_id: str,
    group_id: UUID | None,
    clock: Clock,
) -> None:
    role = await store.role(tx, role_id)
    if role is None:
        raise Problem(422, "role_unknown", "There is no such role.")
    check_holds(person, {GRANT, *_held(role)}, group_id)
    if len(await store.grants(tx, [account_id])) >= MOST_GRANTS:
        raise Problem(409, "grants_full", f"An account holds at most {MOST_GRANTS} roles.")
    values = (uuid7(), account_id, role_id, group_id, clock.now(), person.actor)
    if not await store.add_grant(tx, *values):
        raise Problem(409, "grant_there", "The account holds this role there already.")
    after, target = _told(role_id, group_id), f"account:{account_id}"
    await auditing.record(tx, person.caller, GRANT, "role.grant", target, after=after)


async def an_owner_stays(tx: Connection) -> None:
    """After `hold_owners`, and after the change that might have taken the last one."""
    if not await store.owners(tx, OWNER):
        detail = "This would leave nobody who owns the installation. Make another owner first."
        raise Problem(409, "last_owner", detail)


def check_holds(person: Person, wanted: Iterable[str], group_id: UUID | None) -> None:
    """Refuse who does not hold all of it there themselves."""
    there = person.caller.groups.get(group_id, frozenset()) if group_id else frozenset()
    missing = sorted(name for name in wanted if not (person.may(name) or name in there))
    if missing:
        where = "in this group" if group_id else "on all devices"
        detail = f"You would give what you do not hold {where}: {', '.join(missing)}."
        raise Problem(403, "not_yours_to_give", detail, missing=missing)


def _held(role: Role) -> frozenset[str]:
    return held_by(role.role_id, built_in=role.built_in, custom=frozenset(role.permissions))


def _told(role_id: str, group_id: UUID | None) -> dict[str, str | None]:
    return {"role": role_id, "group": str(group_id) if group_id else None}
