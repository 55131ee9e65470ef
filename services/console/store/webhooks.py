"""Webhooks: who is told of which events."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from shared.db.pool import Connection, Pool

_WEBHOOK = """
SELECT w.webhook_id, w.name, w.url, w.event_types, w.group_id, w.enabled, w.made_at, w.made_by,
       w.failures, w.rests_until,
       (SELECT count(*) FROM (SELECT FROM delivery d WHERE d.webhook_id = w.webhook_id
                              AND d.state = 'waiting' LIMIT 1000) AS few) AS waiting
FROM webhook w
"""
LIST = f"{_WEBHOOK} ORDER BY w.made_at LIMIT 100"
ONE = f"{_WEBHOOK} WHERE w.webhook_id = $1"
ADD = """
INSERT INTO webhook (webhook_id, name, url, secret, event_types, group_id, made_at, made_by)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
"""
COUNT = "SELECT count(*) FROM webhook"
SET_USE = """
UPDATE webhook SET enabled = $2, failures = 0, rests_until = '-infinity'
WHERE webhook_id = $1 RETURNING true
"""
WANTED = "SELECT webhook_id, event_types, group_id FROM webhook WHERE enabled"
TARGET = "SELECT url, secret FROM webhook WHERE webhook_id = $1 AND enabled"


@dataclass(frozen=True)
class Webhook:
    """As people see it: without its secret. `waiting` counts to a thousand."""

    webhook_id: UUID
    name: str
    url: str
    event_types: list[str]
    group_id: UUID | None
    enabled: bool
    made_at: datetime
    made_by: str
    failures: int
    rests_until: datetime
    waiting: int


@dataclass(frozen=True)
class Wanted:
    """Which events one of them wants."""

    webhook_id: UUID
    event_types: frozenset[str]
    group_id: UUID | None


@dataclass(frozen=True)
class Target:
    url: str
    secret: bytes
    """Encrypted."""


async def every(pool: Pool) -> list[Webhook]:
    return [Webhook(**dict(row)) for row in await pool.fetch(LIST)]


async def one(reader: Pool | Connection, webhook_id: UUID) -> Webhook | None:
    row = await reader.fetchrow(ONE, webhook_id)
    return Webhook(**dict(row)) if row else None


async def count(tx: Connection) -> int:
    return int(await tx.fetchval(COUNT))


async def add(
    tx: Connection,
    webhook_id: UUID,
    name: str,
    url: str,
    secret: bytes,
    event_types: list[str],
    group_id: UUID | None,
    now: datetime,
    by: str,
) -> None:
    await tx.execute(ADD, webhook_id, name, url, secret, event_types, group_id, now, by)


async def set_use(tx: Connection, webhook_id: UUID, *, enabled: bool) -> bool:
    """False: there is none."""
    return bool(await tx.fetchval(SET_USE, webhook_id, enabled))


async def wanted(tx: Connection) -> list[Wanted]:
    return [
        Wanted(row["webhook_id"], frozenset(row["event_types"]), row["group_id"])
        for row in await tx.fetch(WANTED)
    ]


async def target(pool: Pool, webhook_id: UUID) -> Target | None:
    row = await pool.fetchrow(TARGET, webhook_id)
    return Target(**dict(row)) if row else None
