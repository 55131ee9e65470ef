"""Finding what somebody did, or what was done to something."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

import orjson

from services.console.store import audit_lists as lists
from services.console.store.audit_lists import Filters
from shared.db.pool import READING, Pool, transaction
from shared.runtime.problems import Problem

__all__ = ["Audit", "Filters", "Row"]

Row = dict[str, Any]


class Audit:
    """Reads what was recorded."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def page(self, filters: Filters, before: UUID | None, limit: int) -> list[Row]:
        """At most `limit` entries older than `before`, newest first."""
        async with transaction(self._pool, READING) as tx:
            return [shown(row) for row in await lists.page(tx, filters, before, limit)]

    async def one(self, event_id: UUID) -> Row:
        """One entry; raises Problem when there is none."""
        async with transaction(self._pool, READING) as tx:
            row = await lists.one(tx, event_id)
        if row is None:
            detail = "No such entry is kept. It may be older than the audit is kept."
            raise Problem(404, "entry_unknown", detail)
        return shown(row)

    async def actions(self) -> list[str]:
        """Every kind of act that is on record."""
        async with transaction(self._pool, READING) as tx:
            return await lists.actions(tx)


def shown(row: Row) -> Row:
    """A row as people read it: values for JSON text, hashes in hex."""
    values = {name: row[name] and orjson.loads(row[name]) for name in ("before", "after")}
    return {
        **row,
        **values,
        "partition": row["partition_number"],
        "offset": row["record_offset"],
        "previous": row["previous"].hex(),
        "hash": row["hash"].hex(),
        "content_hash": row["content_hash"].hex(),
        "erased": _erased(row["erased_at"]),
    }


def _erased(at: datetime | None) -> bool:
    return at is not None
