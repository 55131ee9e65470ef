"""Verdicts and policies as compliance tells of them."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from shared.db.pool import Connection

LADDER: Final = ("noncompliant", "error", "stale", "not_evaluated", "compliant")
"""Worst first; what does not apply does not count."""

LEARN_POLICIES = """
INSERT INTO policy (policy_id, version, name, deleted)
SELECT policy_id, version, name, deleted
FROM jsonb_to_recordset($1::jsonb) AS news (
    policy_id uuid, version int, name text, deleted boolean)
WHERE NOT EXISTS (
    SELECT FROM policy WHERE policy.policy_id = news.policy_id
       AND (policy.deleted OR (policy.version >= news.version AND NOT news.deleted))
)
ORDER BY policy_id
ON CONFLICT (policy_id) DO UPDATE SET
    version = excluded.version, name = excluded.name, deleted = excluded.deleted
    WHERE NOT policy.deleted
      AND (policy.version < excluded.version OR excluded.deleted)
"""
READ = """
SELECT device_id, policy_id, state FROM verdict
JOIN unnest($1::uuid[], $2::uuid[]) AS wanted (device_id, policy_id) USING (device_id, policy_id)
"""
# A verdict of a policy that is gone comes too late: it is not one of the device's any more.
WRITE = """
INSERT INTO verdict (device_id, policy_id, sequence, policy_version, state, findings, evaluated_at,
                     changed_at)
SELECT device_id, policy_id, news.sequence, policy_version, state, findings, evaluated_at,
       evaluated_at
FROM jsonb_to_recordset($1::jsonb) AS news (
    device_id uuid, policy_id uuid, sequence bigint, policy_version int, state text,
    findings jsonb, evaluated_at timestamptz)
JOIN policy USING (policy_id)
WHERE NOT policy.deleted
ON CONFLICT (device_id, policy_id) DO UPDATE SET
    sequence = excluded.sequence, policy_version = excluded.policy_version,
    state = excluded.state, findings = excluded.findings, evaluated_at = excluded.evaluated_at,
    changed_at = CASE WHEN verdict.state = excluded.state THEN verdict.changed_at
                      ELSE excluded.changed_at END
    WHERE verdict.sequence < excluded.sequence
RETURNING device_id, policy_id, state
"""
# $2: the ladder. A state is no condition here: the index by state would be read for it.
WORST: Final = """CASE WHEN news.status = 'enrolled' THEN coalesce(
        ($2::text[])[(SELECT min(array_position($2::text[], verdict.state)) FROM verdict
                      WHERE verdict.device_id = news.device_id)],
        'not_evaluated') END"""
ROLL_UP = f"""
WITH worst AS (
    SELECT device_id, {WORST} AS state FROM device AS news WHERE device_id = ANY($1::uuid[])
)
UPDATE device SET compliance = worst.state FROM worst
WHERE device.device_id = worst.device_id AND device.compliance IS DISTINCT FROM worst.state
"""
DELETED_WITH_VERDICTS = """
SELECT policy_id FROM policy
WHERE deleted AND EXISTS (SELECT FROM verdict WHERE verdict.policy_id = policy.policy_id)
ORDER BY policy_id LIMIT 1
"""
DEVICES_OF = "SELECT device_id FROM verdict WHERE policy_id = $1 ORDER BY device_id LIMIT $2"
DROP = "DELETE FROM verdict WHERE policy_id = $1 AND device_id = ANY($2::uuid[])"
OF_DEVICE = """
SELECT policy_id, policy.name AS policy_name, policy_version, state, findings, evaluated_at,
       changed_at
FROM verdict JOIN policy USING (policy_id)
WHERE device_id = $1 AND NOT policy.deleted
ORDER BY array_position($2::text[], state) NULLS LAST, lower(policy.name)
"""
POLICIES = "SELECT policy_id, name FROM policy WHERE NOT deleted ORDER BY lower(name), policy_id"


@dataclass(frozen=True)
class PolicyNews:
    policy_id: UUID
    version: int
    name: str
    deleted: bool = False


@dataclass(frozen=True)
class VerdictNews:
    device_id: UUID
    policy_id: UUID
    sequence: int
    policy_version: int
    state: str
    findings: list[dict[str, Any]]
    evaluated_at: datetime


Key = tuple[UUID, UUID]
"""(device, policy)."""


async def learn_policies(tx: Connection, news: Collection[PolicyNews]) -> None:
    """Take over newer versions; a policy that was deleted stays so."""
    await tx.execute(LEARN_POLICIES, list(news))


async def read(tx: Connection, keys: Sequence[Key]) -> dict[Key, str]:
    rows = await tx.fetch(READ, *zip(*keys, strict=True))
    return {(row["device_id"], row["policy_id"]): row["state"] for row in rows}


async def write(tx: Connection, news: Sequence[VerdictNews]) -> dict[Key, str]:
    """Store what is newer than what is known; returns it with its state."""
    rows = await tx.fetch(WRITE, list(news))
    return {(row["device_id"], row["policy_id"]): row["state"] for row in rows}


async def roll_up(tx: Connection, device_ids: Collection[UUID]) -> None:
    """Give devices the worst state of their verdicts."""
    await tx.execute(ROLL_UP, list(device_ids), list(LADDER))


async def deleted_with_verdicts(tx: Connection) -> UUID | None:
    """Return a deleted policy that still has verdicts."""
    policy_id: UUID | None = await tx.fetchval(DELETED_WITH_VERDICTS)
    return policy_id


async def devices_of(tx: Connection, policy_id: UUID, limit: int) -> list[UUID]:
    return [row["device_id"] for row in await tx.fetch(DEVICES_OF, policy_id, limit)]


async def drop(tx: Connection, policy_id: UUID, device_ids: Sequence[UUID]) -> None:
    await tx.execute(DROP, policy_id, list(device_ids))


async def of_device(tx: Connection, device_id: UUID) -> list[dict[str, Any]]:
    """A device's verdicts, worst first."""
    return [dict(row) for row in await tx.fetch(OF_DEVICE, device_id, list(LADDER))]


async def policies(tx: Connection) -> dict[UUID, str]:
    """Policy → name, of all that are in force, by name."""
    return {row["policy_id"]: row["name"] for row in await tx.fetch(POLICIES)}
