"""Accounts of people and the roles that they hold."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from shared.db.pool import Connection, Pool

ADD = "INSERT INTO account (account_id, name, email, created_at) VALUES ($1, $2, $3, $4)"
GRANT = """
INSERT INTO role_grant (grant_id, account_id, role_id, group_id, granted_at, granted_by)
VALUES ($1, $2, $3, $4, $5, $6)
"""
LOCK = "SELECT FROM account WHERE account_id = $1 FOR NO KEY UPDATE"
SIGN_IN = """
SELECT account_id, password_hash FROM account WHERE lower(email) = lower($1) AND disabled_at IS NULL
"""
KEEP_HASH = "UPDATE account SET password_hash = $2, password_at = $3 WHERE account_id = $1"
CURRENT_HASH = "SELECT password_hash FROM account WHERE account_id = $1"
CHANGE = """
UPDATE account SET password_hash = $3, password_at = $4
WHERE account_id = $1 AND password_hash = $2 RETURNING true
"""
REHASH = """
UPDATE account SET password_hash = $3 WHERE account_id = $1 AND password_hash = $2
"""
IS_TAKEN = "SELECT EXISTS (SELECT FROM account WHERE lower(email) = lower($1))"


@dataclass(frozen=True)
class Claimed:
    """The account that an e-mail names; without a hash it has no password."""

    account_id: UUID
    password_hash: str | None


async def add(tx: Connection, account_id: UUID, name: str, email: str, now: datetime) -> None:
    await tx.execute(ADD, account_id, name, email, now)


async def lock(tx: Connection, account_id: UUID) -> None:
    """Hold it: what is told of one account rises in commit order."""
    await tx.execute(LOCK, account_id)


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


async def claimed(pool: Pool, email: str) -> Claimed | None:
    row = await pool.fetchrow(SIGN_IN, email)
    return Claimed(**dict(row)) if row else None


async def is_taken(tx: Connection, email: str) -> bool:
    return bool(await tx.fetchval(IS_TAKEN, email))


async def set_password(tx: Connection, account_id: UUID, hashed: str, now: datetime) -> None:
    await tx.execute(KEEP_HASH, account_id, hashed, now)


async def password(pool: Pool, account_id: UUID) -> str | None:
    """Its hash; None: the account has none."""
    kept: str | None = await pool.fetchval(CURRENT_HASH, account_id)
    return kept


async def change_password(
    tx: Connection, account_id: UUID, old: str, new: str, now: datetime
) -> bool:
    """False: `old` is its hash no more."""
    return bool(await tx.fetchval(CHANGE, account_id, old, new, now))


async def rehash(pool: Pool, account_id: UUID, old: str, new: str) -> None:
    """Put a stronger hash of the same password in the place of `old`."""
    await pool.execute(REHASH, account_id, old, new)
