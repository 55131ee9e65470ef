"""Devices that never speak: rows in command_queue's projection, as device-state events make them.

They are targets of commands, and nothing else: no certificate, no request. A hundred thousand of
them are there in seconds.
"""

from __future__ import annotations

from uuid import UUID

from services.command_queue.apple import eligibility
from shared.bus import outbox
from shared.db.pool import Connection

# The projection must look as if it had grown: ids are of now, and nothing lies in their order.
ADD = """
WITH silent AS (
    SELECT gen_random_uuid() AS device_id, gen_random_uuid() AS enrollment_id,
           gen_random_uuid() AS channel_id
    FROM generate_series(1, $1)
), device AS (
    INSERT INTO device (device_id, known, sequence, platform, ownership, os_version,
                        current_enrollment, channel_id, generation, traits, plain_after)
    SELECT device_id, true, 1, 'ios', 'corporate', '18.1', enrollment_id, channel_id, 1, $2,
           nextval('ordinal')
    FROM silent
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
SHARE_OUT = """
UPDATE device SET outbox_shard = told.shard
FROM unnest($1::uuid[], $2::smallint[]) AS told (device_id, shard)
WHERE device.device_id = told.device_id
"""
_TRAITS = eligibility.traits(
    eligibility.Target(
        "ios",
        "18.1",
        "corporate",
        "device",
        supervised=True,
        access_rights=8191,
        user_channel=False,
    )
)


async def add(connection: Connection, count: int) -> dict[UUID, UUID]:
    """Make `count` enrolled iPhones; return the channel of each by device."""
    rows = await connection.fetch(ADD, count, _TRAITS)
    devices = [row["device_id"] for row in rows]
    shards = [outbox.shard_of(str(device)) for device in devices]
    await connection.execute(SHARE_OUT, devices, shards)
    await connection.execute("ANALYZE device, enrollment, channel")
    return {UUID(int=row["device_id"].int): UUID(int=row["channel_id"].int) for row in rows}
