"""What is over is forgotten."""

from __future__ import annotations

from datetime import timedelta

from services.enrollment.settings import EnrollmentSettings
from services.enrollment.store import credentials, lobby, sessions
from shared.db.pool import Pool, transaction
from shared.runtime.clock import Clock


class Housekeeping:
    def __init__(self, pool: Pool, settings: EnrollmentSettings, clock: Clock) -> None:
        self._pool, self._clock = pool, clock
        self._kept = timedelta(days=settings.forget_after_days)

    async def forget(self) -> bool:
        """Drop unused sessions, old decisions and old credentials; True: there may be more."""
        before = self._clock.now() - self._kept
        async with transaction(self._pool) as tx:
            more = await sessions.forget(tx, before)
        async with transaction(self._pool) as tx:
            more = await lobby.forget(tx, before) or more
        async with transaction(self._pool) as tx:
            return await credentials.forget(tx, before) or more
