"""The lobby: enrollments that wait for a person, and what became of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal
from uuid import UUID

from shared.db.pool import Connection
from shared.runtime.http import Reach

ADD = """
INSERT INTO lobby (enrollment_id, device_id, udid, conflicts_with, reasons, score, credential_id,
                   handed_to, address, waits_since, expires_at)
SELECT enrollment_id, device_id, udid, conflicts_with, string_to_array(reasons, ','), score,
       credential_id, handed_to, address, $10, $11
FROM unnest($1::uuid[], $2::uuid[], $3::text[], $4::uuid[], $5::text[], $6::int[], $7::uuid[],
            $8::text[], $9::text[])
  AS news (enrollment_id, device_id, udid, conflicts_with, reasons, score, credential_id, handed_to,
           address)
"""

# The one update that decides: whoever comes second changes nothing.
DECIDE = """
UPDATE lobby SET decision = $2, decided_by = $3, decided_at = $4, decision_reason = $5
WHERE enrollment_id = $1 AND decision IS NULL
RETURNING true
"""
DUE = """
SELECT enrollment_id, device_id FROM lobby
WHERE decision IS NULL AND expires_at <= $1 ORDER BY expires_at LIMIT $2
"""
EXPIRE = """
UPDATE lobby SET decision = 'expired', decided_at = $2
WHERE enrollment_id = ANY($1::uuid[]) AND decision IS NULL AND expires_at <= $2
RETURNING enrollment_id
"""
FORGET = """
DELETE FROM lobby WHERE enrollment_id IN (
    SELECT enrollment_id FROM lobby WHERE decision IS NOT NULL AND decided_at < $1 LIMIT 500)
"""
_VIEW = """
b.enrollment_id, b.device_id, b.udid, b.conflicts_with, b.reasons, b.score, b.credential_id,
c.name AS credential_name, b.handed_to, b.address, b.waits_since, b.expires_at, b.decision,
b.decided_by, b.decided_at, b.decision_reason, e.claimed, e.mode, e.ownership, e.user_name,
e.authenticated_at
"""
_BEHIND = """
FROM lobby AS b
JOIN enrollment AS e ON e.enrollment_id = b.enrollment_id
LEFT JOIN credential AS c ON c.credential_id = b.credential_id
"""
_REACH = """
EXISTS (SELECT FROM device AS d WHERE d.device_id = b.device_id AND d.groups && {})
"""
LIST = f"""
SELECT {_VIEW} {_BEHIND}
WHERE ($1::uuid IS NULL OR b.enrollment_id < $1)
  AND CASE $2 WHEN 'any' THEN true WHEN 'waiting' THEN b.decision IS NULL ELSE b.decision = $2 END
  AND ($3::text IS NULL OR $3 = ANY(b.reasons))
  AND ($4::uuid IS NULL OR b.credential_id = $4)
  AND ($5::text IS NULL OR b.address = $5 OR b.handed_to = $5)
  AND ($6::timestamptz IS NULL OR b.waits_since >= $6)
  AND ($7::timestamptz IS NULL OR b.waits_since < $7)
  AND ($8::uuid[] IS NULL OR {_REACH.format("$8")})
ORDER BY b.enrollment_id DESC LIMIT $9
"""
GET = f"""
SELECT {_VIEW} {_BEHIND}
WHERE b.enrollment_id = $1 AND ($2::uuid[] IS NULL OR {_REACH.format("$2")})
"""
COUNTS = f"""
SELECT reason, count(DISTINCT b.enrollment_id) AS waiting, min(b.waits_since) AS oldest
FROM lobby AS b, unnest(b.reasons) AS reason
WHERE b.decision IS NULL AND ($1::uuid[] IS NULL OR {_REACH.format("$1")})
GROUP BY GROUPING SETS ((), (reason)) ORDER BY reason NULLS FIRST
"""
_GROUPED = f"""
count(*) FILTER (WHERE b.decision IS NULL) AS waiting,
count(*) FILTER (WHERE b.decision = 'released') AS released,
count(*) FILTER (WHERE b.decision IN ('refused', 'expired', 'left')) AS refused,
max(b.waits_since) AS latest
FROM lobby AS b LEFT JOIN credential AS c ON c.credential_id = b.credential_id
WHERE ($1::uuid[] IS NULL OR {_REACH.format("$1")})
"""
BY_CREDENTIAL = f"""
SELECT b.credential_id::text AS what, max(c.name) AS name, {_GROUPED}
AND b.credential_id IS NOT NULL GROUP BY b.credential_id ORDER BY waiting DESC, latest DESC LIMIT $2
"""
BY_ADDRESS = f"""
SELECT b.address AS what, NULL AS name, {_GROUPED}
AND b.address IS NOT NULL GROUP BY b.address ORDER BY waiting DESC, latest DESC LIMIT $2
"""
Decision = Literal["released", "refused", "expired", "left"]


@dataclass(frozen=True, slots=True)
class Guest:
    """An enrollment that begins to wait."""

    enrollment_id: UUID
    device_id: UUID
    udid: str
    conflicts_with: UUID | None
    reasons: Sequence[str]
    score: int
    credential_id: UUID | None
    handed_to: str | None
    address: str | None


@dataclass(frozen=True)
class Waiting:
    """An enrollment that waits or waited, as people are shown it."""

    enrollment_id: UUID
    device_id: UUID
    udid: str
    conflicts_with: UUID | None
    reasons: list[str]
    score: int
    credential_id: UUID | None
    credential_name: str | None
    handed_to: str | None
    address: str | None
    waits_since: datetime
    expires_at: datetime
    decision: Decision | None
    decided_by: str | None
    decided_at: datetime | None
    decision_reason: str | None
    claimed: dict[str, Any]
    mode: str
    ownership: str
    user_name: str | None
    authenticated_at: datetime
    """When it last began anew: it may go on knocking."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which of them; None: whatever it is."""

    state: str
    reason: str | None = None
    credential_id: UUID | None = None
    address: str | None = None
    since: datetime | None = None
    until: datetime | None = None


@dataclass(frozen=True, slots=True)
class Count:
    """How many wait, for a reason or (None) at all."""

    reason: str | None
    waiting: int
    oldest: datetime | None


@dataclass(frozen=True, slots=True)
class Group:
    """What came of a credential, or from an address."""

    what: str
    name: str | None
    waiting: int
    released: int
    refused: int
    latest: datetime


async def add(tx: Connection, guests: Sequence[Guest], now: datetime, until: datetime) -> None:
    """They wait from now on, and no longer than `until`."""
    await tx.execute(
        ADD,
        [g.enrollment_id for g in guests],
        [g.device_id for g in guests],
        [g.udid for g in guests],
        [g.conflicts_with for g in guests],
        [",".join(g.reasons) for g in guests],  # codes hold no comma
        [g.score for g in guests],
        [g.credential_id for g in guests],
        [g.handed_to for g in guests],
        [g.address for g in guests],
        now,
        until,
    )


async def decide(
    tx: Connection,
    enrollment_id: UUID,
    decision: Decision,
    actor: str,
    now: datetime,
    reason: str,
) -> bool:
    """Whether it was undecided until now."""
    return bool(await tx.fetchval(DECIDE, enrollment_id, decision, actor, now, reason))


async def due(tx: Connection, now: datetime, limit: int) -> list[tuple[UUID, UUID]]:
    """(enrollment, device) of those that have waited too long."""
    return [tuple(row) for row in await tx.fetch(DUE, now, limit)]


async def expire(tx: Connection, enrollments: Sequence[UUID], now: datetime) -> list[UUID]:
    """Returns those that were still undecided, and due."""
    rows = await tx.fetch(EXPIRE, list(enrollments), now)
    return [row["enrollment_id"] for row in rows]


async def forget(tx: Connection, before: datetime) -> bool:
    """Drop what was decided long ago; True: there may be more."""
    return str(await tx.execute(FORGET, before)) == "DELETE 500"


async def page(
    tx: Connection, wanted: Wanted, reach: Reach, after: UUID | None, limit: int
) -> list[Waiting]:
    """Newest first."""
    rows = await tx.fetch(
        LIST,
        after,
        wanted.state,
        wanted.reason,
        wanted.credential_id,
        wanted.address,
        wanted.since,
        wanted.until,
        reach,
        limit,
    )
    return [Waiting(**row) for row in rows]


async def get(tx: Connection, enrollment_id: UUID, reach: Reach) -> Waiting | None:
    row = await tx.fetchrow(GET, enrollment_id, reach)
    return Waiting(**row) if row else None


async def counts(tx: Connection, reach: Reach) -> list[Count]:
    """All of them first, then by reason; one that waits for two reasons is in both."""
    return [Count(**row) for row in await tx.fetch(COUNTS, reach)]


async def groups(tx: Connection, by: str, reach: Reach, limit: int) -> list[Group]:
    """By credential or by address, those first that most wait of."""
    query = BY_CREDENTIAL if by == "credential" else BY_ADDRESS
    return [Group(**row) for row in await tx.fetch(query, reach, limit)]
