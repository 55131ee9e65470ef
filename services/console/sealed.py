"""Break-glass: two sealed accounts of owners, opened by a key alone; their use is an alarm to all.

For the day when the identity provider is down, or nobody else is left. They have no password, no
app and no identity: nothing that could be guessed, read or claimed. Budgets hold for them.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from typing import Any, Final
from uuid import UUID

from services.console import access, alarms, granting, metrics
from services.console.directory import LIFETIME, WRITE
from services.console.passkeys import PATIENCE, Passkeys
from services.console.people import Person, actor_of
from services.console.permissions import OWNER
from services.console.sessions import Sessions, Visit, hashed
from services.console.signing_in import SIGN_IN
from services.console.store import accounts
from services.console.store import people as people_store
from services.console.store import sealed as store
from services.console.throttling import Throttle
from shared.db.pool import Connection, Pool, transaction
from shared.events.base import uuid7
from shared.runtime import auditing
from shared.runtime.clock import Clock
from shared.runtime.http import Caller
from shared.runtime.problems import Problem

MOST: Final = 2


class Sealed:
    def __init__(
        self, pool: Pool, clock: Clock, sessions: Sessions, keys: Passkeys, throttle: Throttle
    ) -> None:
        self._pool, self._clock, self._sessions = pool, clock, sessions
        self._keys, self._throttle = keys, throttle

    async def make(self, person: Person, name: str, email: str) -> tuple[UUID, str]:
        """An owner's account that only a key will open; the token of the link to register it."""
        account_id, token, now = uuid7(), secrets.token_urlsafe(32), self._clock.now()
        async with transaction(self._pool) as tx:
            await people_store.hold_owners(tx, OWNER)
            if await store.count(tx) >= MOST:
                raise Problem(409, "sealed_full", f"There are {MOST} sealed accounts already.")
            if await accounts.is_taken(tx, email):
                raise Problem(409, "email_taken", "There is an account with this e-mail.")
            await accounts.add(tx, account_id, name, email, now)
            await store.seal(tx, account_id)
            await granting.give(tx, person, account_id, OWNER, None, self._clock)
            over = now + LIFETIME
            await people_store.link(tx, hashed(token), account_id, now, person.actor, over)
            after, target = {"name": name, "email": email, "sealed": True}, actor_of(account_id)
            await auditing.record(tx, person.caller, WRITE, "account.create", target, after=after)
            await access.tell(tx, account_id)
        return account_id, token

    async def join(self, token: str, account_id: UUID, visit: Visit) -> str:
        """Use the link, once: a session that can do nothing but register the first key."""
        async with transaction(self._pool) as tx:
            await accounts.lock(tx, account_id)
            if await people_store.spend_link(tx, hashed(token), self._clock.now()) != account_id:
                detail = "This link is wrong, used or over. Ask for a new one."
                raise Problem(403, "link_refused", detail)
            who = Caller(actor_of(account_id), frozenset(), visit.source)
            await auditing.record(tx, who, "link", "account.join", who.actor)
            return await self._sessions.begin(tx, account_id, "sealed", visit, proven=False)

    async def options(self, browser: str) -> dict[str, Any]:
        """A challenge that names no key: nobody learns here which accounts there are."""
        challenge, options = self._keys.open_challenge()
        over = self._clock.now() + PATIENCE
        await store.challenge(self._pool, hashed(browser), challenge, over)
        return options

    async def enter(self, browser: str, answer: Mapping[str, Any], visit: Visit) -> str:
        """The key and the person behind it are both factors; the secret of a session."""
        await self._throttle.charge("sealed", visit.source)
        challenge = await store.answered(self._pool, hashed(browser), self._clock.now())
        try:
            async with transaction(self._pool) as tx:
                secret = await self._open(tx, challenge, answer, visit)
        except Problem as problem:
            metrics.SIGN_INS.labels("refused").inc()
            await self._refused(problem, visit.source)
            raise
        await self._throttle.succeeded("sealed", visit.source)
        metrics.SIGN_INS.labels("done").inc()
        return secret

    async def _open(
        self, tx: Connection, challenge: bytes | None, answer: Mapping[str, Any], visit: Visit
    ) -> str:
        found = await store.key(self._pool, self._keys.credential_id(answer))
        if challenge is None or found is None:
            raise Problem(403, "key_refused", "This key opens no sealed account, or came too late.")
        account_id, now = found.account_id, self._clock.now()
        await accounts.lock(tx, account_id)
        await self._keys.verify(tx, found.key, challenge, answer)
        secret = await self._sessions.begin(tx, account_id, "sealed+key", visit, proven=True)
        who, after = Caller(actor_of(account_id), frozenset(), visit.source), {"by": "sealed key"}
        await auditing.record(tx, who, SIGN_IN, "session.begin", who.actor, after=after)
        await alarms.opened(tx, account_id, found.name, visit.source, now)
        return secret

    async def sweep(self) -> None:
        await store.sweep(self._pool, self._clock.now())

    async def _refused(self, problem: Problem, source: str | None) -> None:
        nobody = Caller("nobody", frozenset(), source)
        after = {"why": problem.code}
        async with transaction(self._pool) as tx:
            await auditing.record(tx, nobody, SIGN_IN, "session.refuse", "sealed", after=after)
