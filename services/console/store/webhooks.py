"""Webhooks: who is told of which events."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from shared.db.pool import Connection, Pool

ALARMS: Final = (
    "muster.guard.alarmed.v1",
    "muster.device.ownership_announced.v1",
    "muster.sealed_account.used.v1",
    "muster.identity_provider.changed.v1",
)
"""What is told for a while more, when a webhook is switched off."""
IS_ALARM: Final = ", ".join(f"'{kind}'" for kind in ALARMS)
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
# Switching off what is off already makes nothing longer.
SET_USE = """
UPDATE webhook SET enabled = $2, failures = 0, rests_until = '-infinity',
    alarms_until = CASE WHEN enabled AND NOT $2 THEN $3 ELSE alarms_until END
WHERE webhook_id = $1 RETURNING true
"""
WANTED = f"""
SELECT webhook_id, enabled, event_types, group_id FROM webhook
WHERE enabled OR alarms_until > $1 AND event_types && ARRAY[{IS_ALARM}]
"""
# More than `rights.sql` lets the role of the worker have.
REACHES_MORE = """
SELECT coalesce(bool_or(has_any_column_privilege(oid, 'SELECT, INSERT, UPDATE')), false)
FROM pg_class
WHERE relnamespace = current_schema()::regnamespace AND relkind IN ('r', 'p')
  AND relname NOT IN ('webhook', 'delivery', 'schema_migration')
"""
TARGET = "SELECT url, secret FROM webhook WHERE webhook_id = $1 AND (enabled OR alarms_until > $2)"


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


async def set_use(
    tx: Connection, webhook_id: UUID, alarms_until: datetime, *, enabled: bool
) -> bool:
    """False: there is none. One that is switched off is told of alarms until then."""
    return bool(await tx.fetchval(SET_USE, webhook_id, enabled, alarms_until))


async def wanted(tx: Connection, now: datetime) -> list[Wanted]:
    """Who is told of what: of those that were switched off lately, only who wanted alarms."""
    return [
        Wanted(
            row["webhook_id"],
            _of(row),
            row["group_id"],
        )
        for row in await tx.fetch(WANTED, now)
    ]


async def reaches_more(pool: Pool) -> bool:
    """Whether we are signed in as somebody with more rights than telling webhooks takes."""
    return bool(await pool.fetchval(REACHES_MORE))


async def target(pool: Pool, webhook_id: UUID, now: datetime) -> Target | None:
    row = await pool.fetchrow(TARGET, webhook_id, now)
    return Target(**dict(row)) if row else None


def _of(row: Any) -> frozenset[str]:
    wanted = frozenset(row["event_types"])
    return wanted if row["enabled"] else wanted.intersection(ALARMS)
