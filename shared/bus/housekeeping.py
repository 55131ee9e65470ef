"""What keeps a service's bus tables in shape."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta

from shared.bus.records import KEPT
from shared.db import partitions
from shared.db.pool import Pool

_EVERY_SECONDS = 3600.0
# An event is refused for its age before the inbox forgets it, also by a clock that is a bit off.
_MARGIN = timedelta(days=1)


class InboxKeeper:
    """Makes the inbox's partitions ahead of time and drops those it may forget, once an hour."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._due_at = 0.0

    async def keep(self) -> None:
        """Do it when it is due; cheap otherwise."""
        if time.monotonic() < self._due_at:
            return
        await partitions.make_ahead(self._pool, "inbox", days_behind=KEPT.days)
        await partitions.drop_old(self._pool, "inbox", datetime.now(UTC) - KEPT - _MARGIN)
        self._due_at = time.monotonic() + _EVERY_SECONDS
