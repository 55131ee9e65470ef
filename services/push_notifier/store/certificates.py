"""Push certificates and the requests they answer; private keys are encrypted."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from shared.db.pool import Connection

ADD_REQUEST = """
INSERT INTO certificate_request (request_id, csr, key, public_key, created_at)
VALUES ($1, $2, $3, $4, $5)
"""

REQUEST_FOR_KEY = "SELECT request_id, key FROM certificate_request WHERE public_key = $1"

RETIRE_CURRENT = "UPDATE push_certificate SET current = false WHERE current AND topic <> $1"

STORE = """
INSERT INTO push_certificate
    (topic, certificate, key, fingerprint, not_after, current, uploaded_at, uploaded_by, tried_at)
VALUES ($1, $2, $3, $4, $5, true, $6, $7, $8)
ON CONFLICT (topic) DO UPDATE SET
    certificate = excluded.certificate, key = excluded.key, fingerprint = excluded.fingerprint,
    not_after = excluded.not_after, current = true, uploaded_at = excluded.uploaded_at,
    uploaded_by = excluded.uploaded_by, tried_at = excluded.tried_at
"""

READ = """
SELECT topic, certificate, key, fingerprint, not_after, current, uploaded_at, uploaded_by,
       tried_at
FROM push_certificate
"""

ONE = READ + " WHERE topic = $1"
ALL = READ + " ORDER BY current DESC, topic"
TRIED = "UPDATE push_certificate SET tried_at = $2 WHERE fingerprint = $1"
CURRENT_TOPIC = "SELECT topic FROM push_certificate WHERE current"
LOCK = "SELECT pg_advisory_xact_lock(hashtext('push_certificate'))"


# What cannot be used again is not kept; nor is what is in use once more.
DROP_FORMER = "DELETE FROM former_push_certificate WHERE fingerprint = $1 OR not_after <= $2"
KEEP_FORMER = """
INSERT INTO former_push_certificate
    (fingerprint, topic, certificate, key, not_after, uploaded_at, uploaded_by, replaced_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
ON CONFLICT (fingerprint) DO NOTHING
"""
READ_FORMER = """
SELECT fingerprint, topic, certificate, key, not_after, uploaded_at, uploaded_by, replaced_at
FROM former_push_certificate
"""
FORMER = READ_FORMER + " ORDER BY replaced_at DESC LIMIT 100"
ONE_FORMER = READ_FORMER + " WHERE fingerprint = $1"
OF_FORMER_TOPIC = READ + " WHERE fingerprint = $1 AND NOT current"


@dataclass(frozen=True)
class PushCertificate:
    """`key` is ciphertext (table push_certificate, column key, row = topic)."""

    topic: str
    certificate: str
    key: bytes
    fingerprint: str
    not_after: datetime
    current: bool
    uploaded_at: datetime
    uploaded_by: str
    tried_at: datetime | None
    """When APNs was heard to take it."""


@dataclass(frozen=True)
class FormerCertificate:
    """One that another took the place of, under its topic; `key` is ciphertext."""

    fingerprint: str
    topic: str
    certificate: str
    key: bytes
    not_after: datetime
    uploaded_at: datetime
    uploaded_by: str
    replaced_at: datetime


async def add_request(
    tx: Connection, request_id: UUID, csr: str, key: bytes, public_key: bytes, now: datetime
) -> None:
    await tx.execute(ADD_REQUEST, request_id, csr, key, public_key, now)


async def request_for_key(tx: Connection, public_key: bytes) -> tuple[UUID, bytes] | None:
    """The request whose key this certificate is for: its id and encrypted private key."""
    row = await tx.fetchrow(REQUEST_FOR_KEY, public_key)
    return (row["request_id"], row["key"]) if row else None


async def lock(tx: Connection) -> None:
    """One change of certificates at a time."""
    await tx.execute(LOCK)


async def current_topic(tx: Connection) -> str | None:
    topic: str | None = await tx.fetchval(CURRENT_TOPIC)
    return topic


async def store(tx: Connection, new: PushCertificate) -> None:
    await tx.execute(RETIRE_CURRENT, new.topic)
    await tx.execute(
        STORE,
        new.topic,
        new.certificate,
        new.key,
        new.fingerprint,
        new.not_after,
        new.uploaded_at,
        new.uploaded_by,
        new.tried_at,
    )
    await tx.execute(DROP_FORMER, new.fingerprint, new.uploaded_at)


async def one(tx: Connection, topic: str) -> PushCertificate | None:
    row = await tx.fetchrow(ONE, topic)
    return PushCertificate(**row) if row else None


async def all_of_them(tx: Connection) -> list[PushCertificate]:
    return [PushCertificate(**row) for row in await tx.fetch(ALL)]


async def tried(tx: Connection, fingerprint: str, now: datetime) -> None:
    await tx.execute(TRIED, fingerprint, now)


async def keep_former(tx: Connection, row: FormerCertificate) -> None:
    await tx.execute(
        KEEP_FORMER,
        row.fingerprint,
        row.topic,
        row.certificate,
        row.key,
        row.not_after,
        row.uploaded_at,
        row.uploaded_by,
        row.replaced_at,
    )


async def former(tx: Connection) -> list[FormerCertificate]:
    """The latest first."""
    return [FormerCertificate(**row) for row in await tx.fetch(FORMER)]


async def kept(tx: Connection, fingerprint: str) -> PushCertificate | FormerCertificate | None:
    """One that is not in use for new devices: replaced, or of a topic that was."""
    if row := await tx.fetchrow(ONE_FORMER, fingerprint):
        return FormerCertificate(**row)
    row = await tx.fetchrow(OF_FORMER_TOPIC, fingerprint)
    return PushCertificate(**row) if row else None
