"""Verdicts, one for each device and policy."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from services.compliance.judgements import Judgement
from services.compliance.verdicts import Verdict
from shared.db.pool import Connection
from shared.events.compliance import VerdictState
from shared.runtime.http import Reach

# By pairs: with two lists an index may be walked along the one it should not.
READ = """
SELECT device_id, policy_id, policy_version, state, findings, evaluated_at
FROM unnest($1::uuid[]) AS judged (device_id)
CROSS JOIN unnest($2::uuid[]) AS by (policy_id)
JOIN verdict USING (device_id, policy_id)
"""

WRITE = """
INSERT INTO verdict (device_id, policy_id, policy_version, state, findings, evaluated_at,
                     changed_at, due_at)
SELECT device_id, policy_id, policy_version, state, findings, evaluated_at, evaluated_at, due_at
FROM jsonb_to_recordset($1::jsonb) AS news (
    device_id uuid, policy_id uuid, policy_version int, state text, findings jsonb,
    evaluated_at timestamptz, due_at timestamptz)
ON CONFLICT (device_id, policy_id) DO UPDATE SET
    policy_version = excluded.policy_version, state = excluded.state,
    findings = excluded.findings, evaluated_at = excluded.evaluated_at, due_at = excluded.due_at,
    changed_at = CASE WHEN verdict.state = excluded.state THEN verdict.changed_at
                      ELSE excluded.changed_at END
"""

DUE = """
SELECT device_id, policy_id FROM verdict JOIN policy USING (policy_id)
WHERE due_at <= $1 AND deleted_at IS NULL ORDER BY due_at LIMIT $2
"""

OF_POLICY_AFTER = """
SELECT device_id FROM verdict WHERE policy_id = $1 ORDER BY device_id LIMIT $2
"""

DROP = """
DELETE FROM verdict WHERE policy_id = $1 AND device_id = ANY($2::uuid[]) RETURNING state
"""

OF_DEVICE = """
SELECT device_id, policy_id, policy.name AS policy_name, policy_version, state, findings,
       evaluated_at, verdict.changed_at
FROM verdict JOIN policy USING (policy_id)
WHERE device_id = $1 AND deleted_at IS NULL ORDER BY policy_id
"""

PAGE = """
SELECT verdict.device_id, policy_id, policy.name AS policy_name, policy_version, verdict.state,
       findings, evaluated_at, verdict.changed_at, device.name AS device_name, device.serial,
       device.platform
FROM verdict JOIN policy USING (policy_id) LEFT JOIN device USING (device_id)
WHERE deleted_at IS NULL
  AND ($1::uuid IS NULL OR policy_id = $1)
  AND ($2::text IS NULL OR verdict.state = $2)
  AND ($3::uuid IS NULL OR (policy_id, verdict.device_id) > ($3, $4::uuid))
  AND ($5::uuid[] IS NULL OR device.groups <> '{}' AND device.groups && $5)
ORDER BY policy_id, verdict.device_id LIMIT $6
"""

Key = tuple[UUID, UUID]
"""(device, policy)"""


async def read(
    tx: Connection, device_ids: Iterable[UUID], policy_ids: Iterable[UUID]
) -> dict[Key, Verdict]:
    rows = await tx.fetch(READ, list(device_ids), list(policy_ids))
    return {
        (row["device_id"], row["policy_id"]): Verdict(
            device_id=row["device_id"],
            policy_id=row["policy_id"],
            policy_version=row["policy_version"],
            state=VerdictState(row["state"]),
            findings=tuple(Judgement.model_validate(found) for found in row["findings"]),
            evaluated_at=row["evaluated_at"],
        )
        for row in rows
    }


async def write(tx: Connection, verdicts: Sequence[Verdict]) -> None:
    await tx.execute(WRITE, [_row(verdict) for verdict in verdicts])


def _row(verdict: Verdict) -> dict[str, Any]:
    findings = [f.model_dump(mode="json", exclude_none=True) for f in verdict.findings]
    return {
        "device_id": str(verdict.device_id),
        "policy_id": str(verdict.policy_id),
        "policy_version": verdict.policy_version,
        "state": verdict.state,
        "findings": findings,
        "evaluated_at": verdict.evaluated_at,
        "due_at": verdict.due_at,
    }


async def due(tx: Connection, now: datetime, limit: int) -> list[Key]:
    """Verdicts that time may have changed, the longest waiting first; nothing is locked."""
    return [(row["device_id"], row["policy_id"]) for row in await tx.fetch(DUE, now, limit)]


async def devices_of(tx: Connection, policy_id: UUID, limit: int) -> list[UUID]:
    """Some devices that a policy still has verdicts on."""
    return [row["device_id"] for row in await tx.fetch(OF_POLICY_AFTER, policy_id, limit)]


async def drop(tx: Connection, policy_id: UUID, device_ids: Sequence[UUID]) -> list[str]:
    """Forget a policy's verdicts on devices; returns the states that these were in."""
    return [row["state"] for row in await tx.fetch(DROP, policy_id, list(device_ids))]


async def of_device(tx: Connection, device_id: UUID) -> list[dict[str, Any]]:
    return [dict(row) for row in await tx.fetch(OF_DEVICE, device_id)]


async def page(
    tx: Connection,
    policy_id: UUID | None,
    state: VerdictState | None,
    reach: Reach,
    after: tuple[UUID, UUID] | None,
    limit: int,
) -> list[dict[str, Any]]:
    """Verdicts by policy and device, after (policy, device)."""
    policy, device = after or (None, None)
    rows = await tx.fetch(PAGE, policy_id, state, policy, device, reach, limit)
    return [dict(row) for row in rows]
