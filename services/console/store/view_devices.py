"""The read model's rows of devices, as events change them. Reading is in view_lists."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from services.console.store.view_verdicts import LADDER, WORST
from services.console.views.filters import words_of
from shared.db.pool import Connection

# The last to end is the one that counts: a renewal makes the older ones irrelevant.
_UNTIL = "(SELECT max(not_after) FROM certificate AS c WHERE c.device_id = {0}.device_id)"
# One update for all of it: each costs an entry in every index of the table.
REPLACE = f"""
UPDATE device SET
    compliance = {WORST},
    certificate_until = {_UNTIL.format("device")},
    sequence = news.sequence, platform = news.platform, ownership = news.ownership,
    name = news.name, serial = news.serial, udid = news.udid, user_name = news.user_name,
    model = news.model, product = news.product, enrolled_os = news.enrolled_os,
    enrolled_supervised = news.enrolled_supervised, tags = news.tags, status = news.status,
    enrollment_id = news.enrollment_id, enrolled_at = news.enrolled_at, ended_at = news.ended_at,
    end_reason = news.end_reason
FROM jsonb_to_recordset($1::jsonb) AS news (
    device_id uuid, sequence bigint, platform text, ownership text, name text, serial text,
    udid text, user_name text, model text, product text, enrolled_os text,
    enrolled_supervised boolean, tags text[], status text, enrollment_id uuid,
    enrolled_at timestamptz, ended_at timestamptz, end_reason text)
WHERE device.device_id = news.device_id AND device.sequence < news.sequence
"""
NEWER_THAN = """
SELECT device.device_id FROM device
JOIN unnest($1::uuid[], $2::bigint[]) AS news (device_id, sequence) USING (device_id)
WHERE device.sequence < news.sequence
"""
# What happened to a device outlives it: activity goes by age alone.
FORGET = """
WITH gone AS (SELECT unnest($1::uuid[]) AS device_id),
     found AS (DELETE FROM search USING gone WHERE search.device_id = gone.device_id),
     spoke AS (DELETE FROM device_seen s USING gone WHERE s.device_id = gone.device_id),
     proven AS (DELETE FROM certificate c USING gone WHERE c.device_id = gone.device_id),
     own AS (DELETE FROM device USING gone WHERE device.device_id = gone.device_id)
DELETE FROM verdict USING gone WHERE verdict.device_id = gone.device_id
RETURNING verdict.policy_id, verdict.state
"""
# Every device of a list has a row, so that those that never spoke have a place in its order.
INTRODUCE = """
INSERT INTO device_seen (device_id)
SELECT device_id FROM unnest($1::uuid[]) AS news (device_id)
ON CONFLICT DO NOTHING RETURNING true
"""
SEEN = """
INSERT INTO device_seen (device_id, last_seen_at)
SELECT * FROM unnest($1::uuid[], $2::timestamptz[])
ON CONFLICT (device_id) DO UPDATE SET last_seen_at = excluded.last_seen_at
    WHERE coalesce(device_seen.last_seen_at < excluded.last_seen_at, true)
"""
REPORTED = """
UPDATE device SET
    reported_name = coalesce(news.name, device.reported_name),
    reported_model = coalesce(news.model, device.reported_model),
    reported_os = coalesce(news.os, device.reported_os),
    reported_supervised = coalesce(news.supervised, device.reported_supervised)
FROM jsonb_to_recordset($1::jsonb) AS news (
    device_id uuid, name text, model text, os text, supervised boolean)
WHERE device.device_id = news.device_id
"""
# The row of a deleted device's shell has no words to be found by. Said as `<> 0`, here and wherever
# devices are looked up by their ids: lists' indexes are of `sequence > 0`, and small ones tempt the
# planner of an empty table to read one of them whole, for good.
WORDS = """
SELECT device_id, concat_ws(' ', name, reported_name, serial, user_name, reported_model, model,
                            product, udid) AS words
FROM device WHERE device_id = ANY($1::uuid[]) AND sequence <> 0
"""
# Who is found by the same words already is left out before their grams are worked out.
INDEX = """
INSERT INTO search (device_id, words)
SELECT * FROM unnest($1::uuid[], $2::text[]) AS news (device_id, words)
WHERE NOT EXISTS (
    SELECT FROM search WHERE search.device_id = news.device_id AND search.words = news.words
)
ON CONFLICT (device_id) DO UPDATE SET words = excluded.words
"""
PUT_INTO_GROUPS = """
UPDATE device SET groups = news.groups, groups_sequence = news.sequence
FROM jsonb_to_recordset($1::jsonb) AS news (device_id uuid, sequence bigint, groups uuid[])
WHERE device.device_id = news.device_id AND device.groups_sequence < news.sequence
"""
REPLACE_GROUPS = """
INSERT INTO device_group (group_id, sequence, name, description, protected, deleted)
SELECT group_id, sequence, name, description, protected, deleted
FROM jsonb_to_recordset($1::jsonb) AS news (
    group_id uuid, sequence bigint, name text, description text, protected boolean,
    deleted boolean)
ON CONFLICT (group_id) DO UPDATE SET
    sequence = excluded.sequence, name = excluded.name, description = excluded.description,
    protected = excluded.protected, deleted = excluded.deleted
    WHERE device_group.sequence < excluded.sequence
"""
CERTIFY = """
INSERT INTO certificate (device_id, sha256, not_after)
SELECT * FROM unnest($1::uuid[], $2::text[], $3::timestamptz[])
ON CONFLICT (device_id, sha256) DO UPDATE SET not_after = excluded.not_after
"""
REVOKE = """
DELETE FROM certificate
USING unnest($1::uuid[], $2::text[]) AS gone (device_id, sha256)
WHERE certificate.device_id = gone.device_id AND certificate.sha256 = gone.sha256
"""
# Of a device that is not introduced yet REPLACE takes it over: its certificate nearly always comes
# first.
EXPIRE = f"""
WITH last AS (
    SELECT wanted.device_id, {_UNTIL.format("wanted")} AS until
    FROM unnest($1::uuid[]) AS wanted (device_id)
)
UPDATE device SET certificate_until = last.until FROM last
WHERE device.device_id = last.device_id AND device.sequence <> 0
  AND device.certificate_until IS DISTINCT FROM last.until
"""
REPLACE_PUSH_CERTIFICATES = """
INSERT INTO push_certificate (topic, sequence, not_after, current)
SELECT topic, sequence, not_after, current
FROM jsonb_to_recordset($1::jsonb) AS news (
    topic text, sequence bigint, not_after timestamptz, current boolean)
ON CONFLICT (topic) DO UPDATE SET
    sequence = excluded.sequence, not_after = excluded.not_after, current = excluded.current
    WHERE push_certificate.sequence < excluded.sequence
"""


@dataclass(frozen=True)
class DeviceNews:
    """What a device-state event says, as the read model keeps it."""

    device_id: UUID
    sequence: int
    platform: str
    ownership: str
    name: str | None
    serial: str | None
    udid: str | None
    user_name: str | None
    model: str | None
    product: str | None
    enrolled_os: str | None
    enrolled_supervised: bool | None
    tags: list[str]
    status: str
    enrollment_id: UUID | None
    enrolled_at: datetime | None
    ended_at: datetime | None
    end_reason: str | None


@dataclass(frozen=True)
class Reported:
    """What a device says of itself; None leaves what is known."""

    device_id: UUID
    name: str | None
    model: str | None
    os: str | None
    supervised: bool | None


@dataclass(frozen=True)
class Membership:
    device_id: UUID
    sequence: int
    groups: list[UUID]


@dataclass(frozen=True)
class GroupNews:
    group_id: UUID
    sequence: int
    name: str
    description: str | None
    protected: bool
    deleted: bool


@dataclass(frozen=True)
class PushCertificate:
    topic: str
    sequence: int
    not_after: datetime
    current: bool


async def replace(tx: Connection, news: Sequence[DeviceNews]) -> bool:
    """Take over news that is newer than what is known, and the worst of the device's verdicts.
    Whether any device is new.
    """
    await tx.execute(REPLACE, list(news), list(LADDER))
    return bool(await tx.fetch(INTRODUCE, [one.device_id for one in news]))


async def newer(tx: Connection, sequences: Mapping[UUID, int]) -> list[UUID]:
    """The devices of which less is known than these sequences tell."""
    rows = await tx.fetch(NEWER_THAN, list(sequences), list(sequences.values()))
    return [row["device_id"] for row in rows]


async def forget(tx: Connection, device_ids: Collection[UUID]) -> list[tuple[UUID, str]]:
    """Drop all but what happened to devices; returns (policy, state) of the verdicts on them."""
    return [tuple(row) for row in await tx.fetch(FORGET, list(device_ids))]


async def seen(tx: Connection, at: Mapping[UUID, datetime]) -> None:
    await tx.execute(SEEN, list(at), list(at.values()))


async def report(tx: Connection, news: Sequence[Reported]) -> None:
    await tx.execute(REPORTED, list(news))


async def index(tx: Connection, device_ids: Collection[UUID]) -> None:
    """Let search find devices by what they are called now, each word of it once: a model that a
    device reports as it was enrolled with is no news.

    Letters are folded here: PostgreSQL knows only those of its locale, which may be none but ASCII.
    """
    rows = await tx.fetch(WORDS, list(device_ids))
    words = [f" {' '.join(dict.fromkeys(words_of(row['words'])))}" for row in rows]
    await tx.execute(INDEX, [row["device_id"] for row in rows], words)


async def put_into_groups(tx: Connection, news: Sequence[Membership]) -> None:
    await tx.execute(PUT_INTO_GROUPS, list(news))


async def replace_groups(tx: Connection, news: Sequence[GroupNews]) -> None:
    await tx.execute(REPLACE_GROUPS, list(news))


async def certify(tx: Connection, issued: Sequence[tuple[UUID, str, datetime]]) -> None:
    """(device, SHA-256, when it ends) of certificates that count from now on."""
    await tx.execute(CERTIFY, *zip(*issued, strict=True))
    await tx.execute(EXPIRE, [one[0] for one in issued])


async def revoke(tx: Connection, gone: Sequence[tuple[UUID, str]]) -> None:
    """(device, SHA-256) of certificates that count no more."""
    await tx.execute(REVOKE, *zip(*gone, strict=True))
    await tx.execute(EXPIRE, [one[0] for one in gone])


async def replace_push_certificates(tx: Connection, news: Sequence[PushCertificate]) -> None:
    await tx.execute(REPLACE_PUSH_CERTIFICATES, list(news))
