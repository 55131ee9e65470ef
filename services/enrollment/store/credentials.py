"""Credentials: the right to enroll, counted and expiring."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from shared.db.pool import Connection

_AT_ONCE = 500
_COLUMNS = """
credential_id, name, max_uses, uses, expires_at, revoked_at, platform, ownership, serial, user_name,
unsigned_allowed, created_by, created_at, serials, leaked_at
"""
ADD = """
INSERT INTO credential (credential_id, token_sha256, name, max_uses, expires_at, platform,
                        ownership, serial, user_name, unsigned_allowed, created_by, created_at,
                        serials)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)
"""
# The one conditional update that makes a use count: two requests cannot both take the last one.
SPEND = f"""
UPDATE credential SET uses = uses + 1
WHERE token_sha256 = $1 AND revoked_at IS NULL AND expires_at > $2 AND uses < max_uses
  AND (unsigned_allowed OR NOT $3)
RETURNING {_COLUMNS}
"""
FIND = f"SELECT {_COLUMNS} FROM credential WHERE token_sha256 = $1"
LIST = f"""
SELECT {_COLUMNS} FROM credential
WHERE $1::uuid IS NULL OR credential_id < $1 ORDER BY credential_id DESC LIMIT $2
"""
REVOKE = f"""
UPDATE credential SET revoked_at = coalesce(revoked_at, $2) WHERE credential_id = $1
RETURNING {_COLUMNS}
"""
# Bounded: whoever has an address and many networks fills no table.
ASKED_IN_VAIN = """
INSERT INTO credential_address (credential_id, address, refused, first_at, last_at)
SELECT $1, $2, 1, $3, $3
WHERE (SELECT count(*) FROM (SELECT FROM credential_address WHERE credential_id = $1 LIMIT 1000)
       AS known) < 1000
ON CONFLICT (credential_id, address) DO UPDATE
    SET refused = credential_address.refused + 1, last_at = excluded.last_at
RETURNING handed
"""
LEAKED = """
UPDATE credential SET leaked_at = $2 WHERE credential_id = $1 AND leaked_at IS NULL
"""
FORGET = """
WITH gone AS (
DELETE FROM credential WHERE credential_id IN (
    SELECT credential_id FROM credential
    WHERE (expires_at < $1 OR revoked_at < $1)
      AND NOT EXISTS (SELECT FROM session WHERE session.credential_id = credential.credential_id)
    LIMIT 500)
RETURNING credential_id
), addresses AS (
DELETE FROM credential_address AS a USING gone WHERE a.credential_id = gone.credential_id
)
SELECT count(*) FROM gone
"""


@dataclass(frozen=True)
class Credential:
    """`serial`, `platform` and `user_name` bind it to what they name."""

    credential_id: UUID
    name: str
    max_uses: int
    uses: int
    expires_at: datetime
    revoked_at: datetime | None
    platform: str | None
    ownership: str
    serial: str | None
    user_name: str | None
    unsigned_allowed: bool
    created_by: str
    created_at: datetime
    serials: str = "listed"
    """Whether hardware must be on the list (`listed`), where it is bound to no serial."""
    leaked_at: datetime | None = None
    """Since when somebody else is known to hold it."""


async def add(tx: Connection, credential: Credential, token_sha256: bytes) -> None:
    await tx.execute(
        ADD,
        credential.credential_id,
        token_sha256,
        credential.name,
        credential.max_uses,
        credential.expires_at,
        credential.platform,
        credential.ownership,
        credential.serial,
        credential.user_name,
        credential.unsigned_allowed,
        credential.created_by,
        credential.created_at,
        credential.serials,
    )


async def spend(
    tx: Connection, token_sha256: bytes, now: datetime, *, unsigned: bool
) -> Credential | None:
    """Take one use; None when there is none to take."""
    row = await tx.fetchrow(SPEND, token_sha256, now, unsigned)
    return Credential(**row) if row else None


async def find(tx: Connection, token_sha256: bytes) -> Credential | None:
    row = await tx.fetchrow(FIND, token_sha256)
    return Credential(**row) if row else None


async def page(tx: Connection, after: UUID | None, limit: int) -> Sequence[Credential]:
    """Newest first, going on after a credential."""
    return [Credential(**row) for row in await tx.fetch(LIST, after, limit)]


async def revoke(tx: Connection, credential_id: UUID, now: datetime) -> Credential | None:
    """Keeps the instant of the first revocation; None: no such credential."""
    row = await tx.fetchrow(REVOKE, credential_id, now)
    return Credential(**row) if row else None


async def forget(tx: Connection, before: datetime) -> bool:
    """Drop what has been over for long and no session names; True: there may be more."""
    return bool(await tx.fetchval(FORGET, before) == _AT_ONCE)


async def asked_in_vain(tx: Connection, credential_id: UUID, address: str, now: datetime) -> bool:
    """Note who asked; True: this address never got a profile for it."""
    return not await tx.fetchval(ASKED_IN_VAIN, credential_id, address, now)


async def leaked(tx: Connection, credential_id: UUID, now: datetime) -> None:
    """Somebody else holds it: what enrolls with it from now on waits for a person."""
    await tx.execute(LEAKED, credential_id, now)
