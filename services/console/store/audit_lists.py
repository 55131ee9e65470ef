"""Reading the audit: lists by any filter, newest first.

Statements are put together from the filters that a request has: a condition that may or may not
hold hides the index that would answer it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from services.console.store.audit import COLUMNS
from shared.db import partitions
from shared.db.pool import Connection

Row = dict[str, Any]
_FROM: Final = f"SELECT {COLUMNS} FROM audit JOIN audit_chain AS chain USING (chain_id)"
ONE: Final = f"{_FROM} WHERE event_id = $1 LIMIT 1"
ACTIONS: Final = """
WITH RECURSIVE known AS (
    (SELECT action FROM audit ORDER BY action LIMIT 1)
    UNION ALL
    SELECT (SELECT action FROM audit WHERE action > known.action ORDER BY action LIMIT 1)
    FROM known WHERE known.action IS NOT NULL
)
SELECT action FROM known WHERE action IS NOT NULL
"""


@dataclass(frozen=True)
class Filters:
    """All must hold; `since` and `until` are of the act, by the clock of its service."""

    actor: str | None = None
    action: str | None = None
    target: str | None = None
    service: str | None = None
    correlation_id: str | None = None
    since: datetime | None = None
    until: datetime | None = None

    @property
    def named(self) -> dict[str, str]:
        """Column → the value it must have."""
        names = ("actor", "action", "target", "service", "correlation_id")
        values = {name: getattr(self, name) for name in names}
        return {name: value for name, value in values.items() if value is not None}


async def page(tx: Connection, filters: Filters, before: UUID | None, limit: int) -> list[Row]:
    """At most `limit` entries older than `before`, newest first."""
    conditions, values = conditions_of(filters, before)
    return [dict(row) for row in await tx.fetch(statement(conditions), *values, limit)]


def statement(conditions: Sequence[str]) -> str:
    """The list of those that meet the conditions, each of which has one parameter."""
    where = f"WHERE {' AND '.join(conditions)}" if conditions else ""
    return f"{_FROM} {where} ORDER BY event_id DESC LIMIT ${len(conditions) + 1}"


async def one(tx: Connection, event_id: UUID) -> Row | None:
    row = await tx.fetchrow(ONE, event_id)
    return None if row is None else dict(row)


async def actions(tx: Connection) -> list[str]:
    """Every kind of act there is a row of, one step along the index for each."""
    return [row["action"] for row in await tx.fetch(ACTIONS)]


def conditions_of(filters: Filters, before: UUID | None) -> tuple[list[str], list[Any]]:
    conditions: list[str] = []
    values: list[Any] = []
    for name, value in filters.named.items():
        values.append(value)
        conditions.append(f"{name} = ${len(values)}")
    # The ids are UUIDv7, made with the event: they are its time as well.
    high = None if filters.until is None else partitions.bound(filters.until)
    if before is not None and (high is None or before < high):
        high = before
    if high is not None:
        values.append(high)
        conditions.append(f"event_id < ${len(values)}")
    if filters.since is not None:
        values.append(partitions.bound(filters.since))
        conditions.append(f"event_id >= ${len(values)}")
    return conditions, values
