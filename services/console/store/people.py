"""Accounts, roles and grants, for those who look after them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from services.console.store.factors import Passkey
from shared.db.pool import Connection, Pool

_ACCOUNT = """
SELECT a.account_id, a.name, a.email, a.created_at, a.disabled_at, a.reset_at, a.sealed,
       (SELECT max(u.used_at) FROM sealed_use u WHERE u.account_id = a.account_id) AS opened_at,
       a.password_hash IS NOT NULL AS has_password,
       (SELECT max(s.seen_at) FROM session s WHERE s.account_id = a.account_id) AS seen_at,
       EXISTS (SELECT FROM identity i WHERE i.account_id = a.account_id) AS has_identity,
       (SELECT count(*) FROM passkey p WHERE p.account_id = a.account_id) AS keys,
       EXISTS (SELECT FROM totp t WHERE t.account_id = a.account_id AND t.secret IS NOT NULL)
           AS has_code
FROM account a
"""
LIST = f"{_ACCOUNT} WHERE a.account_id > $1 ORDER BY a.account_id LIMIT $2"
ONE = f"{_ACCOUNT} WHERE a.account_id = $1"
GRANTS = """
SELECT g.grant_id, g.account_id, g.role_id, r.name AS role, r.built_in, r.permissions, g.group_id,
       g.granted_at, g.granted_by
FROM role_grant g JOIN role r USING (role_id) WHERE g.account_id = ANY($1::uuid[])
ORDER BY g.granted_at
"""
GRANT = """
SELECT g.grant_id, g.account_id, g.role_id, r.name AS role, r.built_in, r.permissions, g.group_id,
       g.granted_at, g.granted_by
FROM role_grant g JOIN role r USING (role_id) WHERE g.grant_id = $1
"""
ADD_GRANT = """
INSERT INTO role_grant (grant_id, account_id, role_id, group_id, granted_at, granted_by)
VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT DO NOTHING RETURNING true
"""
DROP_GRANT = "DELETE FROM role_grant WHERE grant_id = $1 RETURNING true"
ROLES = "SELECT role_id, name, built_in, permissions FROM role ORDER BY built_in DESC, name"
ROLE = "SELECT role_id, name, built_in, permissions FROM role WHERE role_id = $1 FOR SHARE"
ADD_ROLE = """
INSERT INTO role (role_id, name, permissions) VALUES ($1, $2, $3)
ON CONFLICT DO NOTHING RETURNING true
"""
# One row for all who might take the last owner away: they come one after the other.
HOLD_OWNERS = "SELECT FROM role WHERE role_id = $1 FOR UPDATE"
OWNERS = """
SELECT count(*) FROM role_grant JOIN account USING (account_id)
WHERE role_id = $1 AND group_id IS NULL AND disabled_at IS NULL AND NOT sealed
"""
DISABLE = "UPDATE account SET disabled_at = $2 WHERE account_id = $1 AND disabled_at IS NULL"
ENABLE = "UPDATE account SET disabled_at = NULL WHERE account_id = $1"
RESET = "UPDATE account SET password_hash = NULL, reset_at = $2 WHERE account_id = $1"
LINK = """
INSERT INTO account_link (token_hash, account_id, made_at, made_by, expires_at)
VALUES ($1, $2, $3, $4, $5)
ON CONFLICT (account_id) DO UPDATE SET token_hash = excluded.token_hash,
    made_at = excluded.made_at, made_by = excluded.made_by, expires_at = excluded.expires_at
"""
LINKED = """
SELECT account_id, name, email, sealed FROM account_link JOIN account USING (account_id)
WHERE token_hash = $1 AND expires_at > $2 AND disabled_at IS NULL
"""
SPEND_LINK = """
DELETE FROM account_link WHERE token_hash = $1 AND expires_at > $2 RETURNING account_id
"""
KEYS = """
SELECT passkey_id, credential_id, public_key, sign_count, name, registered_at, used_at
FROM passkey WHERE account_id = $1 ORDER BY registered_at
"""


@dataclass(frozen=True)
class Account:
    account_id: UUID
    name: str
    email: str
    created_at: datetime
    disabled_at: datetime | None
    reset_at: datetime | None
    sealed: bool
    opened_at: datetime | None
    """When it was last used, of a sealed one."""
    has_password: bool
    has_identity: bool
    seen_at: datetime | None
    keys: int
    has_code: bool


@dataclass(frozen=True)
class Grant:
    grant_id: UUID
    account_id: UUID
    role_id: str
    role: str
    built_in: bool
    permissions: list[str]
    """Of a custom role."""
    group_id: UUID | None
    granted_at: datetime
    granted_by: str


@dataclass(frozen=True)
class Role:
    role_id: str
    name: str
    built_in: bool
    permissions: list[str]


@dataclass(frozen=True)
class Linked:
    account_id: UUID
    name: str
    email: str
    sealed: bool


async def page(pool: Pool, after: UUID, limit: int) -> list[Account]:
    return [Account(**dict(row)) for row in await pool.fetch(LIST, after, limit)]


async def one(reader: Pool | Connection, account_id: UUID) -> Account | None:
    row = await reader.fetchrow(ONE, account_id)
    return Account(**dict(row)) if row else None


async def grants(reader: Pool | Connection, account_ids: list[UUID]) -> list[Grant]:
    return [Grant(**dict(row)) for row in await reader.fetch(GRANTS, account_ids)]


async def grant(reader: Pool | Connection, grant_id: UUID) -> Grant | None:
    row = await reader.fetchrow(GRANT, grant_id)
    return Grant(**dict(row)) if row else None


async def add_grant(tx: Connection, *values: Any) -> bool:
    """Grant id, account, role, group, time, by whom. False: it is held already."""
    return bool(await tx.fetchval(ADD_GRANT, *values))


async def drop_grant(tx: Connection, grant_id: UUID) -> bool:
    return bool(await tx.fetchval(DROP_GRANT, grant_id))


async def roles(pool: Pool) -> list[Role]:
    return [Role(**dict(row)) for row in await pool.fetch(ROLES)]


async def role(tx: Connection, role_id: str) -> Role | None:
    row = await tx.fetchrow(ROLE, role_id)
    return Role(**dict(row)) if row else None


async def add_role(tx: Connection, role_id: str, name: str, permissions: list[str]) -> bool:
    """False: the name is taken."""
    return bool(await tx.fetchval(ADD_ROLE, role_id, name, permissions))


async def hold_owners(tx: Connection, role_id: str) -> None:
    await tx.execute(HOLD_OWNERS, role_id)


async def owners(tx: Connection, role_id: str) -> int:
    """How many accounts hold it on all devices and may sign in on any day: not the sealed ones."""
    return int(await tx.fetchval(OWNERS, role_id))


async def disable(tx: Connection, account_id: UUID, now: datetime) -> None:
    await tx.execute(DISABLE, account_id, now)


async def enable(tx: Connection, account_id: UUID) -> None:
    await tx.execute(ENABLE, account_id)


async def reset(tx: Connection, account_id: UUID, now: datetime) -> None:
    await tx.execute(RESET, account_id, now)


async def link(
    tx: Connection,
    token_hash: bytes,
    account_id: UUID,
    now: datetime,
    by: str,
    expires_at: datetime,
) -> None:
    """The account's link; an earlier one counts no more."""
    await tx.execute(LINK, token_hash, account_id, now, by, expires_at)


async def linked(pool: Pool, token_hash: bytes, now: datetime) -> Linked | None:
    row = await pool.fetchrow(LINKED, token_hash, now)
    return Linked(**dict(row)) if row else None


async def spend_link(tx: Connection, token_hash: bytes, now: datetime) -> UUID | None:
    account_id: UUID | None = await tx.fetchval(SPEND_LINK, token_hash, now)
    return account_id


async def keys(tx: Connection, account_id: UUID) -> list[Passkey]:
    return [Passkey(**dict(row)) for row in await tx.fetch(KEYS, account_id)]
