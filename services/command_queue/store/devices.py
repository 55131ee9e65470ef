"""What is known of devices, built from device-state events."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple
from uuid import UUID

from shared.db.pool import Connection
from shared.runtime.http import Reach

# An older event than the one in the row changes nothing: the topic may be read again.
# Where commands go: what was asked for before it came to be so is looked at by itself.
KNOW = """
UPDATE device SET known = true, sequence = told.sequence, platform = told.platform,
    ownership = told.ownership, os_version = told.os_version,
    current_enrollment = told.current_enrollment, channel_id = told.channel_id,
    generation = told.generation, traits = told.traits, outbox_shard = told.outbox_shard,
    plain_after = CASE
        WHEN told.channel_id IS NULL THEN NULL
        WHEN device.channel_id = told.channel_id AND device.generation = told.generation
             AND device.plain_after IS NOT NULL THEN device.plain_after
        ELSE nextval('ordinal')
    END
FROM unnest($1::uuid[], $2::bigint[], $3::text[], $4::text[], $5::text[], $6::uuid[], $7::uuid[],
            $8::int[], $9::bigint[], $10::smallint[])
     AS told (device_id, sequence, platform, ownership, os_version, current_enrollment, channel_id,
              generation, traits, outbox_shard)
WHERE device.device_id = told.device_id AND device.sequence < told.sequence
RETURNING device.device_id
"""
FORGET = """
UPDATE device SET known = false, sequence = told.sequence, current_enrollment = NULL,
    plain_after = NULL
FROM unnest($1::uuid[], $2::bigint[]) AS told (device_id, sequence)
WHERE device.device_id = told.device_id AND device.sequence < told.sequence
RETURNING device.device_id
"""
LOOK_CLOSER = "UPDATE device SET plain_after = NULL WHERE device_id = ANY($1::uuid[])"

ENROLLMENTS = """
SELECT enrollment_id, device_id, generation, state FROM enrollment
WHERE device_id = ANY($1::uuid[])
"""
DROP_ENROLLMENTS = "DELETE FROM enrollment WHERE enrollment_id = ANY($1::uuid[])"
# A new enrollment is heard of when its device's row begins to lead to it, and no later: a command
# that is placed without a look is never older than its enrollment.
KEEP_ENROLLMENTS = """
INSERT INTO enrollment (
    enrollment_id, device_id, generation, state, mode, supervised, access_rights, udid, ordinal
)
SELECT told.*, coalesce(
    (SELECT d.plain_after FROM device AS d
     WHERE d.device_id = told.device_id AND d.current_enrollment = told.enrollment_id),
    nextval('ordinal')
)
FROM unnest(
    $1::uuid[], $2::uuid[], $3::int[], $4::text[], $5::text[], $6::bool[], $7::int[], $8::text[]
) AS told (
    enrollment_id, device_id, generation, state, mode, supervised, access_rights, udid
)
ON CONFLICT (enrollment_id) DO UPDATE SET
    device_id = excluded.device_id, generation = excluded.generation, state = excluded.state,
    mode = excluded.mode, supervised = excluded.supervised,
    access_rights = excluded.access_rights, udid = excluded.udid
"""

DROP_CHANNELS = """
DELETE FROM channel
WHERE enrollment_id = ANY($1::uuid[]) AND NOT channel_id = ANY($2::uuid[])
"""
KEEP_CHANNELS = """
INSERT INTO channel (
    channel_id, device_id, enrollment_id, kind, user_key, open, unlock_token
)
SELECT * FROM unnest(
    $1::uuid[], $2::uuid[], $3::uuid[], $4::text[], $5::text[], $6::bool[], $7::text[]
)
ON CONFLICT (channel_id) DO UPDATE SET
    device_id = excluded.device_id, enrollment_id = excluded.enrollment_id,
    kind = excluded.kind, user_key = excluded.user_key, open = excluded.open,
    unlock_token = excluded.unlock_token
"""

DROP_PINS = """
DELETE FROM pin WHERE enrollment_id = ANY($1::uuid[]) AND NOT sha256 = ANY($2::bytea[])
"""
KEEP_PINS = """
INSERT INTO pin (sha256, device_id, enrollment_id)
SELECT * FROM unnest($1::bytea[], $2::uuid[], $3::uuid[])
ON CONFLICT (sha256) DO UPDATE
    SET device_id = excluded.device_id, enrollment_id = excluded.enrollment_id
"""

PLACES = """
SELECT d.known, d.platform, d.ownership, d.os_version, e.enrollment_id, e.generation,
       e.state, e.mode, e.supervised, e.access_rights, h.channel_id,
       h.kind = 'user' AS user_channel, coalesce(b.came_back, false) AS came_back,
       CASE WHEN h.channel_id = d.channel_id THEN d.traits END AS traits
FROM unnest($1::uuid[], $2::uuid[], $3::bigint[])
     WITH ORDINALITY AS asked (device_id, channel_id, ordinal, place)
CROSS JOIN LATERAL (
    SELECT * FROM device WHERE device.device_id = asked.device_id OFFSET 0
) AS d
LEFT JOIN LATERAL (
    SELECT channel.* FROM channel
    WHERE channel.device_id = asked.device_id
      AND CASE WHEN asked.channel_id IS NULL
               THEN channel.enrollment_id = d.current_enrollment AND channel.kind = 'device'
               ELSE channel.channel_id = asked.channel_id END
    OFFSET 0
) AS h ON true
LEFT JOIN LATERAL (
    SELECT * FROM enrollment
    WHERE enrollment.enrollment_id = coalesce(h.enrollment_id, d.current_enrollment) OFFSET 0
) AS e ON true
LEFT JOIN LATERAL (
    -- When the command was asked for, the device was known by another enrollment.
    SELECT true AS came_back FROM enrollment AS former
    WHERE e.ordinal > asked.ordinal AND former.device_id = asked.device_id
      AND former.enrollment_id <> e.enrollment_id AND former.ordinal < asked.ordinal
      AND former.state <> 'quarantined'
    LIMIT 1
) AS b ON true
ORDER BY asked.place
"""

WAKE = """
SELECT DISTINCT ON (p.channel_id) p.channel_id, p.command_id, p.device_id, p.queued_at, c.kind
FROM channel AS h
JOIN pending AS p ON p.device_id = h.device_id AND p.channel_id = h.channel_id
JOIN command AS c ON c.command_id = p.command_id
WHERE h.channel_id = ANY($1::uuid[]) AND p.state IN ('queued', 'deferred') AND c.state = 'active'
ORDER BY p.channel_id, p.priority DESC, p.seq
"""
CLOSED = """
SELECT asked.channel_id FROM unnest($1::uuid[]) AS asked (channel_id)
WHERE NOT EXISTS (
    SELECT FROM channel AS h JOIN enrollment AS e ON e.enrollment_id = h.enrollment_id
    WHERE h.channel_id = asked.channel_id AND h.open AND e.state = 'enrolled'
)
"""

ENROLLED = """
SELECT d.device_id FROM device AS d JOIN enrollment AS e ON e.enrollment_id = d.current_enrollment
WHERE d.known AND e.state = 'enrolled' AND d.device_id > $1
  AND ($3::uuid[] IS NULL OR EXISTS (
        SELECT FROM device_scope AS s WHERE s.device_id = d.device_id AND s.groups && $3))
ORDER BY d.device_id LIMIT $2
"""
_PAGE: Final = 500

PERHAPS_MACS = """
SELECT asked.device_id FROM unnest($1::uuid[]) AS asked (device_id)
LEFT JOIN device AS d ON d.device_id = asked.device_id
WHERE d.platform IS NULL OR d.platform IN ('macos', 'unknown')
"""
CHANNELS = "SELECT channel_id FROM channel WHERE device_id = ANY($1::uuid[])"
DEVICES_OF_CHANNELS = """
SELECT channel_id, device_id, kind FROM channel WHERE channel_id = ANY($1::uuid[])
"""

PUBLISH = """
INSERT INTO authority (authority, sequence, certificates)
SELECT * FROM unnest($1::text[], $2::bigint[], $3::text[])
ON CONFLICT (authority) DO UPDATE
    SET sequence = excluded.sequence, certificates = excluded.certificates
WHERE authority.sequence < excluded.sequence
"""


@dataclass(frozen=True, slots=True)
class Device:
    device_id: UUID
    sequence: int
    platform: str
    ownership: str
    os_version: str | None
    current_enrollment: UUID | None
    channel_id: UUID | None
    """The device channel, with the generation, while the current enrollment takes commands."""
    generation: int | None
    traits: int | None
    outbox_shard: int


@dataclass(frozen=True, slots=True)
class Enrollment:
    enrollment_id: UUID
    device_id: UUID
    generation: int
    state: str
    mode: str
    supervised: bool | None
    access_rights: int | None
    udid: str | None


@dataclass(frozen=True, slots=True)
class Channel:
    channel_id: UUID
    device_id: UUID
    enrollment_id: UUID
    kind: str
    user_key: str
    open: bool
    unlock_token: str | None


@dataclass(frozen=True, slots=True)
class Pin:
    sha256: bytes
    device_id: UUID
    enrollment_id: UUID


@dataclass(frozen=True, slots=True)
class Stored:
    """An enrollment as the projection has it."""

    enrollment_id: UUID
    device_id: UUID
    generation: int
    state: str


class Place(NamedTuple):
    """Where a target's command would wait, in the order of PLACES: None where nothing is known."""

    known: bool
    platform: str | None
    ownership: str | None
    os_version: str | None
    enrollment_id: UUID | None
    generation: int | None
    state: str | None
    mode: str | None
    supervised: bool | None
    access_rights: int | None
    channel_id: UUID | None
    user_channel: bool | None
    came_back: bool
    """The enrollment is younger than the command, which was meant for the one before it."""
    traits: int | None
    """What decides on eligibility, where the target is one that is placed without a look."""


@dataclass(frozen=True, slots=True)
class Wake:
    """A channel with open work, and the command it would get first."""

    channel_id: UUID
    command_id: UUID
    device_id: UUID
    queued_at: Any
    kind: str


async def know(tx: Connection, devices: Sequence[Device]) -> set[UUID]:
    """Replace what is known; return the devices for which that was news."""
    if not devices:
        return set()
    return {row["device_id"] for row in await tx.fetch(KNOW, *_columns(devices))}


async def forget(tx: Connection, devices: Sequence[tuple[UUID, int]]) -> set[UUID]:
    """Make shells of deleted devices, by id and sequence; return those that were not yet."""
    if not devices:
        return set()
    rows = await tx.fetch(FORGET, [one[0] for one in devices], [one[1] for one in devices])
    return {row["device_id"] for row in rows}


async def look_closer(tx: Connection, devices: Collection[UUID]) -> None:
    """From now on no command for these devices is placed without a look at the target."""
    await tx.execute(LOOK_CLOSER, list(devices))


async def enrollments(tx: Connection, devices: Collection[UUID]) -> dict[UUID, Stored]:
    rows = await tx.fetch(ENROLLMENTS, list(devices))
    return {row["enrollment_id"]: Stored(**row) for row in rows}


async def channels(tx: Connection, devices: Collection[UUID]) -> set[UUID]:
    """Return the channels of these devices, of whatever enrollment."""
    return {row["channel_id"] for row in await tx.fetch(CHANNELS, list(devices))}


async def drop_enrollments(tx: Connection, gone: Collection[UUID]) -> None:
    """Forget enrollments with their channels and pins."""
    await tx.execute(DROP_CHANNELS, list(gone), [])
    await tx.execute(DROP_PINS, list(gone), [])
    await tx.execute(DROP_ENROLLMENTS, list(gone))


async def keep_enrollments(
    tx: Connection,
    enrolled: Sequence[Enrollment],
    channels: Sequence[Channel],
    pins: Sequence[Pin],
) -> None:
    """Replace enrollments, each with all its channels and pins."""
    if not enrolled:
        return
    ids = [one.enrollment_id for one in enrolled]
    await tx.execute(KEEP_ENROLLMENTS, *_columns(enrolled))
    await tx.execute(DROP_CHANNELS, ids, [one.channel_id for one in channels])
    await tx.execute(DROP_PINS, ids, [one.sha256 for one in pins])
    if channels:
        await tx.execute(KEEP_CHANNELS, *_columns(channels))
    if pins:
        await tx.execute(KEEP_PINS, *_columns(pins))


async def places(tx: Connection, targets: Sequence[tuple[UUID, UUID | None, int]]) -> list[Place]:
    """Return where (device, channel or None, the command's ordinal) targets are served, in order;
    devices are locked.
    """
    rows = await tx.fetch(PLACES, *([one[n] for one in targets] for n in range(3)))
    return [Place(*row) for row in rows]


async def closed(tx: Connection, channels: Collection[UUID]) -> set[UUID]:
    """Return which of these channels cannot be served now."""
    return {row["channel_id"] for row in await tx.fetch(CLOSED, list(channels))}


async def to_wake(tx: Connection, channels: Collection[UUID]) -> list[Wake]:
    """Return which of these channels have open work."""
    return [Wake(**row) for row in await tx.fetch(WAKE, list(channels))]


async def enrolled(tx: Connection, reach: Reach) -> list[UUID]:
    """Return every device within reach that takes commands now, sorted.

    Read in pages: unpacking 100,000 ids in one go would hold up everything else.
    """
    found: list[UUID] = []
    after = UUID(int=0)
    while page := await tx.fetch(ENROLLED, after, _PAGE, reach):
        found += [row["device_id"] for row in page]
        after = found[-1]
    return found


async def perhaps_macs(tx: Connection, device_ids: Sequence[UUID]) -> list[UUID]:
    """Return those of these that are Macs, and those of which nobody knows yet what they are."""
    return [row["device_id"] for row in await tx.fetch(PERHAPS_MACS, device_ids)]


async def devices_of_channels(
    tx: Connection, channels: Collection[UUID]
) -> dict[UUID, tuple[UUID, str]]:
    """Return device and kind of each channel that is known."""
    rows = await tx.fetch(DEVICES_OF_CHANNELS, list(channels))
    return {row["channel_id"]: (row["device_id"], row["kind"]) for row in rows}


async def publish(tx: Connection, told: Sequence[tuple[str, int, str]]) -> None:
    """Replace trust anchors: (authority, sequence, PEM certificates)."""
    await tx.execute(
        PUBLISH, [one[0] for one in told], [one[1] for one in told], [one[2] for one in told]
    )


def _columns(rows: Sequence[Any]) -> list[list[Any]]:
    return [[getattr(row, name) for row in rows] for name in rows[0].__dataclass_fields__]
