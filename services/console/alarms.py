"""What everybody is told at once: that a sealed account was opened."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from services.console.store import sealed as store
from shared.bus import outbox
from shared.db.pool import Connection
from shared.events.base import uuid7
from shared.events.people import SealedAccountUsed


async def opened(
    tx: Connection, account_id: UUID, name: str, source: str | None, now: datetime
) -> None:
    """In the transaction that opens it: a row, which all pages show for a day, and an event."""
    await store.used(tx, uuid7(now), account_id, now, source)
    event = SealedAccountUsed(account_id=account_id, name=name, used_at=now, source=source)
    await outbox.emit(tx, [event])
