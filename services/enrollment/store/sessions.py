"""Enrollment sessions: a profile handed out, its one challenge, its one certificate."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from secrets import token_bytes
from uuid import UUID

from shared.db.pool import Connection

# What its address tells is weighed with it: how many profiles went there lately, and from how many
# others the credential was used. Whoever spends the credential has its row locked, so these counts
# are exact for one credential; for one address they miss only those who ask at the same instant.
ADD = """
WITH asked AS (
    INSERT INTO credential_address (credential_id, address, handed, first_at, last_at)
    SELECT $2::uuid, $12::text, 1, $10::timestamptz, $10::timestamptz
    WHERE $2 IS NOT NULL AND $12 IS NOT NULL
    ON CONFLICT (credential_id, address) DO UPDATE
        SET handed = credential_address.handed + 1, last_at = excluded.last_at
)
INSERT INTO session (session_id, credential_id, renews, challenge_sha256, platform, ownership,
                     serial, user_name, access_rights, created_at, expires_at, address, suspicions)
SELECT $1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, array_remove(ARRAY[
    CASE WHEN $12 IS NOT NULL AND $14 <= (
        SELECT count(*) FROM (SELECT FROM session WHERE address = $12 AND session_id > $13
                              LIMIT $14) AS lately)
    THEN 'address_crowded' END,
    CASE WHEN $12 IS NOT NULL AND $15 <= (
        SELECT count(*) FROM (SELECT FROM credential_address
                              WHERE credential_id = $2 AND address <> $12 AND handed > 0
                              LIMIT $15) AS others)
    THEN 'credential_spread' END], NULL)
"""
SUSPECT = """
UPDATE session SET suspicions = suspicions || $2::text
WHERE session_id = $1 AND NOT $2 = ANY(suspicions)
"""
# No profile and no challenge that anybody knows: the certificate exists already.
REGISTER = """
INSERT INTO session (session_id, challenge_sha256, id_kind, udid, serial, platform, ownership,
                     user_name, access_rights, certificate_sha256, created_at, expires_at)
SELECT session_id, challenge, id_kind, udid, serial, platform, ownership, user_name, access_rights,
       certificate, $11, $11
FROM unnest($1::uuid[], $2::bytea[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[],
            $8::text[], $9::int[], $10::bytea[])
  AS news (session_id, challenge, id_kind, udid, serial, platform, ownership, user_name,
           access_rights, certificate)
"""
FIND = """
SELECT s.session_id, s.credential_id, s.renews, s.platform, s.ownership, s.serial, s.user_name,
       s.access_rights, s.created_at, s.expires_at, s.certificate_sha256, e.device_id,
       coalesce(c.revoked_at IS NOT NULL, false) AS withdrawn
FROM session AS s
LEFT JOIN credential AS c ON c.credential_id = s.credential_id
LEFT JOIN enrollment AS e ON e.enrollment_id = s.renews
WHERE s.challenge_sha256 = $1
"""
# Once: the certificate of a challenge is set by the transaction that issues it, and by no other.
SPEND = """
UPDATE session SET certificate_sha256 = $2
WHERE session_id = $1 AND certificate_sha256 IS NULL AND expires_at > $3
RETURNING true
"""
FORGET = """
DELETE FROM session WHERE session_id IN (
    SELECT session_id FROM session
    WHERE certificate_sha256 IS NULL AND expires_at < $1 LIMIT 500)
"""


@dataclass(frozen=True)
class Session:
    """What a profile was handed out for. `renews` set: only that enrollment may use it."""

    session_id: UUID
    credential_id: UUID | None
    renews: UUID | None
    platform: str | None
    ownership: str
    serial: str | None
    user_name: str | None
    access_rights: int | None
    created_at: datetime
    expires_at: datetime
    certificate_sha256: bytes | None = None
    device_id: UUID | None = None
    """The device of `renews`."""
    withdrawn: bool = False
    """The credential was revoked meanwhile."""
    address: str | None = None
    """Who asked for the profile."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What an address may do before it is suspicious; `since`: the first id of the window."""

    since: UUID
    of_address: int
    of_credential: int


@dataclass(frozen=True, slots=True)
class Registration:
    """A foreign certificate that may make one enrollment, of this id."""

    session_id: UUID
    certificate_sha256: bytes
    id_kind: str
    udid: str
    serial: str | None
    platform: str | None
    ownership: str
    user_name: str | None
    access_rights: int | None


async def register(tx: Connection, registered: Sequence[Registration], now: datetime) -> None:
    """Open a session for each of these certificates, its challenge unknown to everybody."""
    await tx.execute(
        REGISTER,
        [r.session_id for r in registered],
        [token_bytes(32) for _ in registered],
        [r.id_kind for r in registered],
        [r.udid for r in registered],
        [r.serial for r in registered],
        [r.platform for r in registered],
        [r.ownership for r in registered],
        [r.user_name for r in registered],
        [r.access_rights for r in registered],
        [r.certificate_sha256 for r in registered],
        now,
    )


async def add(tx: Connection, session: Session, challenge_sha256: bytes, limits: Limits) -> None:
    await tx.execute(
        ADD,
        session.session_id,
        session.credential_id,
        session.renews,
        challenge_sha256,
        session.platform,
        session.ownership,
        session.serial,
        session.user_name,
        session.access_rights,
        session.created_at,
        session.expires_at,
        session.address,
        limits.since,
        limits.of_address,
        limits.of_credential,
    )


async def suspect(tx: Connection, session_id: UUID, reason: str) -> None:
    """Something speaks against whoever holds this profile; counts until it has enrolled."""
    await tx.execute(SUSPECT, session_id, reason)


async def find(tx: Connection, challenge_sha256: bytes) -> Session | None:
    row = await tx.fetchrow(FIND, challenge_sha256)
    return Session(**row) if row else None


async def spend(tx: Connection, session_id: UUID, certificate: bytes, now: datetime) -> bool:
    """Whether the challenge was still good; `certificate` is the SHA-256 of what it bought."""
    return bool(await tx.fetchval(SPEND, session_id, certificate, now))


async def forget(tx: Connection, before: datetime) -> bool:
    """Drop sessions that nobody used; True: there may be more."""
    return str(await tx.execute(FORGET, before)) == "DELETE 500"
