"""The audit: rows are added, never changed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from shared.db.pool import Connection, Pool

_COLUMNS = """
    event_id, audit_id, service, occurred_at, actor, permission, action, target, before, after,
    reason, source, correlation_id
"""
RECORD = f"""
INSERT INTO audit ({_COLUMNS})
SELECT {_COLUMNS} FROM unnest(
    $1::uuid[], $2::uuid[], $3::text[], $4::timestamptz[], $5::text[], $6::text[], $7::text[],
    $8::text[], $9::jsonb[], $10::jsonb[], $11::text[], $12::text[], $13::text[])
    AS record ({_COLUMNS})
"""
LIST = f"""
SELECT {_COLUMNS} FROM audit
WHERE ($1::uuid IS NULL OR event_id < $1)
  AND ($2::text IS NULL OR actor = $2)
  AND ($3::text IS NULL OR action = $3)
  AND ($4::text IS NULL OR target = $4)
  AND ($5::text IS NULL OR service = $5)
ORDER BY event_id DESC LIMIT $6
"""


@dataclass(frozen=True)
class Record:
    """One line of the audit, in the order of the columns."""

    event_id: UUID
    audit_id: UUID
    service: str
    occurred_at: datetime
    actor: str
    permission: str
    action: str
    target: str
    before: dict[str, Any] | None
    after: dict[str, Any] | None
    reason: str | None
    source: str | None
    correlation_id: str | None


@dataclass(frozen=True)
class Filters:
    actor: str | None = None
    action: str | None = None
    target: str | None = None
    service: str | None = None


async def record(tx: Connection, records: Sequence[Record]) -> None:
    rows = [tuple(vars(each).values()) for each in records]
    await tx.execute(RECORD, *zip(*rows, strict=True))


async def page(pool: Pool, filters: Filters, before: UUID | None, limit: int) -> list[Record]:
    """At most `limit` records older than `before`, newest first."""
    found = await pool.fetch(
        LIST, before, filters.actor, filters.action, filters.target, filters.service, limit
    )
    return [Record(**dict(row)) for row in found]
