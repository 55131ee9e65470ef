"""Who may decide about what is held: accounts, their rights and keys, each with its age."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from shared.db.pool import Connection

# The first founder stays the only one: whoever could tell of another would make an aged approver.
# A veto of how somebody comes in ends when that changes again, and then it is as young as news.
REPLACE = """
INSERT INTO approver (account_id, sequence, name, disabled, created_at, reset_at, founder, heard_at,
                      renewed_at)
VALUES ($1, $2, $3, $4, $5, $6::timestamptz,
        $7 AND NOT EXISTS (SELECT FROM approver WHERE founder AND account_id <> $1),
        $8::timestamptz,
        CASE WHEN $6 IS NOT NULL THEN $8::timestamptz END)
ON CONFLICT (account_id) DO UPDATE
    SET sequence = excluded.sequence, name = excluded.name, disabled = excluded.disabled,
        created_at = excluded.created_at, reset_at = excluded.reset_at, founder = excluded.founder,
        renewed_at = CASE
            WHEN excluded.reset_at > coalesce(approver.reset_at, '-infinity')
                OR approver.disabled AND NOT excluded.disabled
                OR approver.vetoed_at IS NOT NULL
                    AND excluded.reset_at IS DISTINCT FROM approver.reset_at
            THEN $8::timestamptz ELSE approver.renewed_at END,
        vetoed_at = CASE WHEN excluded.reset_at IS NOT DISTINCT FROM approver.reset_at
                         THEN approver.vetoed_at END
    WHERE approver.sequence < excluded.sequence
RETURNING xmax <> 0 AND renewed_at IS NOT DISTINCT FROM $8::timestamptz AS renewed
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
RETURNING permission, xmax = 0 AS gained
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
                        THEN approver_key.heard_at ELSE excluded.heard_at END,
        vetoed_at = CASE WHEN approver_key.public_key = excluded.public_key
                         THEN approver_key.vetoed_at END
    WHERE approver_key.account_id = excluded.account_id
RETURNING xmax = 0 OR heard_at = $5 AS gained
"""
GET = "SELECT * FROM approver WHERE account_id = $1"
RIGHTS = """
SELECT permission, group_id, since, heard_at FROM approver_right
WHERE account_id = $1 AND permission = ANY($2::text[]) AND vetoed_at IS NULL
"""
KEYS = """
SELECT account_id, credential_id, public_key, since, heard_at, sign_count FROM approver_key
WHERE account_id = $1 AND vetoed_at IS NULL ORDER BY since
"""
# The first founder's rights were never young, nor are the keys of the first hour.
YOUNG = """
SELECT a.account_id, a.name, news.what, news.since
FROM approver AS a CROSS JOIN LATERAL (
    SELECT r.permission AS what, greatest(r.since, r.heard_at) AS since FROM approver_right AS r
    WHERE r.account_id = a.account_id AND r.vetoed_at IS NULL AND NOT a.founder
    UNION ALL
    SELECT 'key', greatest(k.since, k.heard_at) FROM approver_key AS k
    WHERE k.account_id = a.account_id AND k.vetoed_at IS NULL
      AND NOT (a.founder AND k.heard_at <= least(a.created_at, a.heard_at) + $3::interval)
    UNION ALL
    SELECT 'sign-in', greatest(a.reset_at, a.renewed_at)
    WHERE a.vetoed_at IS NULL AND greatest(a.reset_at, a.renewed_at) IS NOT NULL
) AS news
WHERE NOT a.disabled AND news.since > $2 AND ($1::uuid IS NULL OR a.account_id = $1)
  AND EXISTS (SELECT FROM approver_right AS r
              WHERE r.account_id = a.account_id AND r.vetoed_at IS NULL)
ORDER BY a.account_id, news.since, news.what LIMIT 1000
"""
VETO_RIGHTS = """
UPDATE approver_right AS r SET vetoed_at = $3 FROM approver AS a
WHERE r.account_id = $1 AND a.account_id = $1 AND NOT a.founder AND r.vetoed_at IS NULL
  AND greatest(r.since, r.heard_at) > $2
"""
VETO_KEYS = """
UPDATE approver_key AS k SET vetoed_at = $3 FROM approver AS a
WHERE k.account_id = $1 AND a.account_id = $1 AND k.vetoed_at IS NULL
  AND greatest(k.since, k.heard_at) > $2
  AND NOT (a.founder AND k.heard_at <= least(a.created_at, a.heard_at) + $4::interval)
"""
VETO_SIGN_IN = """
UPDATE approver SET vetoed_at = $3
WHERE account_id = $1 AND vetoed_at IS NULL AND greatest(reset_at, renewed_at) > $2
"""
FIRST_HOUR = timedelta(hours=1)
"""A founder's first keys: registered while the set-up link could have been alive."""
HOLDERS = """
SELECT DISTINCT account_id FROM approver_right
WHERE permission = $1 AND group_id IS NULL AND vetoed_at IS NULL ORDER BY account_id LIMIT 100
"""
OLD_ONES = """
SELECT account_id FROM approver WHERE account_id = ANY($1::uuid[])
  AND (founder OR greatest(created_at, heard_at) <= $2)
  AND coalesce(greatest(reset_at, renewed_at), '-infinity') <= $2
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
    heard_at: datetime
    renewed_at: datetime | None
    vetoed_at: datetime | None
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


@dataclass(frozen=True, slots=True)
class Gained:
    """What an account has now that it did not have before."""

    rights: Sequence[str]
    keys: int
    sign_in: bool


@dataclass(frozen=True, slots=True)
class Young:
    """What an account has had for less than three days: a permission, `key` or `sign-in`."""

    account_id: UUID
    name: str
    what: str
    since: datetime


async def replace(tx: Connection, told: Told, now: datetime) -> Gained | None:
    """Take over an account whole, unless newer is known (None); ages count from when they were
    heard.
    """
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
        now,
    )
    if newer is None:
        return None
    names, groups = [one[0] for one in told.rights], [one[1] for one in told.rights]
    await tx.execute(LOSE_RIGHTS, account, names, groups)
    dated = [one[2] for one in told.rights]
    rights = await tx.fetch(KEEP_RIGHTS, account, names, groups, dated, now)
    credentials = [one[0] for one in told.keys]
    await tx.execute(LOSE_KEYS, account, credentials)
    public, since = [one[1] for one in told.keys], [one[2] for one in told.keys]
    keys = await tx.fetch(KEEP_KEYS, account, credentials, public, since, now)
    gained = sorted({row["permission"] for row in rights if row["gained"]})
    return Gained(gained, sum(row["gained"] for row in keys), bool(newer))


async def get(tx: Connection, account_id: UUID, *permissions: str) -> Account | None:
    """An account with where it holds these permissions, and its keys: without what was vetoed."""
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
        heard_at=row["heard_at"],
        renewed_at=row["renewed_at"],
        vetoed_at=row["vetoed_at"],
        rights=[Right(**one) for one in await tx.fetch(RIGHTS, account_id, permissions)],
        keys=[Key(**one) for one in await tx.fetch(KEYS, account_id)],
    )


async def holders(tx: Connection, permission: str) -> list[UUID]:
    """Accounts with a right on all devices, a hundred at most."""
    return [row["account_id"] for row in await tx.fetch(HOLDERS, permission)]


async def old_ones(tx: Connection, account_ids: Collection[UUID], before: datetime) -> set[UUID]:
    """Those of these accounts that came, and in the way they come in, no later than this."""
    rows = await tx.fetch(OLD_ONES, list(account_ids), before)
    return {row["account_id"] for row in rows}


async def count(tx: Connection, key: Key, sign_count: int) -> bool:
    """Note a key's counter; False: another assertion came in between."""
    return bool(await tx.fetchval(COUNT, key.credential_id, key.sign_count, sign_count))


async def young(tx: Connection, account_id: UUID | None, after: datetime) -> list[Young]:
    """What accounts with a right (None: all of them) have had since then only."""
    rows = await tx.fetch(YOUNG, account_id, after, FIRST_HOUR)
    return [Young(row["account_id"], row["name"], row["what"], row["since"]) for row in rows]


async def veto(tx: Connection, account_id: UUID, after: datetime, now: datetime) -> None:
    """Let what it has had since then only count no more."""
    await tx.execute(VETO_RIGHTS, account_id, after, now)
    await tx.execute(VETO_KEYS, account_id, after, now, FIRST_HOUR)
    await tx.execute(VETO_SIGN_IN, account_id, after, now)
