"""First start: one single-use link, dead after an hour, makes whoever opens it the owner."""

from __future__ import annotations

import hashlib
import secrets
from datetime import timedelta

from services.console import access, metrics, passwords
from services.console.passwords import Passwords
from services.console.people import actor_of
from services.console.permissions import OWNER
from services.console.sessions import Sessions, Visit
from services.console.store import accounts
from services.console.store import setup as store
from shared.db.pool import Connection, Pool, transaction
from shared.events.base import uuid7
from shared.runtime import auditing
from shared.runtime.clock import Clock
from shared.runtime.http import Caller
from shared.runtime.problems import Problem

LIFETIME = timedelta(hours=1)


async def offer(tx: Connection, clock: Clock) -> str | None:
    """A new set-up token; earlier ones count no more. None: the installation is set up."""
    token = secrets.token_urlsafe(32)
    offered = await store.offer(tx, _hash(token), clock.now() + LIFETIME)
    return token if offered else None


def link(url: str, token: str) -> str:
    """What the first start prints."""
    return f"{url.rstrip('/')}/set-up/{token}"


class Setup:
    """Makes the first owner."""

    def __init__(self, pool: Pool, clock: Clock, passwords: Passwords, sessions: Sessions) -> None:
        self._pool, self._clock, self._passwords = pool, clock, passwords
        self._sessions = sessions

    async def check(self, token: str) -> None:
        """Raise Problem, the same for every reason, unless the link still counts."""
        if not await store.is_open(self._pool, _hash(token), self._clock.now()):
            raise _refused()

    async def claim(self, token: str, name: str, email: str, password: str, visit: Visit) -> str:
        """The owner's account, once; the secret of a session that waits for a second factor."""
        await self.check(token)
        passwords.check(password, name, email)
        hashed, now, account_id = await self._passwords.hashed(password), self._clock.now(), uuid7()
        who = Caller(actor_of(account_id), frozenset(), visit.source)
        async with transaction(self._pool) as tx:
            if not await store.spend(tx, _hash(token), now):
                raise _refused()
            await accounts.add(tx, account_id, name, email, now)
            await accounts.set_password(tx, account_id, hashed, now)
            await accounts.grant(tx, uuid7(), account_id, OWNER, None, now, access.SET_UP)
            after = {"name": name, "email": email, "role": OWNER}
            await auditing.record(tx, who, "setup", "console.setup", who.actor, after=after)
            await access.tell(tx, account_id)
            secret = await self._sessions.begin(tx, account_id, "set-up", visit, proven=False)
        metrics.SETUPS.labels("done").inc()
        return secret


def _refused() -> Problem:
    metrics.SETUPS.labels("refused").inc()
    detail = "This link is wrong, used or over. Restart Muster for a new one."
    return Problem(403, "setup_refused", detail)


def _hash(token: str) -> bytes:
    """The token has 256 bits of chance: a plain hash keeps it."""
    return hashlib.sha256(token.encode()).digest()
