"""How much waits in the queues, and for how long: seconds of staleness are no harm here."""

from __future__ import annotations

from datetime import datetime
from typing import Final

from services.command_queue import metrics
from services.command_queue.store import pending
from shared.db.pool import Pool, transaction

STATES: Final = ("held", "queued", "sent", "deferred", "cancel_requested")


async def measure(pool: Pool, now: datetime) -> None:
    """Set the gauges of open work; a state that nothing is in is told as nothing."""
    async with transaction(pool) as tx:
        rows = await pending.measure(tx)
        metrics.UNEXPANDED.set(await pending.count_unexpanded(tx))
    found = {state: (targets, oldest) for state, targets, oldest in rows}
    for state in STATES:
        targets, oldest = found.get(state, (0, now))
        metrics.OPEN_TARGETS.labels(state).set(targets)
        metrics.AGE_SECONDS.labels(state).set(max(0.0, (now - oldest).total_seconds()))
