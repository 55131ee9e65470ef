"""Sealed accounts: their keys by themselves, challenges for strangers, and each use."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from services.console.store.factors import Passkey
from shared.db.pool import Connection, Pool

SEAL = "UPDATE account SET sealed = true WHERE account_id = $1"
COUNT = "SELECT count(*) FROM account WHERE sealed"
IS_SEALED = "SELECT sealed FROM account WHERE account_id = $1"
KEY = """
SELECT a.account_id, a.name, k.passkey_id, k.credential_id, k.public_key, k.sign_count,
       k.name AS key_name, k.registered_at, k.used_at
FROM passkey k JOIN account a USING (account_id)
WHERE k.credential_id = $1 AND a.sealed AND a.disabled_at IS NULL
"""
CHALLENGE = """
INSERT INTO sealed_ceremony (browser_hash, challenge, expires_at) VALUES ($1, $2, $3)
ON CONFLICT (browser_hash) DO UPDATE
    SET challenge = excluded.challenge, expires_at = excluded.expires_at
"""
ANSWER = """
DELETE FROM sealed_ceremony WHERE browser_hash = $1 RETURNING challenge, expires_at
"""
SWEEP = "DELETE FROM sealed_ceremony WHERE expires_at <= $1"
USED = "INSERT INTO sealed_use (use_id, account_id, used_at, source) VALUES ($1, $2, $3, $4)"


@dataclass(frozen=True)
class SealedKey:
    """A key that opens a sealed account."""

    account_id: UUID
    name: str
    """The account's."""
    key: Passkey


async def seal(tx: Connection, account_id: UUID) -> None:
    await tx.execute(SEAL, account_id)


async def count(tx: Connection) -> int:
    return int(await tx.fetchval(COUNT))


async def is_sealed(reader: Pool | Connection, account_id: UUID) -> bool:
    return bool(await reader.fetchval(IS_SEALED, account_id))


async def key(pool: Pool, credential_id: bytes) -> SealedKey | None:
    """The key of this name, if it is one of a sealed account that is not disabled."""
    row = await pool.fetchrow(KEY, credential_id)
    if row is None:
        return None
    values = dict(row)
    account_id, name = values.pop("account_id"), values.pop("name")
    return SealedKey(account_id, name, Passkey(name=values.pop("key_name"), **values))


async def challenge(pool: Pool, browser_hash: bytes, value: bytes, expires_at: datetime) -> None:
    """Remember a challenge; the browser's earlier one counts no more."""
    await pool.execute(CHALLENGE, browser_hash, value, expires_at)


async def answered(pool: Pool, browser_hash: bytes, now: datetime) -> bytes | None:
    """The challenge, once: right or wrong, it is gone."""
    row = await pool.fetchrow(ANSWER, browser_hash)
    return row["challenge"] if row and row["expires_at"] > now else None


async def sweep(pool: Pool, now: datetime) -> None:
    await pool.execute(SWEEP, now)


async def used(
    tx: Connection, use_id: UUID, account_id: UUID, now: datetime, source: str | None
) -> None:
    await tx.execute(USED, use_id, account_id, now, source)
