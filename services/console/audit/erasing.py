"""Personal data taken out of the audit: who, whom and which values go, the proof stays."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

from services.console.store import audit_upkeep as store
from shared.db.pool import Pool, transaction
from shared.runtime import auditing
from shared.runtime.clock import Clock
from shared.runtime.http import Caller


async def erase(
    pool: Pool,
    clock: Clock,
    by: Caller,
    reason: str,
    *,
    entries: Sequence[UUID] = (),
    actor: str | None = None,
    target: str | None = None,
) -> int:
    """Erase the content of these entries, of all of an actor and of all about a target.

    Returns how many there were. It is itself audited, in the same transaction, without naming whom
    it was about.
    """
    now, count = clock.now(), 0
    async with transaction(pool) as tx:
        if entries:
            count += await store.erase_entries(tx, entries, now)
        if actor is not None:
            count += await store.erase_actor(tx, actor, now)
        if target is not None:
            count += await store.erase_target(tx, target, now)
        after = {"entries": count}
        await auditing.record(
            tx, by, "database", "audit.erase", "audit", after=after, reason=reason
        )
    return count
