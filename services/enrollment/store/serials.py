"""The list of serials: hardware that may enroll without a person looking at it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from shared.db.pool import Connection

ADD = """
INSERT INTO listed_serial (serial, note, added_by, added_at)
SELECT serial, note, $3, $4 FROM unnest($1::text[], $2::text[]) AS news (serial, note)
ORDER BY serial
ON CONFLICT (serial) DO NOTHING
RETURNING serial
"""
REMOVE = "DELETE FROM listed_serial WHERE serial = ANY($1::text[]) RETURNING serial"
LIST = """
SELECT serial, note, added_by, added_at FROM listed_serial
WHERE ($1::text IS NULL OR serial > $1) AND ($2::text IS NULL OR starts_with(serial, $2))
ORDER BY serial LIMIT $3
"""


@dataclass(frozen=True)
class Listed:
    serial: str
    note: str | None
    added_by: str
    added_at: datetime


async def add(
    tx: Connection, wanted: Sequence[tuple[str, str | None]], actor: str, now: datetime
) -> list[str]:
    """Put (serial, note) on the list; returns those that were not on it, sorted."""
    rows = await tx.fetch(ADD, [w[0] for w in wanted], [w[1] for w in wanted], actor, now)
    return sorted(row["serial"] for row in rows)


async def remove(tx: Connection, serials: Sequence[str]) -> list[str]:
    """Returns those that were on it, sorted."""
    return sorted(row["serial"] for row in await tx.fetch(REMOVE, list(serials)))


async def page(
    tx: Connection, after: str | None, beginning: str | None, limit: int
) -> list[Listed]:
    """In the order of the serials."""
    return [Listed(**row) for row in await tx.fetch(LIST, after, beginning, limit)]
