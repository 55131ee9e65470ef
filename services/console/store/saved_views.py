"""Lists of devices that somebody gave a name."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from shared.db.pool import Connection

_VIEW = """
SELECT v.view_id, v.name, v.query, v.shared, v.made_at, v.account_id, a.name AS by
FROM saved_view AS v JOIN account AS a USING (account_id)
"""
# One's own first; of the others those that are shared, bounded for the sake of the page.
SEEN_BY = f"""{_VIEW}
WHERE v.account_id = $1 OR v.shared
ORDER BY v.account_id <> $1, lower(v.name), v.view_id LIMIT 200
"""
COUNT = "SELECT count(*) FROM saved_view WHERE account_id = $1 AND lower(name) <> lower($2)"
SAVE = """
INSERT INTO saved_view (view_id, account_id, name, query, shared, made_at)
VALUES ($1, $2, $3, $4, $5, $6)
ON CONFLICT (account_id, lower(name)) DO UPDATE
    SET name = excluded.name, query = excluded.query, shared = excluded.shared
RETURNING view_id
"""
LOCK = f"{_VIEW} WHERE v.view_id = $1 FOR UPDATE OF v"
DROP = "DELETE FROM saved_view WHERE view_id = $1"


@dataclass(frozen=True)
class SavedView:
    """`query`: of the URL, without where a page begins."""

    view_id: UUID
    name: str
    query: str
    shared: bool
    made_at: datetime
    account_id: UUID
    by: str


async def seen_by(tx: Connection, account_id: UUID) -> list[SavedView]:
    """One's own, and what others share."""
    return [SavedView(**row) for row in await tx.fetch(SEEN_BY, account_id)]


async def count_others(tx: Connection, account_id: UUID, name: str) -> int:
    """How many somebody has under other names."""
    return int(await tx.fetchval(COUNT, account_id, name))


async def save(tx: Connection, view: SavedView) -> UUID:
    """Keep it; the one that had its name is replaced and keeps its id."""
    view_id: UUID = await tx.fetchval(
        SAVE, view.view_id, view.account_id, view.name, view.query, view.shared, view.made_at
    )
    return view_id


async def lock(tx: Connection, view_id: UUID) -> SavedView | None:
    row = await tx.fetchrow(LOCK, view_id)
    return None if row is None else SavedView(**row)


async def drop(tx: Connection, view_id: UUID) -> None:
    await tx.execute(DROP, view_id)
