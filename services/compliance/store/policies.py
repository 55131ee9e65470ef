"""Policies and their versions."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from shared.db.pool import Connection

CREATE = """
WITH made AS (
    INSERT INTO policy (policy_id, version, name, definition, created_at, changed_at, changed_by)
    VALUES ($1, 1, $2, $3, $4, $4, $5)
    ON CONFLICT (policy_id) DO NOTHING RETURNING policy_id
)
INSERT INTO policy_version (policy_id, version, definition, changed_at, changed_by, reason)
SELECT policy_id, 1, $3, $4, $5, $6 FROM made RETURNING policy_id
"""

LOCK = """
SELECT policy_id, version, definition, created_at, changed_at, changed_by FROM policy
WHERE policy_id = $1 AND deleted_at IS NULL FOR UPDATE
"""

CHANGE = """
WITH changed AS (
    UPDATE policy SET version = version + 1, name = $2, definition = $3, changed_at = $4,
                      changed_by = $5
    WHERE policy_id = $1 RETURNING version
)
INSERT INTO policy_version (policy_id, version, definition, changed_at, changed_by, reason)
SELECT $1, version, $3, $4, $5, $6 FROM changed
"""

DELETE = """
UPDATE policy SET deleted_at = $2, changed_at = $2, changed_by = $3 WHERE policy_id = $1
"""

CURRENT = "SELECT policy_id, version FROM policy WHERE deleted_at IS NULL ORDER BY policy_id"

DEFINITIONS = "SELECT policy_id, version, definition FROM policy WHERE policy_id = ANY($1::uuid[])"

ONE = """
SELECT policy_id, version, definition, created_at, changed_at, changed_by FROM policy
WHERE policy_id = $1 AND deleted_at IS NULL
"""

PAGE = """
SELECT policy_id, version, definition, created_at, changed_at, changed_by FROM policy
WHERE deleted_at IS NULL AND ($1::uuid IS NULL OR policy_id > $1) ORDER BY policy_id LIMIT $2
"""

VERSIONS = """
SELECT version, definition, changed_at, changed_by, reason FROM policy_version
WHERE policy_id = $1 AND ($2::int IS NULL OR version < $2) ORDER BY version DESC LIMIT $3
"""

# Two people may choose one name at the same time: the second waits, and is told.
TAKE_TURNS = "SELECT pg_advisory_xact_lock(hashtext('muster_compliance_policy_names'))"
NAME_TAKEN = """
SELECT EXISTS (SELECT FROM policy WHERE lower(name) = lower($1) AND deleted_at IS NULL
                                    AND policy_id <> $2)
"""


@dataclass(frozen=True)
class Stored:
    """A policy's row; `definition` is JSON."""

    policy_id: UUID
    version: int
    definition: dict[str, Any]
    created_at: datetime
    changed_at: datetime
    changed_by: str


async def create(
    tx: Connection,
    policy_id: UUID,
    definition: dict[str, Any],
    at: datetime,
    by: str,
    reason: str | None,
) -> bool:
    """Store version 1; False: a policy with this id exists, or existed."""
    name = definition["name"]
    return bool(await tx.fetchval(CREATE, policy_id, name, definition, at, by, reason))


async def lock(tx: Connection, policy_id: UUID) -> Stored | None:
    """Read a policy and keep others from changing it until the transaction ends."""
    row = await tx.fetchrow(LOCK, policy_id)
    return None if row is None else Stored(**row)


async def change(
    tx: Connection,
    policy_id: UUID,
    definition: dict[str, Any],
    at: datetime,
    by: str,
    reason: str | None,
) -> None:
    """Store the next version."""
    await tx.execute(CHANGE, policy_id, definition["name"], definition, at, by, reason)


async def delete(tx: Connection, policy_id: UUID, at: datetime, by: str) -> None:
    await tx.execute(DELETE, policy_id, at, by)


async def name_taken(tx: Connection, name: str, besides: UUID) -> bool:
    await tx.execute(TAKE_TURNS)
    return bool(await tx.fetchval(NAME_TAKEN, name, besides))


async def current(tx: Connection) -> dict[UUID, int]:
    """Policy → version, of all that are not deleted, by id."""
    return {row["policy_id"]: row["version"] for row in await tx.fetch(CURRENT)}


async def definitions(
    tx: Connection, policy_ids: Iterable[UUID]
) -> list[tuple[UUID, int, dict[str, Any]]]:
    rows = await tx.fetch(DEFINITIONS, list(policy_ids))
    return [(row["policy_id"], row["version"], row["definition"]) for row in rows]


async def one(tx: Connection, policy_id: UUID) -> Stored | None:
    row = await tx.fetchrow(ONE, policy_id)
    return None if row is None else Stored(**row)


async def page(tx: Connection, after: UUID | None, limit: int) -> list[Stored]:
    return [Stored(**row) for row in await tx.fetch(PAGE, after, limit)]


async def versions(
    tx: Connection, policy_id: UUID, before: int | None, limit: int
) -> list[dict[str, Any]]:
    """Versions of a policy, also of a deleted one, newest first."""
    return [dict(row) for row in await tx.fetch(VERSIONS, policy_id, before, limit)]
