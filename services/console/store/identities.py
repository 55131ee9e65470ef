"""Whose account an issuer's subject signs in to."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from shared.db.pool import Connection, Pool

ACCOUNT_OF = """
SELECT a.account_id, a.disabled_at FROM identity i JOIN account a USING (account_id)
WHERE i.issuer = $1 AND i.subject = $2
"""
LINK = """
INSERT INTO identity (issuer, subject, account_id, linked_at, linked_by)
VALUES ($1, $2, $3, $4, $5) ON CONFLICT (issuer, subject) DO NOTHING RETURNING true
"""
UNLINK = """
DELETE FROM identity i USING identity_provider p
WHERE p.issuer = i.issuer AND p.provider_id = $2 AND i.account_id = $1 AND i.subject = $3
RETURNING true
"""
UNLINK_ALL = "DELETE FROM identity WHERE account_id = $1"
USED = "UPDATE identity SET used_at = $3 WHERE issuer = $1 AND subject = $2"
OF = """
SELECT p.provider_id, p.name, i.issuer, i.subject, i.linked_at, i.linked_by, i.used_at
FROM identity i JOIN identity_provider p USING (issuer)
WHERE i.account_id = $1 ORDER BY i.linked_at
"""


@dataclass(frozen=True)
class Owner:
    """The account of an identity."""

    account_id: UUID
    disabled_at: datetime | None


@dataclass(frozen=True)
class Identity:
    """One of an account's, for pages and for those who judge by ages."""

    provider_id: UUID
    name: str
    """The provider's."""
    issuer: str
    subject: str
    linked_at: datetime
    linked_by: str
    used_at: datetime | None


async def account_of(tx: Connection, issuer: str, subject: str) -> Owner | None:
    row = await tx.fetchrow(ACCOUNT_OF, issuer, subject)
    return Owner(**dict(row)) if row else None


async def link(
    tx: Connection, issuer: str, subject: str, account_id: UUID, now: datetime, by: str
) -> bool:
    """False: the identity is somebody's already."""
    return bool(await tx.fetchval(LINK, issuer, subject, account_id, now, by))


async def unlink(tx: Connection, account_id: UUID, provider_id: UUID, subject: str) -> bool:
    return bool(await tx.fetchval(UNLINK, account_id, provider_id, subject))


async def unlink_all(tx: Connection, account_id: UUID) -> None:
    await tx.execute(UNLINK_ALL, account_id)


async def used(tx: Connection, issuer: str, subject: str, now: datetime) -> None:
    await tx.execute(USED, issuer, subject, now)


async def of(reader: Pool | Connection, account_id: UUID) -> list[Identity]:
    return [Identity(**dict(row)) for row in await reader.fetch(OF, account_id)]
