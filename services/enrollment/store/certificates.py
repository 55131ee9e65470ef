"""Device identities: issued, pinned, revoked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from shared.db.pool import Connection
from shared.runtime.http import Reach

ADD = """
INSERT INTO certificate (sha256, serial_number, authority, key_sha256, der, not_before, not_after,
                         session_id, device_id, enrollment_id, issued_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)
"""
ADD_ALL = """
INSERT INTO certificate (sha256, serial_number, authority, key_sha256, der, not_before, not_after,
                         session_id, device_id, enrollment_id, issued_at)
SELECT * FROM unnest($1::bytea[], $2::text[], $3::text[], $4::bytea[], $5::bytea[],
                     $6::timestamptz[], $7::timestamptz[], $8::uuid[], $9::uuid[], $10::uuid[],
                     $11::timestamptz[])
"""
REVOKE_ALL = """
UPDATE certificate SET revoked_at = $3, revocation_reason = news.reason
FROM unnest($1::uuid[], $2::text[]) AS news (enrollment_id, reason)
WHERE certificate.enrollment_id = news.enrollment_id AND revoked_at IS NULL
RETURNING sha256, serial_number, device_id, revocation_reason
"""
REVOKE_OLDER = """
UPDATE certificate SET revoked_at = $3, revocation_reason = 'superseded'
FROM unnest($1::uuid[], $2::bytea[]) AS news (enrollment_id, kept)
JOIN certificate AS newer ON newer.sha256 = news.kept
WHERE certificate.enrollment_id = news.enrollment_id AND certificate.revoked_at IS NULL
  AND certificate.issued_at < newer.issued_at
RETURNING certificate.sha256, certificate.serial_number, certificate.device_id,
          certificate.revocation_reason
"""
_VIEW = """
sha256, serial_number, device_id, enrollment_id, not_before, not_after, issued_at, revoked_at,
revocation_reason
"""
LIST = f"""
SELECT {_VIEW} FROM certificate
WHERE ($1::uuid IS NULL OR device_id = $1)
  AND ($2::timestamptz IS NULL OR (issued_at, sha256) < ($2, $3::bytea))
  AND ($4::uuid[] IS NULL OR EXISTS (
        SELECT FROM device AS d WHERE d.device_id = certificate.device_id AND d.groups && $4))
ORDER BY issued_at DESC, sha256 DESC LIMIT $5
"""
LIVE = """
SELECT der, key_sha256 FROM certificate
WHERE enrollment_id = $1 AND revoked_at IS NULL AND not_after > now()
"""
STANDING = """
SELECT enrollment_id IS NOT NULL AS pinned, revoked_at IS NOT NULL AS revoked
FROM certificate WHERE sha256 = $1
"""
# A device that enrolls by it at this moment was quicker, or finds it revoked.
LOCK = f"{STANDING} FOR UPDATE"
WITHDRAW = """
UPDATE certificate SET revoked_at = $2, revocation_reason = 'withdrawn' WHERE sha256 = $1
"""
DER = "SELECT der, key_sha256 FROM certificate WHERE sha256 = $1"
STATUS = """
SELECT revoked_at, revocation_reason FROM certificate WHERE authority = $1 AND serial_number = $2
"""


@dataclass(frozen=True)
class Certificate:
    sha256: bytes
    serial_number: str
    authority: str | None
    key_sha256: bytes
    der: bytes
    not_before: datetime
    not_after: datetime
    session_id: UUID | None
    device_id: UUID | None
    enrollment_id: UUID | None
    issued_at: datetime


@dataclass(frozen=True)
class Revoked:
    sha256: bytes
    serial_number: str
    device_id: UUID
    revocation_reason: str


@dataclass(frozen=True)
class Standing:
    """`pinned`: a device has enrolled by it."""

    pinned: bool
    revoked: bool


@dataclass(frozen=True)
class Listed:
    sha256: bytes
    serial_number: str
    device_id: UUID | None
    enrollment_id: UUID | None
    not_before: datetime
    not_after: datetime
    issued_at: datetime
    revoked_at: datetime | None
    revocation_reason: str | None


async def add(tx: Connection, certificate: Certificate) -> None:
    await tx.execute(
        ADD,
        certificate.sha256,
        certificate.serial_number,
        certificate.authority,
        certificate.key_sha256,
        certificate.der,
        certificate.not_before,
        certificate.not_after,
        certificate.session_id,
        certificate.device_id,
        certificate.enrollment_id,
        certificate.issued_at,
    )


async def add_all(tx: Connection, added: Sequence[Certificate]) -> None:
    """Add many; none of them may be known."""
    await tx.execute(
        ADD_ALL,
        [one.sha256 for one in added],
        [one.serial_number for one in added],
        [one.authority for one in added],
        [one.key_sha256 for one in added],
        [one.der for one in added],
        [one.not_before for one in added],
        [one.not_after for one in added],
        [one.session_id for one in added],
        [one.device_id for one in added],
        [one.enrollment_id for one in added],
        [one.issued_at for one in added],
    )


async def revoke_all(
    tx: Connection, enrollments: Sequence[tuple[UUID, str]], now: datetime
) -> list[Revoked]:
    """Revoke every certificate of these (enrollment, reason); returns the newly revoked."""
    rows = await tx.fetch(REVOKE_ALL, [e[0] for e in enrollments], [e[1] for e in enrollments], now)
    return [Revoked(**row) for row in rows]


async def revoke_older(
    tx: Connection, kept: Sequence[tuple[UUID, bytes]], now: datetime
) -> list[Revoked]:
    """Revoke what these enrollments held before the certificate given with each."""
    rows = await tx.fetch(REVOKE_OLDER, [k[0] for k in kept], [k[1] for k in kept], now)
    return [Revoked(**row) for row in rows]


async def standing(tx: Connection, sha256: bytes) -> Standing | None:
    row = await tx.fetchrow(STANDING, sha256)
    return Standing(**row) if row else None


async def lock(tx: Connection, sha256: bytes) -> Standing | None:
    row = await tx.fetchrow(LOCK, sha256)
    return Standing(**row) if row else None


async def withdraw(tx: Connection, sha256: bytes, now: datetime) -> None:
    """Call with it locked."""
    await tx.execute(WITHDRAW, sha256, now)


async def page(
    tx: Connection,
    device_id: UUID | None,
    reach: Reach,
    after: tuple[datetime, bytes] | None,
    limit: int,
) -> list[Listed]:
    """Newest first; of one device, or of all."""
    at, sha256 = after or (None, None)
    return [Listed(**row) for row in await tx.fetch(LIST, device_id, at, sha256, reach, limit)]


async def der_and_key(tx: Connection, sha256: bytes) -> tuple[bytes, bytes] | None:
    """The certificate and the SHA-256 of its public key."""
    row = await tx.fetchrow(DER, sha256)
    return (row["der"], row["key_sha256"]) if row else None


async def live(tx: Connection, enrollment_id: UUID) -> list[tuple[bytes, bytes]]:
    """The certificates that may speak for an enrollment, each with the SHA-256 of its key."""
    return [(row["der"], row["key_sha256"]) for row in await tx.fetch(LIVE, enrollment_id)]


async def status(
    tx: Connection, authority: str, serial_number: str
) -> tuple[datetime | None, str | None] | None:
    """When and why it was revoked; None: this authority never issued it."""
    row = await tx.fetchrow(STATUS, authority, serial_number)
    return (row["revoked_at"], row["revocation_reason"]) if row else None
