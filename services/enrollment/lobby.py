"""The lobby: a person lets in or refuses what waits, once; what nobody decides about is refused.

Who decides first decides (docs/decisions/0057-deciding-in-the-lobby.md). The same decision again is
answered like the first; another one is told who was quicker.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from services.enrollment import leaving, metrics
from services.enrollment.leaving import Leaving
from services.enrollment.quarantine import DECIDE, Quarantine
from services.enrollment.store import devices, states
from services.enrollment.store import lobby as store
from services.enrollment.store.devices import Device
from services.enrollment.store.lobby import Count, Decision, Group, Waiting, Wanted
from shared.bus import outbox
from shared.db.locks import lock_devices
from shared.db.pool import Connection, Pool, connected, transaction
from shared.runtime import auditing
from shared.runtime.clock import Clock
from shared.runtime.http import Caller, Reach
from shared.runtime.jobs import Wake
from shared.runtime.problems import Problem

__all__ = ["Count", "Detail", "Group", "Lobby", "Waiting", "Wanted"]

_AT_ONCE: Final = 100
_GROUPS: Final = 100


@dataclass(frozen=True, slots=True)
class Detail:
    """One that waits, beside the device whose names it claims, if that is known and in reach."""

    waiting: Waiting
    device: Device | None


class Lobby:
    """Shows who waits, and carries decisions out."""

    def __init__(self, pool: Pool, quarantine: Quarantine, clock: Clock, departed: Wake) -> None:
        self._pool, self._quarantine, self._clock = pool, quarantine, clock
        self._departed = departed

    async def page(
        self, wanted: Wanted, reach: Reach, after: UUID | None, limit: int
    ) -> Sequence[Waiting]:
        """Newest first."""
        async with connected(self._pool) as connection:
            return await store.page(connection, wanted, reach, after, limit)

    async def counts(self, reach: Reach) -> Sequence[Count]:
        async with connected(self._pool) as connection:
            return await store.counts(connection, reach)

    async def groups(self, by: str, reach: Reach) -> Sequence[Group]:
        """By `credential` or `address`: what waits of each, and what became of the others."""
        async with connected(self._pool) as connection:
            return await store.groups(connection, by, reach, _GROUPS)

    async def get(self, enrollment_id: UUID, reach: Reach) -> Detail:
        """Raises Problem: what is outside of reach is answered like what is not there."""
        async with connected(self._pool) as connection:
            waiting = await _found(connection, enrollment_id, reach)
            device = await devices.get(
                connection, waiting.conflicts_with or waiting.device_id, reach
            )
        is_known = device is not None and device.current_enrollment is not None
        return Detail(waiting, device if is_known else None)

    async def release(self, enrollment_id: UUID, caller: Caller, reason: str) -> Waiting:
        """Let it in, in the place of what was there. Raises Problem and InternalCallFailed."""
        reach = caller.reach(DECIDE)
        async with connected(self._pool) as connection:
            before = await _found(connection, enrollment_id, reach)
        if _is_done(before, "released"):
            return before
        try:
            await self._quarantine.release(before.device_id, enrollment_id, caller, reason)
        except Problem as problem:
            if problem.code != "nothing_quarantined":
                raise
            async with connected(self._pool) as connection:
                before = await _found(connection, enrollment_id, reach)
            if not _is_done(before, "released"):
                raise
            return before
        metrics.LOBBY_DECIDED.labels("released").inc()
        async with connected(self._pool) as connection:
            return await _found(connection, enrollment_id, reach)

    async def release_device(
        self, device_id: UUID, enrollment_id: UUID | None, caller: Caller, reason: str
    ) -> UUID:
        """The same by device; `enrollment_id` may be None where only one waits."""
        released = await self._quarantine.release(device_id, enrollment_id, caller, reason)
        metrics.LOBBY_DECIDED.labels("released").inc()
        return released

    async def refuse(self, enrollment_id: UUID, caller: Caller, reason: str) -> Waiting:
        """End it and revoke its certificate; the device's own enrollment is not touched."""
        reach, now = caller.reach(DECIDE), self._clock.now()
        async with connected(self._pool) as connection:
            before = await _found(connection, enrollment_id, reach)
        async with transaction(self._pool) as tx:
            await lock_devices(tx, [before.device_id])
            first = await store.decide(tx, enrollment_id, "refused", caller.actor, now, reason)
            if first:
                why = Leaving(enrollment_id, "refused", caller.actor, words=reason)
                await leaving.end(tx, [why], now)
                await outbox.emit(tx, await states.read(tx, [before.device_id]))
                await _audit(tx, before, caller, reason)
            after = await _found(tx, enrollment_id, reach)
        if first:
            metrics.LOBBY_DECIDED.labels("refused").inc()
            self._departed.set()
        _is_done(after, "refused")
        return after

    async def expire_due(self) -> bool:
        """Refuse those that have waited too long; True: there may be more."""
        now = self._clock.now()
        async with connected(self._pool) as connection:
            due = await store.due(connection, now, _AT_ONCE)
        if not due:
            return False
        async with transaction(self._pool) as tx:
            # Locked first, like everything that decides; who was decided about meanwhile is left.
            await lock_devices(tx, {device_id for _, device_id in due})
            expired = await store.expire(tx, [enrollment_id for enrollment_id, _ in due], now)
            why = [Leaving(one, "expired", words="nobody decided in time") for one in expired]
            await leaving.end_and_tell(tx, why, now)
        metrics.LOBBY_DECIDED.labels("expired").inc(len(expired))
        self._departed.set()
        return len(due) == _AT_ONCE

    async def measure(self) -> None:
        """Set the gauge of what waits."""
        async with connected(self._pool) as connection:
            counts = await store.counts(connection, None)
        metrics.LOBBY_WAITING.set(counts[0].waiting if counts else 0)


async def _found(tx: Connection, enrollment_id: UUID, reach: Reach) -> Waiting:
    found = await store.get(tx, enrollment_id, reach)
    if found is None:
        raise Problem(404, "enrollment_unknown", "There is no such enrollment in the lobby.")
    return found


def _is_done(found: Waiting, wanted: Decision) -> bool:
    """Whether this was decided so already; raises Problem where it was decided otherwise."""
    if found.decision is None:
        return False
    if found.decision != wanted:
        raise Problem(
            409,
            "decided_otherwise",
            f"It was decided before you: {found.decision}.",
            decision=found.decision,
            decided_by=found.decided_by,
            decided_at=found.decided_at.isoformat() if found.decided_at else None,
        )
    return True


async def _audit(tx: Connection, waiting: Waiting, caller: Caller, reason: str) -> None:
    before = {
        "enrollment_id": str(waiting.enrollment_id),
        "reasons": waiting.reasons,
        "score": waiting.score,
    }
    target = str(waiting.device_id)
    await auditing.record(tx, caller, DECIDE, "lobby.refuse", target, before=before, reason=reason)
