"""First start: one single-use token, dead after an hour, makes whoever holds it the owner."""

from __future__ import annotations

import hashlib
import secrets
from datetime import timedelta

from services.console import metrics
from services.console.store import setup as store
from shared.bus import outbox
from shared.db.pool import Connection, Pool, transaction
from shared.events.audit import AuditRecorded
from shared.events.base import uuid7
from shared.runtime.clock import Clock
from shared.runtime.problems import Problem
from shared.runtime.tokens import Signer

LIFETIME = timedelta(hours=1)
OWNER = "owner"


async def offer(tx: Connection, clock: Clock) -> str | None:
    """A new set-up token; earlier ones count no more. None: the installation is set up."""
    token = secrets.token_urlsafe(32)
    offered = await store.offer(tx, _hash(token), clock.now() + LIFETIME)
    return token if offered else None


class Setup:
    """Redeems the set-up token."""

    def __init__(self, pool: Pool, signer: Signer, clock: Clock, lifetime: timedelta) -> None:
        self._pool, self._signer, self._clock, self.lifetime = pool, signer, clock, lifetime

    async def redeem(self, token: str, audience: str, source: str | None) -> str:
        """The owner's access token for one service; raises Problem, the same for every reason."""
        async with transaction(self._pool) as tx:
            spent = await store.spend(tx, _hash(token), self._clock.now())
            if spent:
                await outbox.emit(tx, [_audit(audience, source)])
        metrics.SETUPS.labels("done" if spent else "refused").inc()
        if not spent:
            detail = "The set-up token is wrong, spent or over; restart Muster for a new one."
            raise Problem(403, "setup_refused", detail)
        return self._signer.access(OWNER, audience, ["*"], self.lifetime)


def _hash(token: str) -> bytes:
    """The token has 256 bits of chance: a plain hash keeps it."""
    return hashlib.sha256(token.encode()).digest()


def _audit(audience: str, source: str | None) -> AuditRecorded:
    return AuditRecorded(
        audit_id=uuid7(),
        actor=OWNER,
        permission="setup",
        action="console.setup",
        target="installation",
        after={"audience": audience},
        source=source,
    )
