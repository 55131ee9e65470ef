"""Everything enrollment knows of a device, as one event that replaces all before it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection
from uuid import UUID

from shared.db.pool import Connection, Record
from shared.events.device_state import ChannelState, DeviceState, EnrollmentState

# A row for each channel of each enrollment of each device. The current enrollment first, then those
# that wait, then the newest that ended: what is cut off at the limit can never be served again. The
# certificates of an ended enrollment stay named: its requests are refused, not unknown.
READ = """
SELECT d.device_id, d.platform, d.ownership, coalesce(d.name, d.reported_name) AS name, d.serial,
       d.model, d.product, d.os_version, d.build, d.user_name, d.tags, d.current_enrollment,
       e.place, e.enrollment_id, e.generation, e.state, e.mode, e.supervised, e.access_rights,
       e.udid, e.authenticated_at, e.enrolled_at, e.ended_at, e.end_reason, e.pins,
       c.channel_id, c.kind, c.user_key, c.user_name AS channel_user, c.open_generation,
       c.push_topic, c.push_sealed, c.push_updated_at, c.unlock_sealed
FROM device AS d
LEFT JOIN LATERAL (
    SELECT enrollment.*, ARRAY(
               SELECT encode(sha256, 'hex') FROM certificate
               WHERE certificate.enrollment_id = enrollment.enrollment_id
                 AND (revoked_at IS NULL OR enrollment.state = 'ended')
               ORDER BY issued_at DESC LIMIT 8) AS pins,
           row_number() OVER (
               ORDER BY enrollment_id IS NOT DISTINCT FROM d.current_enrollment DESC,
                        state = 'ended', authenticated_at DESC) AS place
    FROM enrollment WHERE enrollment.device_id = d.device_id ORDER BY place LIMIT 12
) AS e ON true
LEFT JOIN channel AS c ON c.enrollment_id = e.enrollment_id
WHERE d.device_id = ANY($1::uuid[])
ORDER BY d.device_id, e.place, c.channel_id
"""


async def read(tx: Connection, devices: Collection[UUID]) -> list[DeviceState]:
    """The state of these devices, in the order of their ids; call with their rows locked."""
    by_device: dict[UUID, dict[UUID | None, list[Record]]] = defaultdict(lambda: defaultdict(list))
    for row in await tx.fetch(READ, list(devices)):
        by_device[row["device_id"]][row["enrollment_id"]].append(row)
    return [_device(list(of_device.values())) for of_device in by_device.values()]


def _device(enrollments: list[list[Record]]) -> DeviceState:
    """`enrollments`: the rows of each; one row without an enrollment when there is none."""
    first = enrollments[0][0]
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
        enrollments=[_enrollment(rows) for rows in enrollments if rows[0]["enrollment_id"]],
    )


def _enrollment(rows: list[Record]) -> EnrollmentState:
    """`rows`: one for each channel; one without a channel when there is none."""
    first = rows[0]
    return EnrollmentState(
        enrollment_id=first["enrollment_id"],
        generation=first["generation"],
        state=first["state"],
        mode=first["mode"],
        supervised=first["supervised"],
        access_rights=first["access_rights"],
        udid=first["udid"],
        pins=first["pins"],
        channels=[_channel(row) for row in rows if row["channel_id"]],
        authenticated_at=first["authenticated_at"],
        enrolled_at=first["enrolled_at"],
        ended_at=first["ended_at"],
        end_reason=first["end_reason"],
    )


def _channel(row: Record) -> ChannelState:
    """Tokens leave only while they may be used: push with an open channel, unlock with trust."""
    is_open = row["state"] == "enrolled" and row["open_generation"] == row["generation"]
    trusted = row["state"] in ("pending", "enrolled")
    return ChannelState(
        channel_id=row["channel_id"],
        kind=row["kind"],
        user_key=row["user_key"],
        user_name=row["channel_user"],
        open=is_open,
        push_topic=row["push_topic"] if is_open else None,
        push=row["push_sealed"] if is_open else None,
        push_updated_at=row["push_updated_at"],
        unlock_token=row["unlock_sealed"] if trusted else None,
    )
