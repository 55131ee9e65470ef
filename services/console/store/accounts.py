"""Accounts of people and the roles that they hold."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from shared.db.pool import Connection

ADD = "INSERT INTO account (account_id, name, email, created_at) VALUES ($1, $2, $3, $4)"
GRANT = """
INSERT INTO role_grant (grant_id, account_id, role_id, group_id, granted_at, granted_by)
VALUES ($1, $2, $3, $4, $5, $6)
"""


async def add(tx: Connection, account_id: UUID, name: str, email: str, now: datetime) -> None:
    await tx.execute(ADD, account_id, name, email, now)


async def grant(
    tx: Connection,
    grant_id: UUID,
    account_id: UUID,
    role_id: str,
    group_id: UUID | None,
    now: datetime,
    by: str,
) -> None:
    await tx.execute(GRANT, grant_id, account_id, role_id, group_id, now, by)
