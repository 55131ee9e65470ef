"""Who did what to what, for the audit."""

from __future__ import annotations

from typing import Any

from shared.bus import outbox
from shared.db.pool import Connection
from shared.events.audit import AuditRecorded
from shared.events.base import uuid7
from shared.runtime.http import Caller


async def record(
    tx: Connection,
    caller: Caller,
    permission: str,
    action: str,
    target: str,
    *,
    before: dict[str, Any] | None = None,
    after: dict[str, Any] | None = None,
    reason: str | None = None,
) -> None:
    """Write the change down in the transaction that makes it; values must hold no secret."""
    entry = AuditRecorded(
        audit_id=uuid7(),
        actor=caller.actor,
        permission=permission,
        action=action,
        target=target,
        before=before,
        after=after,
        reason=reason,
        source=caller.source,
        via=caller.via,
    )
    await outbox.emit(tx, [entry])
