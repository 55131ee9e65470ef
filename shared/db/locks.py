"""Row locks, taken before anything else in a transaction and always in the same order."""

from __future__ import annotations

import operator
from collections.abc import Iterable
from uuid import UUID

from shared.db.pool import Connection

# Sorted, so that two transactions with devices in common wait for each other instead of dying.
MAKE_SHELLS = """
INSERT INTO device (device_id)
SELECT id FROM unnest($1::uuid[]) WITH ORDINALITY AS wanted (id, place) ORDER BY place
ON CONFLICT DO NOTHING
"""
LOCK = """
SELECT FROM device WHERE device_id = ANY($1::uuid[]) ORDER BY device_id FOR NO KEY UPDATE
"""
# All or nothing: who makes shell rows must not hold a lock yet, or waits for one who waits for it.
LOCK_IF_ALL_ARE_THERE = """
SELECT FROM device WHERE device_id = ANY($1::uuid[])
  AND (SELECT count(*) FROM device WHERE device_id = ANY($1::uuid[])) = cardinality($1::uuid[])
ORDER BY device_id FOR NO KEY UPDATE
"""
IN_ORDER = operator.attrgetter("int")
"""As PostgreSQL sorts them; comparing UUIDs themselves takes four times as long."""


async def lock_devices(tx: Connection, device_ids: Iterable[UUID]) -> None:
    """Hold the rows of these devices until the transaction ends.

    A device not heard of yet gets a shell row: its events may come before it is introduced.
    """
    ordered = sorted(set(device_ids), key=IN_ORDER)
    if not ordered:
        return
    if await tx.execute(LOCK_IF_ALL_ARE_THERE, ordered) != f"SELECT {len(ordered)}":
        await tx.execute(MAKE_SHELLS, ordered)
        await tx.execute(LOCK, ordered)


async def lock_known_devices(tx: Connection, device_ids: Iterable[UUID]) -> None:
    """Like `lock_devices`, but no shell rows are made: who is not there is not held.

    For what people do to devices that must be there. Beside transactions that delete devices it
    cannot die: one that finds a row deleted while it waits goes on, and inserts nothing.
    """
    ordered = sorted(set(device_ids), key=IN_ORDER)
    if ordered:
        await tx.execute(LOCK, ordered)
