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
    (topic, certificate, key, fingerprint, not_after, current, uploaded_at, uploaded_by)
VALUES ($1, $2, $3, $4, $5, true, $6, $7)
ON CONFLICT (topic) DO UPDATE SET
    certificate = excluded.certificate, key = excluded.key, fingerprint = excluded.fingerprint,
    not_after = excluded.not_after, current = true, uploaded_at = excluded.uploaded_at,
    uploaded_by = excluded.uploaded_by
"""

READ = """
SELECT topic, certificate, key, fingerprint, not_after, current, uploaded_at, uploaded_by
FROM push_certificate
"""

ONE = READ + " WHERE topic = $1"
ALL = READ + " ORDER BY current DESC, topic"
CURRENT_TOPIC = "SELECT topic FROM push_certificate WHERE current"
LOCK = "SELECT pg_advisory_xact_lock(hashtext('push_certificate'))"


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
    )


async def one(tx: Connection, topic: str) -> PushCertificate | None:
    row = await tx.fetchrow(ONE, topic)
    return PushCertificate(**row) if row else None


async def all_of_them(tx: Connection) -> list[PushCertificate]:
    return [PushCertificate(**row) for row in await tx.fetch(ALL)]
