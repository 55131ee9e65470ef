"""Sessions of browsers, and with each what its account holds."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Self
from uuid import UUID

from shared.db.pool import Connection, Pool, Record

BEGIN = """
INSERT INTO session (session_id, secret_hash, account_id, method, created_at, seen_at, ends_at,
                     proven_at, source, agent)
VALUES ($1, $2, $3, $4, $5, $5, $6, $7, $8, $9)
"""
FIND = """
SELECT s.session_id, s.account_id, s.method, s.created_at, s.seen_at, s.ends_at, s.proven_at,
       a.name, a.email, a.sealed,
       (SELECT jsonb_build_object('name', o.name, 'used_at', u.used_at)
        FROM sealed_use u JOIN account o ON o.account_id = u.account_id
        WHERE u.used_at > $4 ORDER BY u.used_at DESC LIMIT 1) AS alarm,
       (SELECT jsonb_agg(jsonb_build_object(
                   'role_id', r.role_id, 'built_in', r.built_in, 'permissions', r.permissions,
                   'group_id', g.group_id))
        FROM role_grant g JOIN role r USING (role_id) WHERE g.account_id = s.account_id) AS grants
FROM session s JOIN account a USING (account_id)
WHERE s.secret_hash = $1 AND s.ends_at > $2 AND s.seen_at > $3 AND a.disabled_at IS NULL
"""
SEEN = "UPDATE session SET seen_at = $2 WHERE session_id = $1 AND seen_at < $2"
RENEW = "UPDATE session SET secret_hash = $2, seen_at = $3 WHERE session_id = $1 RETURNING true"
PROVE = """
UPDATE session SET secret_hash = $2, method = $3, proven_at = $4, seen_at = $4, ends_at = $5
WHERE session_id = $1 AND proven_at IS NULL RETURNING true
"""
LIVING = """
SELECT session_id, method, created_at, seen_at, ends_at, source, agent FROM session
WHERE account_id = $1 AND ends_at > $2 AND seen_at > $3 AND proven_at IS NOT NULL
ORDER BY seen_at DESC LIMIT 100
"""
END = "DELETE FROM session WHERE account_id = $1 AND session_id = $2 RETURNING session_id"
END_ALL = "DELETE FROM session WHERE account_id = $1 RETURNING session_id"
END_OTHERS = """
DELETE FROM session WHERE account_id = $1 AND session_id <> $2 RETURNING session_id
"""
SWEEP = """
DELETE FROM session WHERE session_id IN (
    SELECT session_id FROM session WHERE ends_at <= $1 ORDER BY ends_at LIMIT 1000)
RETURNING session_id
"""


@dataclass(frozen=True)
class Granted:
    """A role that an account holds; no group: on all devices."""

    role_id: str
    built_in: bool
    permissions: frozenset[str]
    group_id: UUID | None

    @classmethod
    def of(cls, value: dict[str, Any]) -> Self:
        group = value["group_id"]
        return cls(
            role_id=value["role_id"],
            built_in=value["built_in"],
            permissions=frozenset(value["permissions"]),
            group_id=UUID(group) if group else None,
        )


@dataclass(frozen=True)
class Alarm:
    """Which sealed account was used, and when."""

    name: str
    used_at: datetime

    @classmethod
    def of(cls, value: dict[str, Any]) -> Self:
        return cls(value["name"], datetime.fromisoformat(value["used_at"]))


@dataclass(frozen=True)
class Known:
    """A session that lives, its account and the account's grants."""

    session_id: UUID
    account_id: UUID
    method: str
    created_at: datetime
    seen_at: datetime
    ends_at: datetime
    proven_at: datetime | None
    name: str
    email: str
    sealed: bool
    alarm: Alarm | None
    """That a sealed account was used lately: everybody is told."""
    grants: tuple[Granted, ...]

    @classmethod
    def from_row(cls, row: Record) -> Self:
        values = dict(row)
        alarm = values.pop("alarm")
        values["alarm"] = Alarm.of(alarm) if alarm else None
        grants = tuple(Granted.of(each) for each in values.pop("grants") or ())
        return cls(**values, grants=grants)


@dataclass(frozen=True)
class Session:
    """One of somebody's own sessions, for the page that lists them."""

    session_id: UUID
    method: str
    created_at: datetime
    seen_at: datetime
    ends_at: datetime
    source: str | None
    agent: str | None


@dataclass(frozen=True)
class Begun:
    session_id: UUID
    secret_hash: bytes
    account_id: UUID
    method: str
    created_at: datetime
    ends_at: datetime
    proven_at: datetime | None
    source: str | None
    agent: str | None


async def begin(tx: Connection, begun: Begun) -> None:
    await tx.execute(BEGIN, *vars(begun).values())


async def find(
    pool: Pool, secret_hash: bytes, now: datetime, seen_after: datetime, alarms_after: datetime
) -> Known | None:
    """The session with this secret that is neither over nor idle, of an account that counts."""
    row = await pool.fetchrow(FIND, secret_hash, now, seen_after, alarms_after)
    return Known.from_row(row) if row else None


async def seen(pool: Pool, session_id: UUID, now: datetime) -> None:
    await pool.execute(SEEN, session_id, now)


async def renew(tx: Connection, session_id: UUID, secret_hash: bytes, now: datetime) -> bool:
    """Give it another secret; False: it is gone."""
    return bool(await tx.fetchval(RENEW, session_id, secret_hash, now))


async def prove(
    tx: Connection,
    session_id: UUID,
    secret_hash: bytes,
    method: str,
    now: datetime,
    ends_at: datetime,
) -> bool:
    """Let it count, with another secret; False: it is gone, or counted already."""
    return bool(await tx.fetchval(PROVE, session_id, secret_hash, method, now, ends_at))


async def living(
    pool: Pool, account_id: UUID, now: datetime, seen_after: datetime
) -> list[Session]:
    """The account's sessions that open pages, the last used first."""
    rows = await pool.fetch(LIVING, account_id, now, seen_after)
    return [Session(**dict(row)) for row in rows]


async def end(tx: Connection, account_id: UUID, session_id: UUID) -> bool:
    """End one session if it is this account's."""
    return bool(await tx.fetchval(END, account_id, session_id))


async def end_all(tx: Connection, account_id: UUID) -> list[UUID]:
    """End all of an account's; their ids."""
    return [row["session_id"] for row in await tx.fetch(END_ALL, account_id)]


async def end_others(tx: Connection, account_id: UUID, session_id: UUID) -> list[UUID]:
    """End all of an account's but this one; their ids."""
    return [row["session_id"] for row in await tx.fetch(END_OTHERS, account_id, session_id)]


async def sweep(pool: Pool, now: datetime) -> int:
    """Forget at most a thousand that are over."""
    return len(await pool.fetch(SWEEP, now))
