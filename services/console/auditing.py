"""The audit of all services, as their events tell it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from uuid import UUID

from services.console import metrics
from services.console.store import audit as store
from services.console.store.audit import Filters, Record
from shared.db.pool import Connection, Pool
from shared.events.audit import AuditRecorded

__all__ = ["Audit", "Filters", "record"]


class Audit:
    """Reads what was recorded."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def page(self, filters: Filters, before: UUID | None, limit: int) -> list[Record]:
        """At most `limit` records older than `before`, newest first."""
        return await store.page(self._pool, filters, before, limit)


async def record(tx: Connection, events: Sequence[AuditRecorded]) -> None:
    """Add what a batch of events says."""
    records = [_record(event) for event in events]
    await store.record(tx, records)
    for origin, count in Counter(each.service for each in records).items():
        metrics.AUDIT_RECORDED.labels(origin).inc(count)


def _record(event: AuditRecorded) -> Record:
    meta = event.meta
    return Record(
        event_id=meta.event_id,
        audit_id=event.audit_id,
        service=meta.source.removeprefix("/muster/"),
        occurred_at=meta.time,
        actor=event.actor,
        permission=event.permission,
        action=event.action,
        target=event.target,
        before=event.before,
        after=event.after,
        reason=event.reason,
        source=event.source,
        correlation_id=meta.correlation_id,
    )
