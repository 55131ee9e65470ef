"""API tokens."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from services.console.store.sessions import Granted
from shared.db.pool import Connection, Pool

ADD = """
INSERT INTO api_token (token_id, token_hash, account_id, name, permissions, group_id, made_at,
                       expires_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
"""
_COLUMNS = "token_id, name, permissions, group_id, made_at, expires_at, used_at, used_from"
OF = f"""
SELECT {_COLUMNS} FROM api_token
WHERE account_id = $1 AND revoked_at IS NULL AND expires_at > $2 ORDER BY made_at DESC
"""
FIND = """
SELECT t.token_id, t.account_id, t.permissions, t.group_id, t.expires_at,
       (SELECT jsonb_agg(jsonb_build_object(
                   'role_id', r.role_id, 'built_in', r.built_in, 'permissions', r.permissions,
                   'group_id', g.group_id))
        FROM role_grant g JOIN role r USING (role_id) WHERE g.account_id = t.account_id) AS grants
FROM api_token t JOIN account a USING (account_id)
WHERE t.token_hash = $1 AND t.expires_at > $2 AND t.revoked_at IS NULL AND a.disabled_at IS NULL
"""
USED = "UPDATE api_token SET used_at = $2, used_from = $3 WHERE token_id = $1"
REVOKE = """
UPDATE api_token SET revoked_at = $3
WHERE account_id = $1 AND token_id = $2 AND revoked_at IS NULL RETURNING name
"""
REVOKE_ALL = """
UPDATE api_token SET revoked_at = $2 WHERE account_id = $1 AND revoked_at IS NULL
RETURNING token_id
"""


@dataclass(frozen=True)
class Token:
    token_id: UUID
    name: str
    permissions: list[str]
    group_id: UUID | None
    made_at: datetime
    expires_at: datetime
    used_at: datetime | None
    used_from: str | None


@dataclass(frozen=True)
class Shown:
    """A token that somebody shows, with what its owner holds now."""

    token_id: UUID
    account_id: UUID
    permissions: frozenset[str]
    group_id: UUID | None
    expires_at: datetime
    grants: tuple[Granted, ...]


async def add(tx: Connection, token: Token, token_hash: bytes, account_id: UUID) -> None:
    values = (token.token_id, token_hash, account_id, token.name, token.permissions)
    await tx.execute(ADD, *values, token.group_id, token.made_at, token.expires_at)


async def of(pool: Pool, account_id: UUID, now: datetime) -> list[Token]:
    """Those that count, newest first."""
    return [Token(**dict(row)) for row in await pool.fetch(OF, account_id, now)]


async def find(pool: Pool, token_hash: bytes, now: datetime) -> Shown | None:
    row = await pool.fetchrow(FIND, token_hash, now)
    if row is None:
        return None
    values = dict(row)
    grants = tuple(Granted.of(each) for each in values.pop("grants") or ())
    permissions = frozenset(values.pop("permissions"))
    return Shown(**values, permissions=permissions, grants=grants)


async def used(pool: Pool, token_id: UUID, now: datetime, source: str | None) -> None:
    await pool.execute(USED, token_id, now, source)


async def revoke(tx: Connection, account_id: UUID, token_id: UUID, now: datetime) -> str | None:
    """The name of what counts no more."""
    name: str | None = await tx.fetchval(REVOKE, account_id, token_id, now)
    return name


async def revoke_all(tx: Connection, account_id: UUID, now: datetime) -> list[UUID]:
    return [row["token_id"] for row in await tx.fetch(REVOKE_ALL, account_id, now)]
