"""Everything enrollment knows of a device, as one event that replaces all before it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from uuid import UUID

from shared.db.pool import Connection, Record
from shared.events.device_state import ChannelState, DeviceState, EnrollmentState

# The current enrollment first, then those that wait, then the newest that ended: what is cut off
# at the limit can never be served again.
DEVICES = """
SELECT d.device_id, d.platform, d.ownership, coalesce(d.name, d.reported_name) AS name, d.serial,
       d.model, d.product, d.os_version, d.build, d.user_name, d.tags, d.current_enrollment,
       e.enrollment_id, e.generation, e.state, e.mode, e.supervised, e.access_rights, e.udid,
       e.authenticated_at, e.enrolled_at, e.ended_at, e.end_reason
FROM device AS d
LEFT JOIN LATERAL (
    SELECT * FROM enrollment WHERE enrollment.device_id = d.device_id
    ORDER BY enrollment_id IS NOT DISTINCT FROM d.current_enrollment DESC, state = 'ended',
             authenticated_at DESC
    LIMIT 12
) AS e ON true
WHERE d.device_id = ANY($1::uuid[])
ORDER BY d.device_id
"""
CHANNELS = """
SELECT channel_id, enrollment_id, kind, user_key, user_name, open_generation, push_topic,
       push_sealed, push_updated_at, unlock_sealed
FROM channel WHERE enrollment_id = ANY($1::uuid[]) ORDER BY channel_id
"""
# The certificates of an ended enrollment stay named: its requests are refused, not unknown.
PINS = """
SELECT c.enrollment_id, encode(c.sha256, 'hex') AS pin FROM certificate AS c
JOIN enrollment AS e USING (enrollment_id)
WHERE c.enrollment_id = ANY($1::uuid[]) AND (c.revoked_at IS NULL OR e.state = 'ended')
ORDER BY c.issued_at DESC
"""
_MAX_PINS = 8


async def read(tx: Connection, devices: Sequence[UUID]) -> list[DeviceState]:
    """The state of these devices, in the order of their ids; call with their rows locked."""
    rows = await tx.fetch(DEVICES, list(devices))
    enrollments = [row["enrollment_id"] for row in rows if row["enrollment_id"]]
    channels: dict[UUID, list[Record]] = defaultdict(list)
    for channel in await tx.fetch(CHANNELS, enrollments):
        channels[channel["enrollment_id"]].append(channel)
    pins: dict[UUID, list[str]] = defaultdict(list)
    for pin in await tx.fetch(PINS, enrollments):
        pins[pin["enrollment_id"]].append(pin["pin"])
    by_device: dict[UUID, list[Record]] = defaultdict(list)
    for row in rows:
        by_device[row["device_id"]].append(row)
    return [_device(of_device, channels, pins) for of_device in by_device.values()]


def _device(
    rows: list[Record], channels: dict[UUID, list[Record]], pins: dict[UUID, list[str]]
) -> DeviceState:
    first = rows[0]
    return DeviceState(
        device_id=first["device_id"],
        platform=first["platform"],
        ownership=first["ownership"],
        name=first["name"],
        serial=first["serial"],
        model=first["model"],
        product=first["product"],
        os_version=first["os_version"],
        build=first["build"],
        user=first["user_name"],
        tags=first["tags"],
        current_enrollment=first["current_enrollment"],
        enrollments=[
            _enrollment(row, channels[row["enrollment_id"]], pins[row["enrollment_id"]])
            for row in rows
            if row["enrollment_id"]
        ],
    )


def _enrollment(row: Record, channels: list[Record], pins: list[str]) -> EnrollmentState:
    return EnrollmentState(
        enrollment_id=row["enrollment_id"],
        generation=row["generation"],
        state=row["state"],
        mode=row["mode"],
        supervised=row["supervised"],
        access_rights=row["access_rights"],
        udid=row["udid"],
        pins=pins[:_MAX_PINS],
        channels=[_channel(row, channel) for channel in channels],
        authenticated_at=row["authenticated_at"],
        enrolled_at=row["enrolled_at"],
        ended_at=row["ended_at"],
        end_reason=row["end_reason"],
    )


def _channel(enrollment: Record, channel: Record) -> ChannelState:
    """Tokens leave only while they may be used: push with an open channel, unlock with trust."""
    is_open = (
        enrollment["state"] == "enrolled" and channel["open_generation"] == enrollment["generation"]
    )
    trusted = enrollment["state"] in ("pending", "enrolled")
    return ChannelState(
        channel_id=channel["channel_id"],
        kind=channel["kind"],
        user_key=channel["user_key"],
        user_name=channel["user_name"],
        open=is_open,
        push_topic=channel["push_topic"] if is_open else None,
        push=channel["push_sealed"] if is_open else None,
        push_updated_at=channel["push_updated_at"],
        unlock_token=channel["unlock_sealed"] if trusted else None,
    )
