"""What an import needs beside the tables' own statements."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from shared.db.pool import Connection

# One at a time: a chunk holds two names a row, and PostgreSQL's table of locks is of one size.
TAKE_TURNS = "SELECT pg_advisory_xact_lock(hashtext('muster_enrollment'), hashtext('import'))"

# A registration that is completed keeps its session as the holder.
KEEP_PROFILES = """
INSERT INTO installed_profile (holder, profile)
SELECT * FROM unnest($1::uuid[], $2::jsonb[])
ON CONFLICT (holder) DO UPDATE SET profile = excluded.profile
"""
INSTALLED = """
SELECT p.profile FROM enrollment AS e
JOIN installed_profile AS p ON p.holder IN (e.enrollment_id, e.session_id)
WHERE e.enrollment_id = $1
"""


async def keep_profiles(tx: Connection, installed: Sequence[tuple[UUID, dict[str, Any]]]) -> None:
    """(enrollment or session, what its device has installed)."""
    await tx.execute(KEEP_PROFILES, [i[0] for i in installed], [i[1] for i in installed])


async def installed_profile(tx: Connection, enrollment_id: UUID) -> dict[str, Any] | None:
    """The foreign profile that this enrollment was made with; None: one of ours."""
    found: dict[str, Any] | None = await tx.fetchval(INSTALLED, enrollment_id)
    return found


async def take_turns(tx: Connection) -> None:
    """Wait until no other process imports; before any other lock."""
    await tx.execute(TAKE_TURNS)
