"""Who may decide about what is held: accounts, their rights and keys, each with its age."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from shared.db.pool import Connection

# The first founder stays the only one: whoever could tell of another would make an aged approver.
REPLACE = """
INSERT INTO approver (account_id, sequence, name, disabled, created_at, reset_at, founder)
VALUES ($1, $2, $3, $4, $5, $6,
        $7 AND NOT EXISTS (SELECT FROM approver WHERE founder AND account_id <> $1))
ON CONFLICT (account_id) DO UPDATE
    SET sequence = excluded.sequence, name = excluded.name, disabled = excluded.disabled,
        created_at = excluded.created_at, reset_at = excluded.reset_at, founder = excluded.founder
    WHERE approver.sequence < excluded.sequence
RETURNING true
"""
LOSE_RIGHTS = """
DELETE FROM approver_right AS held WHERE account_id = $1 AND NOT EXISTS (
    SELECT FROM unnest($2::text[], $3::uuid[]) AS told (permission, group_id)
    WHERE told.permission = held.permission AND told.group_id IS NOT DISTINCT FROM held.group_id
)
"""
KEEP_RIGHTS = """
INSERT INTO approver_right (account_id, permission, group_id, since, heard_at)
SELECT $1, permission, group_id, min(since), $5
FROM unnest($2::text[], $3::uuid[], $4::timestamptz[]) AS told (permission, group_id, since)
GROUP BY permission, group_id
ON CONFLICT (account_id, permission, group_id) DO UPDATE SET since = excluded.since
"""
LOSE_KEYS = """
DELETE FROM approver_key WHERE account_id = $1 AND credential_id <> ALL($2::bytea[])
"""
# A key that is another account's already stays theirs.
KEEP_KEYS = """
INSERT INTO approver_key (credential_id, account_id, public_key, since, heard_at)
SELECT credential_id, $1, public_key, since, $5
FROM unnest($2::bytea[], $3::bytea[], $4::timestamptz[]) AS told (credential_id, public_key, since)
ON CONFLICT (credential_id) DO UPDATE
    SET public_key = excluded.public_key, since = excluded.since,
        heard_at = CASE WHEN approver_key.public_key = excluded.public_key
                        THEN approver_key.heard_at ELSE excluded.heard_at END
    WHERE approver_key.account_id = excluded.account_id
"""
GET = "SELECT * FROM approver WHERE account_id = $1"
RIGHTS = """
SELECT permission, group_id, since, heard_at FROM approver_right
WHERE account_id = $1 AND permission = $2
"""
KEYS = """
SELECT account_id, credential_id, public_key, since, heard_at, sign_count FROM approver_key
WHERE account_id = $1 ORDER BY since
"""
COUNT = """
UPDATE approver_key SET sign_count = $3 WHERE credential_id = $1 AND sign_count = $2 RETURNING true
"""


@dataclass(frozen=True, slots=True)
class Right:
    """A permission, on all devices or a group's."""

    permission: str
    group_id: UUID | None
    since: datetime
    heard_at: datetime


@dataclass(frozen=True, slots=True)
class Key:
    account_id: UUID
    credential_id: bytes
    public_key: bytes
    since: datetime
    heard_at: datetime
    sign_count: int


@dataclass(frozen=True, slots=True)
class Account:
    account_id: UUID
    name: str
    disabled: bool
    created_at: datetime
    reset_at: datetime | None
    founder: bool
    rights: Sequence[Right]
    keys: Sequence[Key]


@dataclass(frozen=True, slots=True)
class Told:
    """What the console says of an account: rights and keys as (name, …, since)."""

    account_id: UUID
    sequence: int
    name: str
    disabled: bool
    created_at: datetime
    reset_at: datetime | None
    founder: bool
    rights: Sequence[tuple[str, UUID | None, datetime]]
    keys: Sequence[tuple[bytes, bytes, datetime]]


async def replace(tx: Connection, told: Told, now: datetime) -> None:
    """Take over an account whole, unless newer is known; ages count from when they were heard."""
    account = told.account_id
    newer = await tx.fetchval(
        REPLACE,
        account,
        told.sequence,
        told.name,
        told.disabled,
        told.created_at,
        told.reset_at,
        told.founder,
    )
    if not newer:
        return
    names, groups = [one[0] for one in told.rights], [one[1] for one in told.rights]
    await tx.execute(LOSE_RIGHTS, account, names, groups)
    await tx.execute(KEEP_RIGHTS, account, names, groups, [one[2] for one in told.rights], now)
    credentials = [one[0] for one in told.keys]
    await tx.execute(LOSE_KEYS, account, credentials)
    public, since = [one[1] for one in told.keys], [one[2] for one in told.keys]
    await tx.execute(KEEP_KEYS, account, credentials, public, since, now)


async def get(tx: Connection, account_id: UUID, permission: str) -> Account | None:
    """An account with where it holds a permission, and its keys."""
    row = await tx.fetchrow(GET, account_id)
    if row is None:
        return None
    return Account(
        account_id=account_id,
        name=row["name"],
        disabled=row["disabled"],
        created_at=row["created_at"],
        reset_at=row["reset_at"],
        founder=row["founder"],
        rights=[Right(**one) for one in await tx.fetch(RIGHTS, account_id, permission)],
        keys=[Key(**one) for one in await tx.fetch(KEYS, account_id)],
    )


async def count(tx: Connection, key: Key, sign_count: int) -> bool:
    """Note a key's counter; False: another assertion came in between."""
    return bool(await tx.fetchval(COUNT, key.credential_id, key.sign_count, sign_count))
