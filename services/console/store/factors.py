"""Second factors: the secret of an authenticator app, WebAuthn keys, challenges given out."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from shared.db.pool import Connection, Pool

TOTP = "SELECT secret, offered, offered_at, last_step FROM totp WHERE account_id = $1"
OFFER = """
INSERT INTO totp (account_id, offered, offered_at) VALUES ($1, $2, $3)
ON CONFLICT (account_id) DO UPDATE
    SET offered = excluded.offered, offered_at = excluded.offered_at
"""
ACCEPT = """
UPDATE totp SET secret = offered, offered = NULL, offered_at = NULL, since = $2, last_step = $3
WHERE account_id = $1 AND offered = $4 RETURNING true
"""
SPEND = """
UPDATE totp SET last_step = $2 WHERE account_id = $1 AND last_step < $2 AND secret IS NOT NULL
RETURNING true
"""
SWEEP_OFFERS = "UPDATE totp SET offered = NULL, offered_at = NULL WHERE offered_at <= $1"
SWEEP_EMPTY = "DELETE FROM totp WHERE secret IS NULL AND offered IS NULL"
DROP_TOTP = "DELETE FROM totp WHERE account_id = $1 RETURNING secret IS NOT NULL"
ADD_KEY = """
INSERT INTO passkey (passkey_id, account_id, credential_id, public_key, sign_count, name,
                     registered_at)
VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT (credential_id) DO NOTHING RETURNING true
"""
_KEY = "passkey_id, credential_id, public_key, sign_count, name, registered_at, used_at"
KEYS = f"SELECT {_KEY} FROM passkey WHERE account_id = $1 ORDER BY registered_at"
USE_KEY = """
UPDATE passkey SET sign_count = $3, used_at = $4
WHERE passkey_id = $1 AND sign_count = $2 RETURNING true
"""
DROP_KEY = "DELETE FROM passkey WHERE account_id = $1 AND passkey_id = $2 RETURNING name"
DROP_KEYS = "DELETE FROM passkey WHERE account_id = $1"
ANY_LEFT = """
SELECT EXISTS (SELECT FROM passkey WHERE account_id = $1)
    OR EXISTS (SELECT FROM totp WHERE account_id = $1 AND secret IS NOT NULL)
"""
CHALLENGE = """
INSERT INTO ceremony (session_id, purpose, challenge, expires_at) VALUES ($1, $2, $3, $4)
ON CONFLICT (session_id, purpose) DO UPDATE
    SET challenge = excluded.challenge, expires_at = excluded.expires_at
"""
ANSWER = """
DELETE FROM ceremony WHERE session_id = $1 AND purpose = $2 RETURNING challenge, expires_at
"""


@dataclass(frozen=True)
class Totp:
    """Both encrypted; `offered` waits for its first code."""

    secret: bytes | None
    offered: bytes | None
    offered_at: datetime | None
    last_step: int


@dataclass(frozen=True)
class Passkey:
    passkey_id: UUID
    credential_id: bytes
    public_key: bytes
    sign_count: int
    name: str
    registered_at: datetime
    used_at: datetime | None


async def totp(pool: Pool, account_id: UUID) -> Totp | None:
    row = await pool.fetchrow(TOTP, account_id)
    return Totp(**dict(row)) if row else None


async def offer(pool: Pool, account_id: UUID, secret: bytes, now: datetime) -> None:
    await pool.execute(OFFER, account_id, secret, now)


async def sweep_offers(tx: Connection, before: datetime) -> None:
    """Forget secrets that were offered and never taken."""
    await tx.execute(SWEEP_OFFERS, before)
    await tx.execute(SWEEP_EMPTY)


async def accept(
    tx: Connection, account_id: UUID, offered: bytes, step: int, now: datetime
) -> bool:
    """What was offered counts from now on, with the code of this step spent."""
    return bool(await tx.fetchval(ACCEPT, account_id, now, step, offered))


async def spend(tx: Connection, account_id: UUID, step: int) -> bool:
    """Take the code of this time step; False: it, or a later one, was taken before."""
    return bool(await tx.fetchval(SPEND, account_id, step))


async def drop_totp(tx: Connection, account_id: UUID) -> bool:
    return bool(await tx.fetchval(DROP_TOTP, account_id))


async def add_key(tx: Connection, account_id: UUID, key: Passkey) -> bool:
    """False: this authenticator's key is known already."""
    return bool(
        await tx.fetchval(
            ADD_KEY,
            key.passkey_id,
            account_id,
            key.credential_id,
            key.public_key,
            key.sign_count,
            key.name,
            key.registered_at,
        )
    )


async def keys(pool: Pool, account_id: UUID) -> list[Passkey]:
    return [Passkey(**dict(row)) for row in await pool.fetch(KEYS, account_id)]


async def use_key(tx: Connection, key: Passkey, sign_count: int, now: datetime) -> bool:
    """Note the counter of an assertion; False: another one came in between."""
    return bool(await tx.fetchval(USE_KEY, key.passkey_id, key.sign_count, sign_count, now))


async def drop_key(tx: Connection, account_id: UUID, passkey_id: UUID) -> str | None:
    """The name of what is gone now."""
    name: str | None = await tx.fetchval(DROP_KEY, account_id, passkey_id)
    return name


async def drop_all(tx: Connection, account_id: UUID) -> None:
    await tx.execute(DROP_KEYS, account_id)
    await tx.execute(DROP_TOTP, account_id)


async def any_left(tx: Connection, account_id: UUID) -> bool:
    """Whether there is something to prove oneself with."""
    return bool(await tx.fetchval(ANY_LEFT, account_id))


async def challenge(
    pool: Pool, session_id: UUID, purpose: str, value: bytes, expires_at: datetime
) -> None:
    """Remember a challenge; an earlier one for the same purpose counts no more."""
    await pool.execute(CHALLENGE, session_id, purpose, value, expires_at)


async def answered(pool: Pool, session_id: UUID, purpose: str, now: datetime) -> bytes | None:
    """The challenge, once: right or wrong, it is gone."""
    row = await pool.fetchrow(ANSWER, session_id, purpose)
    return row["challenge"] if row and row["expires_at"] > now else None
