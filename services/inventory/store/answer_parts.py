"""Slices of answers that were too large for one event."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from shared.db.pool import Connection
from shared.events.commands import CommandAnswerPart

KEEP = """
INSERT INTO answer_part (command_id, device_id, part, data)
SELECT * FROM unnest($1::uuid[], $2::uuid[], $3::int[], $4::text[])
ON CONFLICT (command_id, device_id, part) DO UPDATE SET data = excluded.data
"""

TAKE = """
DELETE FROM answer_part USING unnest($1::uuid[], $2::uuid[]) AS wanted (command_id, device_id)
WHERE answer_part.command_id = wanted.command_id AND answer_part.device_id = wanted.device_id
RETURNING answer_part.command_id, answer_part.device_id, part, data
"""

DROP_OLD = """
DELETE FROM answer_part WHERE (command_id, device_id, part) IN (
    SELECT command_id, device_id, part FROM answer_part WHERE received_at < $1 LIMIT $2)
"""

Key = tuple[UUID, UUID]
"""(command, device)"""


async def keep(tx: Connection, parts: Sequence[CommandAnswerPart]) -> None:
    await tx.execute(
        KEEP,
        [part.command_id for part in parts],
        [part.device_id for part in parts],
        [part.part for part in parts],
        [part.data for part in parts],
    )


async def take(tx: Connection, keys: Sequence[Key]) -> dict[Key, dict[int, str]]:
    """Remove and return the slices of these answers, by number."""
    found: dict[Key, dict[int, str]] = {}
    rows = await tx.fetch(TAKE, [key[0] for key in keys], [key[1] for key in keys])
    for row in rows:
        found.setdefault((row["command_id"], row["device_id"]), {})[row["part"]] = row["data"]
    return found


async def drop_old(tx: Connection, before: datetime, limit: int) -> int:
    """Forget slices whose answer never came to an end; returns how many."""
    return int((await tx.execute(DROP_OLD, before, limit)).rpartition(" ")[2])
