"""Sessions: kept on the server, known to the browser by a secret that changes with what it may."""

from __future__ import annotations

import hashlib
import secrets
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from services.console.store import sessions as store
from services.console.store.sessions import Begun, Known, Session
from shared.bus import outbox
from shared.db.pool import Connection, Pool, transaction
from shared.events.access import ViaRevoked
from shared.events.base import uuid7
from shared.runtime import auditing
from shared.runtime.clock import Clock
from shared.runtime.http import Caller
from shared.runtime.problems import Problem

__all__ = ["IDLE", "MOST", "Known", "Session", "Sessions", "Visit"]

IDLE = timedelta(minutes=15)
MOST = timedelta(hours=12)
ALARMED = timedelta(hours=24)
"""How long every page says that a sealed account was used."""
UNPROVEN = timedelta(minutes=10)
"""To bring the second factor, or to register one."""
_SEEN_EVERY = timedelta(seconds=30)
"""So often at most a request writes that the session was used."""
_MAX_SECRET = 100
_MAX_AGENT = 300


@dataclass(frozen=True)
class Visit:
    """Where a browser comes from, for the list of somebody's own sessions."""

    source: str | None
    agent: str | None


class Sessions:
    """Begins, judges, renews and ends them."""

    def __init__(self, pool: Pool, clock: Clock) -> None:
        self._pool, self._clock = pool, clock

    def now(self) -> datetime:
        return self._clock.now()

    async def begin(
        self, tx: Connection, account_id: UUID, method: str, visit: Visit, *, proven: bool
    ) -> str:
        """The secret of a new session; unproven it opens nothing but the way to a second factor."""
        secret, now = new_secret(), self._clock.now()
        begun = Begun(
            session_id=uuid7(now),
            secret_hash=hashed(secret),
            account_id=account_id,
            method=method,
            created_at=now,
            ends_at=now + (MOST if proven else UNPROVEN),
            proven_at=now if proven else None,
            source=visit.source,
            agent=(visit.agent or "")[:_MAX_AGENT] or None,
        )
        await store.begin(tx, begun)
        return secret

    async def judge(self, secret: str, *, active: bool = True) -> Known | None:
        """The session with this secret, if it lives; `active`: the person did something now."""
        if not 0 < len(secret) <= _MAX_SECRET:
            return None
        now = self._clock.now()
        known = await store.find(self._pool, hashed(secret), now, now - IDLE, now - ALARMED)
        if known and active and now - known.seen_at >= _SEEN_EVERY:
            await store.seen(self._pool, known.session_id, now)
        return known

    async def prove(self, tx: Connection, session: Known, method: str) -> str:
        """The second factor was brought: the session counts, under a new secret."""
        secret, now = new_secret(), self._clock.now()
        ends = now + MOST
        if not await store.prove(tx, session.session_id, hashed(secret), method, now, ends):
            raise Problem(401, "signed_out", "This took too long. Sign in again.")
        return secret

    async def renew(self, tx: Connection, session_id: UUID) -> str:
        """Another secret for the same session: what was seen before opens nothing any more."""
        secret = new_secret()
        if not await store.renew(tx, session_id, hashed(secret), self._clock.now()):
            raise Problem(401, "signed_out", "This session is over. Sign in again.")
        return secret

    async def own(self, account_id: UUID) -> list[Session]:
        now = self._clock.now()
        return await store.living(self._pool, account_id, now, now - IDLE)

    async def end(self, caller: Caller, account_id: UUID, session_id: UUID) -> None:
        """End one of the account's sessions; ended again it is no news."""
        async with transaction(self._pool) as tx:
            if await store.end(tx, account_id, session_id):
                target = f"session:{session_id}"
                await auditing.record(tx, caller, "session.own", "session.end", target)
                ended = ViaRevoked(via=target, revoked_at=self._clock.now())
                await outbox.emit(tx, [ended])

    async def sweep(self) -> bool:
        """Forget those that are over; whether more may wait."""
        return await store.sweep(self._pool, self._clock.now()) > 0


def new_secret() -> str:
    return secrets.token_urlsafe(32)


def hashed(secret: str) -> bytes:
    """A secret has 256 bits of chance: a plain hash keeps it."""
    return hashlib.sha256(secret.encode()).digest()
