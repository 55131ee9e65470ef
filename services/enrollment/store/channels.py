"""Channels: push tokens and unlock tokens, of the device and of each of its users."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from shared.db.pool import Connection

# coalesce: a TokenUpdate without an UnlockToken never takes one away (apple.md §1.2). The device's
# own channel completes an enrollment that was pending.
OPEN = """
WITH opened AS (
INSERT INTO channel (channel_id, enrollment_id, device_id, kind, user_kind, user_key, user_name,
                     open_generation, push_topic, push, push_sealed, push_updated_at, unlock_token,
                     unlock_sealed)
SELECT channel_id, enrollment_id, device_id,
       CASE WHEN user_kind = '' THEN 'device' ELSE 'user' END, user_kind, user_key, user_name,
       generation, push_topic, push, push_sealed, $13, unlock_token, unlock_sealed
FROM unnest($1::uuid[], $2::uuid[], $3::uuid[], $4::text[], $5::text[], $6::text[], $7::int[],
            $8::text[], $9::bytea[], $10::text[], $11::bytea[], $12::text[])
  AS news (channel_id, enrollment_id, device_id, user_kind, user_key, user_name, generation,
           push_topic, push, push_sealed, unlock_token, unlock_sealed)
ON CONFLICT (enrollment_id, user_kind, user_key) DO UPDATE SET
    user_name = coalesce(excluded.user_name, channel.user_name),
    open_generation = excluded.open_generation,
    push_topic = excluded.push_topic,
    push = excluded.push,
    push_sealed = excluded.push_sealed,
    push_updated_at = excluded.push_updated_at,
    unlock_token = coalesce(excluded.unlock_token, channel.unlock_token),
    unlock_sealed = coalesce(excluded.unlock_sealed, channel.unlock_sealed)
)
UPDATE enrollment SET state = 'enrolled', enrolled_at = $13
FROM unnest($2::uuid[], $4::text[]) AS news (enrollment_id, user_kind)
WHERE enrollment.enrollment_id = news.enrollment_id AND news.user_kind = ''
  AND enrollment.state = 'pending'
RETURNING enrollment.enrollment_id
"""
OF_ENROLLMENTS = """
SELECT enrollment_id, channel_id, user_kind, user_key, open_generation FROM channel
WHERE enrollment_id = ANY($1::uuid[])
"""
TOPIC = "SELECT push_topic FROM channel WHERE enrollment_id = $1 AND kind = 'device'"
# What a wiped device had opened is void; its unlock token stays until a new one comes.
CLOSE_DEVICE_CHANNELS = """
UPDATE channel SET open_generation = NULL, push = NULL, push_sealed = NULL
WHERE enrollment_id = ANY($1::uuid[]) AND kind = 'device'
"""
DROP_USER_CHANNELS = """
DELETE FROM channel WHERE enrollment_id = ANY($1::uuid[]) AND kind = 'user'
"""


@dataclass(frozen=True, slots=True)
class Channel:
    enrollment_id: UUID
    channel_id: UUID
    user_kind: str
    user_key: str
    open_generation: int | None


@dataclass(frozen=True, slots=True)
class Tokens:
    """What a TokenUpdate leaves behind; `user_kind` and `user_key` are empty for the device.

    `channel_id` counts only where the channel is new.
    """

    channel_id: UUID
    enrollment_id: UUID
    device_id: UUID
    user_kind: str
    user_key: str
    user_name: str | None
    generation: int
    push_topic: str
    push: bytes
    push_sealed: str
    unlock_token: bytes | None
    unlock_sealed: str | None


async def open_all(tx: Connection, tokens: Sequence[Tokens], now: datetime) -> set[UUID]:
    """Open these channels for their generation; returns the enrollments that became complete."""
    rows = await tx.fetch(
        OPEN,
        [t.channel_id for t in tokens],
        [t.enrollment_id for t in tokens],
        [t.device_id for t in tokens],
        [t.user_kind for t in tokens],
        [t.user_key for t in tokens],
        [t.user_name for t in tokens],
        [t.generation for t in tokens],
        [t.push_topic for t in tokens],
        [t.push for t in tokens],
        [t.push_sealed for t in tokens],
        [t.unlock_token for t in tokens],
        [t.unlock_sealed for t in tokens],
        now,
    )
    return {row["enrollment_id"] for row in rows}


async def of_enrollments(tx: Connection, enrollments: Sequence[UUID]) -> list[Channel]:
    return [Channel(**row) for row in await tx.fetch(OF_ENROLLMENTS, list(enrollments))]


async def topic(tx: Connection, enrollment_id: UUID) -> str | None:
    """What the device listens for; None before its first TokenUpdate."""
    found: str | None = await tx.fetchval(TOPIC, enrollment_id)
    return found


async def reset(tx: Connection, enrollments: Sequence[UUID]) -> None:
    """Close the device channels and forget the user channels: a new generation begins."""
    await tx.execute(CLOSE_DEVICE_CHANNELS, list(enrollments))
    await tx.execute(DROP_USER_CHANNELS, list(enrollments))
