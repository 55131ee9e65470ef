"""Sets of declarations, each with the token that names it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from shared.db.pool import Pool

READ_SET = "SELECT token, items, made_at FROM declaration_set WHERE token = $1"
EMPTY = "empty"


@dataclass(frozen=True)
class DeclarationSet:
    token: str
    items: dict[str, list[dict[str, Any]]]
    made_at: datetime


async def read(pool: Pool, token: str = EMPTY) -> DeclarationSet:
    """One set, in one statement: its token and its items belong together."""
    row = await pool.fetchrow(READ_SET, token)
    if row is None:
        raise LookupError(f"there is no declaration set {token}")
    return DeclarationSet(row["token"], row["items"], row["made_at"])
