"""Devices as enrollment tells of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from shared.db.pool import Connection

REPLACE = """
UPDATE device SET
    sequence = news.sequence, platform = news.platform,
    enrollment_id = news.enrollment_id, managed = news.managed
FROM unnest($1::uuid[], $2::bigint[], $3::text[], $4::uuid[], $5::boolean[])
     AS news (device_id, sequence, platform, enrollment_id, managed)
WHERE device.device_id = news.device_id AND device.sequence < news.sequence
"""
FORGET = """
DELETE FROM device USING unnest($1::uuid[], $2::bigint[]) AS gone (device_id, sequence)
WHERE device.device_id = gone.device_id AND device.sequence < gone.sequence
"""


@dataclass(frozen=True)
class Device:
    device_id: UUID
    sequence: int
    platform: str
    enrollment_id: UUID | None
    managed: bool


async def replace(tx: Connection, devices: Sequence[Device]) -> None:
    """Take over what is newer than what is known; the rows exist, locked by the runner."""
    if devices:
        await tx.execute(
            REPLACE,
            [one.device_id for one in devices],
            [one.sequence for one in devices],
            [one.platform for one in devices],
            [one.enrollment_id for one in devices],
            [one.managed for one in devices],
        )


async def forget(tx: Connection, gone: Sequence[tuple[UUID, int]]) -> None:
    """(device, sequence of the event that deleted it) pairs."""
    if gone:
        await tx.execute(FORGET, *zip(*gone, strict=True))
