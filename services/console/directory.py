"""Accounts: made by a link, disabled, reset by another; their own people set their passwords."""

from __future__ import annotations

import secrets
from datetime import timedelta
from typing import Any
from uuid import UUID

from services.console import access, granting, passwords
from services.console.granting import check_holds
from services.console.passwords import Passwords
from services.console.people import Person, actor_of
from services.console.permissions import OWNER
from services.console.sessions import Sessions, Visit, hashed
from services.console.store import accounts, factors, identities, view_lists
from services.console.store import people as store
from services.console.store.people import Account, Grant, Linked
from shared.db.pool import Connection, Pool, connected, transaction
from shared.events.base import uuid7
from shared.runtime import auditing
from shared.runtime.clock import Clock
from shared.runtime.http import Caller
from shared.runtime.problems import Problem

WRITE = "people.write"
LIFETIME = timedelta(hours=24)
_FIRST = UUID(int=0)


class Directory:
    def __init__(self, pool: Pool, clock: Clock, passwords: Passwords, sessions: Sessions) -> None:
        self._pool, self._clock = pool, clock
        self._passwords, self._sessions = passwords, sessions

    async def page(
        self, after: UUID | None, limit: int
    ) -> tuple[list[Account], dict[UUID, list[Grant]]]:
        """Accounts in the order of their making, and what each holds."""
        found = await store.page(self._pool, after or _FIRST, limit)
        held: dict[UUID, list[Grant]] = {account.account_id: [] for account in found}
        for grant in await store.grants(self._pool, list(held)):
            held[grant.account_id].append(grant)
        return found, held

    async def one(self, account_id: UUID) -> tuple[Account, list[Grant]]:
        account = await store.one(self._pool, account_id)
        if account is None:
            raise _unknown()
        return account, await store.grants(self._pool, [account_id])

    async def invite(
        self, person: Person, name: str, email: str, role_id: str, group_id: UUID | None
    ) -> tuple[UUID, str]:
        """A new account with one role; its id and the token of the link that opens it, once."""
        account_id, now = uuid7(), self._clock.now()
        async with transaction(self._pool) as tx:
            if await accounts.is_taken(tx, email):
                raise Problem(409, "email_taken", "There is an account with this e-mail.")
            await accounts.add(tx, account_id, name, email, now)
            await granting.give(tx, person, account_id, role_id, group_id, self._clock)
            token = await self._link(tx, account_id, person)
            after = {"name": name, "email": email}
            await self._record(tx, person, "account.create", account_id, after)
            await access.tell(tx, account_id)
        return account_id, token

    async def reset(self, person: Person, account_id: UUID) -> str:
        """Forget password, factors, identities, end all sessions; the token of a link for new ones.

        Whoever resets could sign in as them: so they must hold all that the account holds.
        """
        now = self._clock.now()
        async with transaction(self._pool) as tx:
            known = await changing(tx, person, account_id)
            await store.reset(tx, account_id, now)
            await factors.drop_all(tx, account_id)
            await identities.unlink_all(tx, account_id)
            await access.end_everything(tx, account_id, now)
            token = await self._link(tx, account_id, person)
            ways = {"password": known.has_password, "keys": known.keys, "code": known.has_code}
            none = {"password": False, "keys": 0, "code": False}
            await self._record(tx, person, "account.reset", account_id, none, before=ways)
            await access.tell(tx, account_id)
        return token

    async def disable(self, person: Person, account_id: UUID) -> None:
        """It signs in no more, and what is signed in is out; never the last owner."""
        now = self._clock.now()
        async with transaction(self._pool) as tx:
            await store.hold_owners(tx, OWNER)
            known = await changing(tx, person, account_id)
            await store.disable(tx, account_id, now)
            await granting.an_owner_stays(tx)
            await access.end_everything(tx, account_id, now)
            before = {"disabled": known.disabled_at is not None}
            after = {"disabled": True}
            await self._record(tx, person, "account.disable", account_id, after, before=before)
            await access.tell(tx, account_id)

    async def enable(self, person: Person, account_id: UUID) -> None:
        async with transaction(self._pool) as tx:
            known = await changing(tx, person, account_id)
            await store.enable(tx, account_id)
            before = {"disabled": known.disabled_at is not None}
            after = {"disabled": False}
            await self._record(tx, person, "account.enable", account_id, after, before=before)
            await access.tell(tx, account_id)

    async def group_names(self) -> dict[UUID, str]:
        """Static groups that a role may be given on."""
        async with connected(self._pool) as connection:
            return await view_lists.group_names(connection)

    async def linked(self, token: str) -> Linked:
        """Whose link it is; raises Problem, the same for every reason."""
        found = await store.linked(self._pool, hashed(token), self._clock.now())
        if found is None:
            raise _refused()
        return found

    async def join(self, token: str, password: str, visit: Visit) -> str:
        """Set the password of the link's account, once; a session that waits for a factor."""
        found = await self.linked(token)
        if found.sealed:
            raise Problem(409, "keys_only", "A sealed account is opened by keys alone.")
        passwords.check(password, found.name, found.email)
        kept, now = await self._passwords.hashed(password), self._clock.now()
        async with transaction(self._pool) as tx:
            await accounts.lock(tx, found.account_id)
            if await store.spend_link(tx, hashed(token), now) != found.account_id:
                raise _refused()
            await accounts.set_password(tx, found.account_id, kept, now)
            who = Caller(actor_of(found.account_id), frozenset(), visit.source)
            await auditing.record(tx, who, "link", "account.join", who.actor)
            return await self._sessions.begin(tx, found.account_id, "link", visit, proven=False)

    async def _link(self, tx: Connection, account_id: UUID, person: Person) -> str:
        token, now = secrets.token_urlsafe(32), self._clock.now()
        await store.link(tx, hashed(token), account_id, now, person.actor, now + LIFETIME)
        return token

    @staticmethod
    async def _record(
        tx: Connection,
        person: Person,
        action: str,
        account_id: UUID,
        after: dict[str, Any],
        before: dict[str, Any] | None = None,
    ) -> None:
        target = actor_of(account_id)
        await auditing.record(tx, person.caller, WRITE, action, target, before=before, after=after)


async def changing(tx: Connection, person: Person, account_id: UUID) -> Account:
    """Hold the account, and return it; refuse who does not hold all that it holds."""
    await accounts.lock(tx, account_id)
    known = await store.one(tx, account_id)
    if known is None:
        raise _unknown()
    check_holds(person, {WRITE}, None)
    for grant in await store.grants(tx, [account_id]):
        check_holds(person, access.permissions_of(grant), grant.group_id)
    return known


def _unknown() -> Problem:
    return Problem(404, "account_unknown", "There is no such account.")


def _refused() -> Problem:
    return Problem(403, "link_refused", "This link is wrong, used or over. Ask for a new one.")
