"""Identity providers, and who is on the way to one."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from shared.db.pool import Connection, Pool

_PROVIDER = """
SELECT provider_id, name, issuer, client_id, client_secret, newcomers, enabled, made_at, changed_at
FROM identity_provider
"""
LIST = f"{_PROVIDER} ORDER BY made_at LIMIT 100"
IN_USE = "SELECT provider_id, name FROM identity_provider WHERE enabled ORDER BY name"
ONE = f"{_PROVIDER} WHERE provider_id = $1"
HELD = f"{_PROVIDER} WHERE provider_id = $1 FOR NO KEY UPDATE"
ADD = """
INSERT INTO identity_provider (provider_id, name, issuer, made_at, changed_at)
VALUES ($1, $2, $3, $4, $4) ON CONFLICT DO NOTHING RETURNING true
"""
SET_CLIENT = """
UPDATE identity_provider SET client_id = $2, client_secret = $3, changed_at = $4
WHERE provider_id = $1
"""
SET_USE = """
UPDATE identity_provider SET enabled = $2, newcomers = $3, changed_at = $4 WHERE provider_id = $1
"""
COUNT = "SELECT count(*) FROM identity_provider"
BEGIN = """
INSERT INTO identity_flow (state_hash, browser_hash, provider_id, account_id, link_hash, following,
                           expires_at)
VALUES ($1, $2, $3, $4, $5, $6, $7)
"""
# Spent by being found: the same state from another browser, or again, finds nothing.
SPEND = """
DELETE FROM identity_flow WHERE state_hash = $1 AND browser_hash = $2
RETURNING state_hash, browser_hash, provider_id, account_id, link_hash, following, expires_at
"""
SWEEP = """
DELETE FROM identity_flow WHERE state_hash IN (
    SELECT state_hash FROM identity_flow WHERE expires_at <= $1 ORDER BY expires_at LIMIT 1000)
RETURNING true
"""


@dataclass(frozen=True)
class Provider:
    """An issuer that may say who somebody is; the secret is encrypted for its row."""

    provider_id: UUID
    name: str
    issuer: str
    client_id: str | None
    client_secret: bytes | None
    newcomers: bool
    """Whom nobody linked gets an account that holds nothing."""
    enabled: bool
    made_at: datetime
    changed_at: datetime


@dataclass(frozen=True)
class Way:
    """A provider as the sign-in page shows it."""

    provider_id: UUID
    name: str


@dataclass(frozen=True)
class Flow:
    """Somebody on the way to a provider; with an account: to link it."""

    state_hash: bytes
    browser_hash: bytes
    provider_id: UUID
    account_id: UUID | None
    link_hash: bytes | None
    following: str
    expires_at: datetime


async def every(pool: Pool) -> list[Provider]:
    return [Provider(**dict(row)) for row in await pool.fetch(LIST)]


async def in_use(pool: Pool) -> list[Way]:
    return [Way(**dict(row)) for row in await pool.fetch(IN_USE)]


async def one(reader: Pool | Connection, provider_id: UUID) -> Provider | None:
    row = await reader.fetchrow(ONE, provider_id)
    return Provider(**dict(row)) if row else None


async def held(tx: Connection, provider_id: UUID) -> Provider | None:
    """The provider, whose changes come one after the other."""
    row = await tx.fetchrow(HELD, provider_id)
    return Provider(**dict(row)) if row else None


async def count(tx: Connection) -> int:
    return int(await tx.fetchval(COUNT))


async def add(tx: Connection, provider_id: UUID, name: str, issuer: str, now: datetime) -> bool:
    """False: this issuer is known already."""
    return bool(await tx.fetchval(ADD, provider_id, name, issuer, now))


async def set_client(
    tx: Connection, provider_id: UUID, client_id: str, secret: bytes, now: datetime
) -> None:
    await tx.execute(SET_CLIENT, provider_id, client_id, secret, now)


async def set_use(
    tx: Connection, provider_id: UUID, *, enabled: bool, newcomers: bool, now: datetime
) -> None:
    await tx.execute(SET_USE, provider_id, enabled, newcomers, now)


async def begin(pool: Pool, flow: Flow) -> None:
    await pool.execute(BEGIN, *vars(flow).values())


async def spend(pool: Pool, state_hash: bytes, browser_hash: bytes) -> Flow | None:
    """The flow of this state and browser, once."""
    row = await pool.fetchrow(SPEND, state_hash, browser_hash)
    return Flow(**dict(row)) if row else None


async def sweep(pool: Pool, now: datetime) -> int:
    """Forget at most a thousand that nobody came back from."""
    return len(await pool.fetch(SWEEP, now))
