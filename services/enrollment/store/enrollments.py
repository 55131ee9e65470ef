"""Enrollments: begun, repeated, completed, ended."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

import orjson

from services.enrollment.store.pins import State
from shared.db.pool import Connection

# A repeat keeps what the enrollment was made with: session, credential, rights, ownership. A
# certificate that has no enrollment yet is pinned to this one: that is the pin itself, and no
# certificate ever moves to another.
BEGIN = """
WITH begun AS (
INSERT INTO enrollment (enrollment_id, device_id, generation, state, mode, id_kind, udid,
                        session_id, credential_id, ownership, user_name, access_rights, claimed,
                        reasons, authenticated_with, authenticated_at)
SELECT enrollment_id, device_id, generation, state, mode, id_kind, udid, session_id, credential_id,
       ownership, user_name, access_rights, claimed, reasons::jsonb, authenticated_with,
       $16::timestamptz
FROM unnest($1::uuid[], $2::uuid[], $3::int[], $4::text[], $5::text[], $6::text[], $7::text[],
            $8::uuid[], $9::uuid[], $10::text[], $11::text[], $12::int[], $13::jsonb[],
            $14::text[], $15::bytea[])
  AS news (enrollment_id, device_id, generation, state, mode, id_kind, udid, session_id,
           credential_id, ownership, user_name, access_rights, claimed, reasons,
           authenticated_with)
ON CONFLICT (enrollment_id) DO UPDATE SET
    generation = excluded.generation,
    state = excluded.state,
    claimed = excluded.claimed,
    authenticated_with = excluded.authenticated_with,
    authenticated_at = excluded.authenticated_at,
    enrolled_at = NULL
)
UPDATE certificate SET enrollment_id = news.enrollment_id, device_id = news.device_id
FROM unnest($15::bytea[], $1::uuid[], $2::uuid[]) AS news (sha256, enrollment_id, device_id)
WHERE certificate.sha256 = news.sha256 AND certificate.enrollment_id IS NULL
RETURNING certificate.sha256, serial_number, not_after, certificate.device_id
"""
FORGET_BOOTSTRAP_TOKENS = """
UPDATE enrollment SET bootstrap_token = NULL WHERE enrollment_id = ANY($1::uuid[])
"""
SET_MODE = "UPDATE enrollment SET mode = 'shared_ipad' WHERE enrollment_id = ANY($1::uuid[])"
# Who waited in the lobby waits no more; what a person decided in this transaction stands.
END = """
WITH ended AS (
UPDATE enrollment AS e SET state = 'ended', ended_at = $3, end_reason = news.reason
FROM unnest($1::uuid[], $2::text[]) AS news (enrollment_id, reason)
JOIN enrollment AS was ON was.enrollment_id = news.enrollment_id
WHERE e.enrollment_id = news.enrollment_id AND e.state <> 'ended'
RETURNING e.enrollment_id, e.device_id, e.generation, was.state = 'quarantined' AS waited,
          news.reason
), closed AS (
UPDATE lobby SET decision = CASE reason WHEN 'check_out' THEN 'left' ELSE 'refused' END,
                 decided_at = $3
FROM ended WHERE ended.waited AND lobby.enrollment_id = ended.enrollment_id AND decision IS NULL
)
SELECT enrollment_id, device_id, generation, waited FROM ended
"""
# An answer about an earlier generation says nothing about this one.
AT_GENERATION = """
SELECT e.enrollment_id FROM enrollment AS e
JOIN unnest($1::uuid[], $2::int[]) AS asked (enrollment_id, generation) USING (enrollment_id)
WHERE e.generation = asked.generation OR asked.generation = 0
"""
ESCROW = "UPDATE enrollment SET bootstrap_token = $2 WHERE enrollment_id = $1"
ESCROW_ALL = """
UPDATE enrollment SET bootstrap_token = news.token
FROM unnest($1::uuid[], $2::bytea[]) AS news (enrollment_id, token)
WHERE enrollment.enrollment_id = news.enrollment_id
"""
BOOTSTRAP_TOKEN = "SELECT bootstrap_token FROM enrollment WHERE enrollment_id = $1"  # noqa: S105
HAS_TOKENS = """
SELECT EXISTS (
    SELECT FROM channel JOIN enrollment USING (enrollment_id)
    WHERE enrollment_id = $1 AND kind = 'device' AND open_generation = generation)
"""
RELEASE = """
UPDATE enrollment SET generation = generation + 1, reasons = '[]',
    state = CASE WHEN $2 THEN 'enrolled' ELSE 'pending' END,
    enrolled_at = CASE WHEN $2 THEN $3::timestamptz END
WHERE enrollment_id = $1 AND state = 'quarantined'
RETURNING generation
"""
FOLLOW_RELEASE = """
UPDATE channel SET open_generation = $2
WHERE enrollment_id = $1 AND open_generation = $2 - 1
"""
OF_DEVICE = """
SELECT enrollment_id, device_id, generation, state, claimed, reasons, ownership, user_name,
       access_rights, mode, udid, id_kind, authenticated_with, authenticated_at, enrolled_at,
       ended_at, end_reason, bootstrap_token IS NOT NULL AS bootstrap_token_escrowed
FROM enrollment WHERE device_id = $1 ORDER BY authenticated_at DESC LIMIT 50
"""


@dataclass(frozen=True, slots=True)
class Begun:
    """An enrollment as an Authenticate leaves it."""

    enrollment_id: UUID
    device_id: UUID
    generation: int
    state: State
    mode: str
    id_kind: str
    udid: str
    session_id: UUID | None
    credential_id: UUID | None
    ownership: str
    user_name: str | None
    access_rights: int | None
    claimed: dict[str, Any]
    reasons: list[str]
    authenticated_with: bytes


@dataclass(frozen=True)
class Pinned:
    sha256: bytes
    serial_number: str
    not_after: datetime
    device_id: UUID


@dataclass(frozen=True, slots=True)
class Ended:
    """`waited`: in the lobby, so it never was trusted."""

    enrollment_id: UUID
    device_id: UUID
    generation: int
    waited: bool


@dataclass(frozen=True, slots=True)
class Told:
    """An enrollment as people are shown it."""

    enrollment_id: UUID
    device_id: UUID
    generation: int
    state: State
    claimed: dict[str, Any]
    reasons: list[str]
    ownership: str
    user_name: str | None
    access_rights: int | None
    mode: str
    udid: str
    id_kind: str
    authenticated_with: bytes
    authenticated_at: datetime
    enrolled_at: datetime | None
    ended_at: datetime | None
    end_reason: str | None
    bootstrap_token_escrowed: bool


async def begin(tx: Connection, begun: Sequence[Begun], now: datetime) -> list[Pinned]:
    """Add these, or raise the generation of those that are known; their certificates speak for
    them from now on. Returns the certificates that spoke for nothing before.
    """
    rows = await tx.fetch(
        BEGIN,
        [b.enrollment_id for b in begun],
        [b.device_id for b in begun],
        [b.generation for b in begun],
        [b.state for b in begun],
        [b.mode for b in begun],
        [b.id_kind for b in begun],
        [b.udid for b in begun],
        [b.session_id for b in begun],
        [b.credential_id for b in begun],
        [b.ownership for b in begun],
        [b.user_name for b in begun],
        [b.access_rights for b in begun],
        [b.claimed for b in begun],
        [orjson.dumps(b.reasons).decode() for b in begun],  # a list would be taken for an array
        [b.authenticated_with for b in begun],
        now,
    )
    return [Pinned(**row) for row in rows]


async def forget_bootstrap_tokens(tx: Connection, enrollments: Sequence[UUID]) -> None:
    await tx.execute(FORGET_BOOTSTRAP_TOKENS, list(enrollments))


async def share(tx: Connection, enrollments: Sequence[UUID]) -> None:
    """These turned out to be Shared iPads."""
    await tx.execute(SET_MODE, list(enrollments))


async def end(
    tx: Connection, enrollments: Sequence[tuple[UUID, str]], now: datetime
) -> list[Ended]:
    """End these (enrollment, reason); returns those that had not ended before."""
    rows = await tx.fetch(END, [e[0] for e in enrollments], [e[1] for e in enrollments], now)
    return [Ended(**row) for row in rows]


async def at_generation(tx: Connection, asked: Sequence[tuple[UUID, int]]) -> set[UUID]:
    """Which enrollments are still in the generation given with each; 0: in any."""
    rows = await tx.fetch(AT_GENERATION, [a[0] for a in asked], [a[1] for a in asked])
    return {row["enrollment_id"] for row in rows}


async def set_bootstrap_token(tx: Connection, enrollment_id: UUID, token: bytes | None) -> None:
    """`token` is encrypted; None deletes."""
    await tx.execute(ESCROW, enrollment_id, token)


async def set_bootstrap_tokens(tx: Connection, tokens: Sequence[tuple[UUID, bytes]]) -> None:
    """(enrollment, token), encrypted."""
    await tx.execute(ESCROW_ALL, [t[0] for t in tokens], [t[1] for t in tokens])


async def bootstrap_token(tx: Connection, enrollment_id: UUID) -> bytes | None:
    token: bytes | None = await tx.fetchval(BOOTSTRAP_TOKEN, enrollment_id)
    return token


async def has_tokens(tx: Connection, enrollment_id: UUID) -> bool:
    """Whether the device channel has sent its TokenUpdate in this generation."""
    return bool(await tx.fetchval(HAS_TOKENS, enrollment_id))


async def release(
    tx: Connection, enrollment_id: UUID, now: datetime, *, complete: bool
) -> int | None:
    """Let a quarantined one in, as the next generation; None: it is not quarantined.

    The generation rises because command_queue was told to serve nothing of the old one.
    """
    generation: int | None = await tx.fetchval(RELEASE, enrollment_id, complete, now)
    if generation is not None:
        await tx.execute(FOLLOW_RELEASE, enrollment_id, generation)
    return generation


async def of_device(tx: Connection, device_id: UUID) -> list[Told]:
    """The newest fifty."""
    return [Told(**row) for row in await tx.fetch(OF_DEVICE, device_id)]
