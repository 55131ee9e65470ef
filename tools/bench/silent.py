"""Devices that never speak: rows in command_queue's projection, as device-state events make them.

They are targets of commands, and nothing else: no certificate, no request. A hundred thousand of
them are there in seconds.
"""

from __future__ import annotations

from uuid import UUID

from shared.db.pool import Connection

# The projection must look as if it had grown: ids are of now, and nothing lies in their order.
ADD = """
WITH silent AS (
    SELECT gen_random_uuid() AS device_id, gen_random_uuid() AS enrollment_id,
           gen_random_uuid() AS channel_id
    FROM generate_series(1, $1)
), device AS (
    INSERT INTO device (device_id, known, sequence, platform, ownership, os_version,
                        current_enrollment)
    SELECT device_id, true, 1, 'ios', 'corporate', '18.1', enrollment_id FROM silent
), enrollment AS (
    INSERT INTO enrollment (enrollment_id, device_id, generation, state, mode, supervised,
                            access_rights, udid)
    SELECT enrollment_id, device_id, 1, 'enrolled', 'device', true, 8191, device_id::text
    FROM silent
), channel AS (
    INSERT INTO channel (channel_id, device_id, enrollment_id, kind, user_key, open)
    SELECT channel_id, device_id, enrollment_id, 'device', '', true FROM silent
)
SELECT device_id, channel_id FROM silent
"""


async def add(connection: Connection, count: int) -> dict[UUID, UUID]:
    """Make `count` enrolled iPhones; return the channel of each by device."""
    rows = await connection.fetch(ADD, count)
    await connection.execute("ANALYZE device, enrollment, channel")
    return {UUID(int=row["device_id"].int): UUID(int=row["channel_id"].int) for row in rows}
