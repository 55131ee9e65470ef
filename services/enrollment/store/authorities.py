"""The keys and certificates that sign for enrollment, and the CRLs they signed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from shared.db.pool import Connection

# Two processes may start at once on an empty database: the second waits, then finds the rows.
TAKE_TURNS = "SELECT pg_advisory_xact_lock(hashtext('muster_enrollment'), hashtext('authority'))"
ADD = "INSERT INTO authority (name, role, certificate, key, created_at) VALUES ($1, $2, $3, $4, $5)"
ALL = (
    "SELECT name, role, certificate, key, created_at FROM authority ORDER BY created_at DESC, name"
)
LAST_CRL = """
SELECT authority, number, der, signed_at, next_update FROM crl
WHERE authority = $1 ORDER BY number DESC LIMIT 1
"""
ADD_CRL = """
INSERT INTO crl (authority, number, der, signed_at, next_update) VALUES ($1, $2, $3, $4, $5)
"""
DROP_OLD_CRLS = "DELETE FROM crl WHERE authority = $1 AND number < $2"
UNLISTED = """
SELECT EXISTS (
    SELECT FROM certificate WHERE authority = $1 AND revoked_at IS NOT NULL AND crl_number IS NULL)
"""
MARK_LISTED = """
UPDATE certificate SET crl_number = $2
WHERE authority = $1 AND revoked_at IS NOT NULL AND crl_number IS NULL
"""
# An expired certificate leaves the list, after one CRL more than its validity (RFC 5280 §3.3).
REVOKED = """
SELECT serial_number, revoked_at, revocation_reason FROM certificate
WHERE authority = $1 AND revoked_at IS NOT NULL AND not_after > $2
  AND crl_number IS NOT NULL ORDER BY revoked_at
"""


@dataclass(frozen=True)
class StoredAuthority:
    name: str
    role: str
    certificate: bytes
    key: bytes
    """Encrypted."""
    created_at: datetime


@dataclass(frozen=True)
class Crl:
    authority: str
    number: int
    der: bytes
    signed_at: datetime
    next_update: datetime


@dataclass(frozen=True)
class Revocation:
    serial_number: str
    revoked_at: datetime
    revocation_reason: str | None


async def take_turns(tx: Connection) -> None:
    await tx.execute(TAKE_TURNS)


async def read(tx: Connection) -> Sequence[StoredAuthority]:
    """Newest first."""
    return [StoredAuthority(**row) for row in await tx.fetch(ALL)]


async def add(tx: Connection, authority: StoredAuthority) -> None:
    await tx.execute(
        ADD,
        authority.name,
        authority.role,
        authority.certificate,
        authority.key,
        authority.created_at,
    )


async def last_crl(tx: Connection, authority: str) -> Crl | None:
    row = await tx.fetchrow(LAST_CRL, authority)
    return Crl(**row) if row else None


async def add_crl(tx: Connection, crl: Crl) -> None:
    """Keep this one and the one before it."""
    await tx.execute(
        ADD_CRL,
        crl.authority,
        crl.number,
        crl.der,
        crl.signed_at,
        crl.next_update,
    )
    await tx.execute(DROP_OLD_CRLS, crl.authority, crl.number - 1)


async def has_unlisted(tx: Connection, authority: str) -> bool:
    """Whether somebody was revoked whom no CRL names yet."""
    return bool(await tx.fetchval(UNLISTED, authority))


async def list_revoked(
    tx: Connection, authority: str, number: int, expired_before: datetime
) -> list[Revocation]:
    """What CRL `number` holds; marks what it is the first to hold.

    The mark, not a time, tells what is missing: a revocation may commit after a later one.
    """
    await tx.execute(MARK_LISTED, authority, number)
    return [Revocation(**row) for row in await tx.fetch(REVOKED, authority, expired_before)]
