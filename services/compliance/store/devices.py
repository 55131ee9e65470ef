"""Devices as enrollment tells of them, and their state over all policies."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from services.compliance.verdicts import LADDER
from shared.db.pool import Connection
from shared.events.compliance import VerdictState
from shared.runtime.http import Reach

# The caller holds the rows' locks: `old` is what is replaced.
REPLACE = """
UPDATE device SET
    sequence = news.sequence, platform = news.platform, ownership = news.ownership,
    name = news.name, serial = news.serial, tags = news.tags, managed = news.managed,
    since = news.since
FROM jsonb_to_recordset($1::jsonb) AS news (
    device_id uuid, sequence bigint, platform text, ownership text, name text, serial text,
    tags text[], managed boolean, since timestamptz)
JOIN device AS old USING (device_id)
WHERE device.device_id = old.device_id AND old.sequence < news.sequence
RETURNING device.device_id,
    (old.platform, old.ownership, old.tags, old.managed, old.since)
        IS DISTINCT FROM (news.platform, news.ownership, news.tags, news.managed, news.since)
    AS matters
"""

NEWER_THAN = """
SELECT device_id FROM device
JOIN unnest($1::uuid[], $2::bigint[]) AS news (device_id, sequence) USING (device_id)
WHERE device.sequence < news.sequence
"""

FORGET = """
WITH gone AS (SELECT unnest($1::uuid[]) AS device_id),
     facts AS (DELETE FROM fact USING gone WHERE fact.device_id = gone.device_id),
     sections AS (DELETE FROM section USING gone WHERE section.device_id = gone.device_id),
     apps AS (DELETE FROM application a USING gone WHERE a.device_id = gone.device_id),
     own AS (DELETE FROM device USING gone WHERE device.device_id = gone.device_id
             RETURNING state),
     verdicts AS (DELETE FROM verdict USING gone WHERE verdict.device_id = gone.device_id
                  RETURNING policy_id, state)
SELECT policy_id, state FROM verdicts
UNION ALL
SELECT NULL, state FROM own WHERE state IS NOT NULL
"""

SEEN = """
UPDATE device SET seen_at = news.at, seen_evidence = news.evidence
FROM unnest($1::uuid[], $2::timestamptz[], $3::uuid[]) AS news (device_id, at, evidence)
WHERE device.device_id = news.device_id AND coalesce(device.seen_at < news.at, true)
"""

# $2: the ladder, worst first. What does not apply does not count (services.compliance.verdicts).
# A state is no condition here: the index by state would be read for it, with all its devices.
ROLL_UP = """
WITH worst AS (
    SELECT device_id, state AS before, CASE WHEN managed THEN coalesce(
        ($2::text[])[(SELECT min(array_position($2::text[], verdict.state)) FROM verdict
                      WHERE verdict.device_id = device.device_id)],
        'not_evaluated') END AS after
    FROM device WHERE device_id = ANY($1::uuid[])
)
UPDATE device SET state = worst.after FROM worst
WHERE device.device_id = worst.device_id AND worst.before IS DISTINCT FROM worst.after
RETURNING worst.before, worst.after
"""

MANAGED_AFTER = """
SELECT device_id FROM device
WHERE managed AND ($1::uuid IS NULL OR device_id > $1) ORDER BY device_id LIMIT $2
"""

# Each list that is not empty must name the device (services.compliance.verdicts.applies).
_FOR = """
FROM device WHERE managed
  AND (cardinality($1::text[]) = 0 OR platform = ANY($1))
  AND (cardinality($2::text[]) = 0 OR ownership = ANY($2))
  AND (cardinality($3::text[]) = 0 OR tags && $3)
"""
COUNT_FOR = f"SELECT count(*) {_FOR}"
# By a hash of the id: ids rise with time, and the newest devices are not like the others.
SOME_FOR = f"""
SELECT device_id, name, serial, platform {_FOR}
ORDER BY hashtextextended(device_id::text, 0) LIMIT $4
"""

ONE = """
SELECT device_id, name, serial, platform, state FROM device
WHERE device_id = $1 AND ($2::uuid[] IS NULL OR groups && $2)
"""

PAGE = """
SELECT device_id, name, serial, platform, state FROM device
WHERE state IS NOT NULL AND ($1::text IS NULL OR state = $1)
  AND ($2::uuid IS NULL OR device_id > $2)
  AND ($3::uuid[] IS NULL OR groups <> '{}' AND groups && $3)
ORDER BY device_id LIMIT $4
"""


@dataclass(frozen=True)
class DeviceNews:
    """What a device-state event says, as this service keeps it."""

    device_id: UUID
    sequence: int
    platform: str
    ownership: str
    name: str | None
    serial: str | None
    tags: list[str]
    managed: bool
    since: datetime | None


@dataclass(frozen=True)
class Moved:
    """A device, or a verdict, that went from one state to another; None: it was not counted."""

    policy_id: UUID | None
    before: str | None
    after: str | None


async def replace(tx: Connection, news: Sequence[DeviceNews]) -> set[UUID]:
    """Take over news that is newer than what is known; returns whose verdicts it may change."""
    rows = await tx.fetch(REPLACE, list(news))
    return {row["device_id"] for row in rows if row["matters"]}


async def forget(tx: Connection, sequences: Mapping[UUID, int]) -> list[Moved]:
    """Drop deleted devices with their verdicts; returns what is to be counted no more."""
    found = await tx.fetch(NEWER_THAN, list(sequences), list(sequences.values()))
    rows = await tx.fetch(FORGET, [row["device_id"] for row in found])
    return [Moved(row["policy_id"], row["state"], None) for row in rows]


async def seen(tx: Connection, news: Sequence[tuple[UUID, datetime, UUID]]) -> None:
    """(device, when it spoke, the event that told)."""
    await tx.execute(SEEN, [n[0] for n in news], [n[1] for n in news], [n[2] for n in news])


async def roll_up(tx: Connection, device_ids: Iterable[UUID]) -> list[Moved]:
    """Give devices the worst state of their verdicts; returns those that changed."""
    rows = await tx.fetch(ROLL_UP, list(device_ids), [str(state) for state in LADDER])
    return [Moved(None, row["before"], row["after"]) for row in rows]


async def managed_after(tx: Connection, after: UUID | None, limit: int) -> list[UUID]:
    """The next managed devices by id."""
    return [row["device_id"] for row in await tx.fetch(MANAGED_AFTER, after, limit)]


async def count_for(
    tx: Connection, platforms: Sequence[str], ownership: Sequence[str], tags: Sequence[str]
) -> int:
    """How many managed devices are of one of each; an empty list names all."""
    return int(await tx.fetchval(COUNT_FOR, list(platforms), list(ownership), list(tags)))


async def some_for(
    tx: Connection,
    platforms: Sequence[str],
    ownership: Sequence[str],
    tags: Sequence[str],
    limit: int,
) -> list[dict[str, Any]]:
    """The same, from all over the fleet, the same ones each time: who they are."""
    rows = await tx.fetch(SOME_FOR, list(platforms), list(ownership), list(tags), limit)
    return [dict(row) for row in rows]


async def one(tx: Connection, device_id: UUID, reach: Reach) -> dict[str, Any] | None:
    row = await tx.fetchrow(ONE, device_id, reach)
    return None if row is None else dict(row)


async def page(
    tx: Connection, state: VerdictState | None, reach: Reach, after: UUID | None, limit: int
) -> list[dict[str, Any]]:
    """Managed devices by id, all or those in one state."""
    return [dict(row) for row in await tx.fetch(PAGE, state, after, reach, limit)]
