"""One event about many devices: made once, and the database fills in whom each copy is about.

A command to 100,000 devices tells each of them the same but for two ids. Making, checking and
encoding every event by itself costs several times what storing it does.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from uuid import UUID

from shared.bus import outbox
from shared.db.pool import Connection
from shared.events import Event, uuid7

# The payload comes in the three pieces around the two ids. The id of each event begins like a
# UUIDv7 of this moment ($7) and ends like a random one, whose variant stands at the same place.
EMIT = """
WITH emitted AS (
    INSERT INTO outbox (shard, aggregatetype, aggregateid, type, payload, event_id, occurred_at,
                        correlation_id, causation_id, traceparent)
    SELECT shard, $8, device_id, $9, ($4 || device_id || $5 || channel_id || $6)::json,
           ($7 || substr(gen_random_uuid()::text, 16))::uuid, $10, $11, $12, $13
    FROM unnest($1::smallint[], $2::text[], $3::uuid[])
         WITH ORDINALITY AS alike (shard, device_id, channel_id, place)
    ORDER BY place
)
SELECT substring(current_schema()::text FROM 8)
"""
_BEFORE_CHANCE = 15


async def emit_alike(tx: Connection, pattern: Event, about: Sequence[tuple[UUID, UUID]]) -> None:
    """Emit `pattern` about each (device, channel), as `outbox.emit` would; the devices are locked.

    The pattern's own device and channel are left out: they must occur nowhere else in it. It names
    its cause.
    """
    row = outbox.row_of(pattern)
    head, between, tail = _pieces(pattern, row.payload)
    devices = [str(device) for device, _ in about]
    service = await tx.fetchval(
        EMIT,
        [outbox.shard_of(device) for device in devices],
        devices,
        [channel for _, channel in about],
        head,
        between,
        tail,
        str(uuid7())[:_BEFORE_CHANCE],
        row.topic,
        row.type,
        datetime.now(UTC),
        row.correlation_id,
        row.causation_id,
        row.traceparent,
    )
    outbox.announce(tx, service, {row.topic})


def _pieces(pattern: Event, payload: str) -> tuple[str, str, str]:
    """Cut the pattern's payload around its device and its channel."""
    names = (getattr(pattern, "device_id", None), getattr(pattern, "channel_id", None))
    head, found, rest = payload.partition(str(names[0]))
    between, too, tail = rest.partition(str(names[1]))
    if not found or not too or any(str(name) in head + between + tail for name in names):
        raise ValueError(f"{pattern.TYPE} does not name its device once and then its channel")
    return head, between, tail
