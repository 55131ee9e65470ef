"""What happened, for people to read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, get_args
from uuid import UUID

from shared.db.pool import Connection
from shared.events.commands import GuardAlarmed

ADD = """
INSERT INTO activity (activity_id, at, kind, device_id, actor, detail, loud)
SELECT activity_id, at, kind, device_id, actor, detail, loud
FROM jsonb_to_recordset($1::jsonb) AS happened (
    activity_id uuid, at timestamptz, kind text, device_id uuid, actor text, detail jsonb,
    loud boolean)
"""
_COLUMNS = """
    activity_id, at, kind, activity.device_id, actor, detail,
    coalesce(device.name, device.reported_name, device.serial,
             CASE WHEN device.sequence > 0 THEN 'A device without a name' END) AS device_name,
    coalesce(account.name, actor) AS actor_name
"""
_NAMES = """
LEFT JOIN device USING (device_id)
LEFT JOIN account
    ON account.account_id = substring(actor FROM '^account:([0-9a-f-]{36})$')::uuid
"""
# Somebody who sees some groups only sees what happened to their devices, and nothing that happened
# to none; found among the newest, or a quiet group would have everything read.
FEED = f"""
SELECT {_COLUMNS} FROM (
    SELECT * FROM activity WHERE loud AND ($2::uuid IS NULL OR activity_id < $2)
    ORDER BY activity_id DESC LIMIT CASE WHEN $1::uuid[] IS NULL THEN $3::int ELSE 2000 END
) AS activity {_NAMES}
WHERE $1::uuid[] IS NULL OR device.groups && $1
ORDER BY activity_id DESC LIMIT $3
"""
_WORDS: Final = [
    *get_args(GuardAlarmed.model_fields["kind"].annotation),
    *("device.ownership", "sealed.used", "provider.changed"),
]
_ALARM = "kind IN ('guard.alarmed', 'device.ownership', 'sealed.used', 'provider.changed')"
_WORD = "CASE WHEN kind = 'guard.alarmed' THEN detail ->> 'what' ELSE kind END"
# Who may sound many of one kind (by asking for what is refused) buries no other.
ALARMS = f"""
SELECT {_COLUMNS} FROM (
    (SELECT * FROM activity WHERE {_ALARM} AND activity_id > $1
     ORDER BY activity_id DESC LIMIT $2)
    UNION
    SELECT newest.* FROM unnest($3::text[]) AS wanted (word) CROSS JOIN LATERAL (
        SELECT * FROM activity WHERE {_ALARM} AND ({_WORD}) = wanted.word AND activity_id > $1
        ORDER BY activity_id DESC LIMIT 1
    ) AS newest
) AS activity {_NAMES}
ORDER BY activity_id DESC
"""
OF_DEVICE = f"""
SELECT {_COLUMNS} FROM activity {_NAMES}
WHERE activity.device_id = $1 AND ($2::uuid IS NULL OR activity_id < $2)
ORDER BY activity_id DESC LIMIT $3
"""
ACTORS = """
SELECT 'account:' || account_id AS actor, name FROM account
WHERE 'account:' || account_id = ANY($1::text[])
"""


@dataclass(frozen=True)
class Happening:
    """Something that happened; `activity_id` is the event's."""

    activity_id: UUID
    at: datetime
    kind: str
    device_id: UUID | None
    actor: str | None
    detail: dict[str, Any]
    loud: bool


async def add(tx: Connection, happenings: Sequence[Happening]) -> None:
    if happenings:
        await tx.execute(ADD, list(happenings))


async def feed(
    tx: Connection, reach: Sequence[UUID] | None, before: UUID | None, limit: int
) -> list[dict[str, Any]]:
    """What concerns everybody, newest first."""
    return [dict(row) for row in await tx.fetch(FEED, reach, before, limit)]


async def alarms(tx: Connection, after: UUID, limit: int) -> list[dict[str, Any]]:
    """What alarmed everybody, newest first: the last `limit`, and the last of each kind."""
    return [dict(row) for row in await tx.fetch(ALARMS, after, limit, _WORDS)]


async def of_device(
    tx: Connection, device_id: UUID, before: UUID | None, limit: int
) -> list[dict[str, Any]]:
    """All that happened to a device, newest first."""
    return [dict(row) for row in await tx.fetch(OF_DEVICE, device_id, before, limit)]


async def actors(tx: Connection, actors: Sequence[str]) -> dict[str, str]:
    """Actor → the name of their account, for those that are accounts."""
    return {row["actor"]: row["name"] for row in await tx.fetch(ACTORS, list(actors))}
