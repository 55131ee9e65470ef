"""One event about many devices: stored once, and sent as one event to each of them.

A command to 100,000 devices tells each of them the same but for two ids. Making, storing, reading
and deleting each of these events by itself costs several times what sending them does.
Not for compacted topics: after a crash a copy may be sent again behind a later event about the same
device. Everywhere else the inbox knows it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Any, Final, TypeAlias
from uuid import UUID

from shared.db.pool import Record

Sendable: TypeAlias = Record | dict[str, Any]
"""A row of the outbox, or one of the events that it stands for."""

DEVICE: Final = UUID(int=0)
CHANNEL: Final = UUID(int=2**128 - 1)
"""What stands in a pattern for the device and the channel."""

# One row of `source` has the shard, a pattern's parts, the devices of that shard with their
# channels, and its place among the others.
EMIT: Final = f"""
INSERT INTO outbox (shard, aggregatetype, aggregateid, type, payload, event_id, occurred_at,
                    correlation_id, causation_id, traceparent, device_ids, channel_ids)
SELECT shard, topic, '{DEVICE}', type, payload::json, event_id, occurred_at, correlation_id,
       causation_id, traceparent, device_ids, channel_ids
FROM {{source}} ORDER BY place
"""

_DEVICE: Final = str(DEVICE)
_CHANNEL: Final = str(CHANNEL)
_VARIANT: Final = "8"
_HALF: Final = 16


def check(payload: str) -> None:
    """Raise ValueError unless the payload names DEVICE once and CHANNEL once."""
    if payload.count(_DEVICE) != 1 or payload.count(_CHANNEL) != 1:
        raise ValueError("the event does not name its device once and its channel once")


def events(row: Record) -> Iterator[Sendable]:
    """Return the row of each event that a row of the outbox stands for, in its lists' order."""
    if row["device_ids"] is None:
        yield row
        return
    head = row["event_id"].hex[:_HALF] + _VARIANT
    salt, common = row["event_id"].bytes, dict(row)
    for device, channel in zip(row["device_ids"], row["channel_ids"], strict=True):
        key = str(device)
        # The same for each repeat: the inbox has to know it. It looks like any UUIDv7.
        chance = hashlib.blake2b(device.bytes, key=salt, digest_size=8).hexdigest()
        payload = row["payload"].replace(_DEVICE, key).replace(_CHANNEL, str(channel))
        yield common | {
            "aggregateid": key,
            "payload": payload,
            "event_id": UUID(head + chance[1:]),
        }
