"""Events as rows of the transaction that made them true; the relay sends them."""

from __future__ import annotations

import zlib
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import NamedTuple
from uuid import UUID

import cramjam

from shared.bus import waking
from shared.bus.context import correlation_id
from shared.bus.envelope import source_of
from shared.bus.tracing import current_traceparent
from shared.db.pool import Connection, Record, after_commit
from shared.events import Event, Meta, uuid7
from shared.events.registry import EVENTS, TOPICS

SHARDS = 16
MAX_COMPRESSED = 900 * 1024
MAX_BYTES = 8 * 1024 * 1024
"""Above this not even compression is tried: send ordered parts."""

# The order of the arrays becomes the order of the ids. A topic name may hold the writer's name,
# which is known from the schema: nobody writes for another service.
EMIT = """
WITH emitted AS (
    INSERT INTO outbox (shard, aggregatetype, aggregateid, type, payload, event_id, occurred_at,
                        correlation_id, causation_id, traceparent)
    SELECT shard, replace(topic, '{service}', substring(current_schema()::text FROM 8)), key, type,
           payload, event_id, $10, correlation_id, causation_id, traceparent
    FROM unnest($1::smallint[], $2::text[], $3::text[], $4::text[], $5::text[], $6::uuid[],
                $7::text[], $8::text[], $9::text[])
         WITH ORDINALITY AS event (shard, topic, key, type, payload, event_id, correlation_id,
                                   causation_id, traceparent, place)
    ORDER BY place
)
SELECT substring(current_schema()::text FROM 8)
"""
READ = """
SELECT id + ((SELECT number FROM epoch)::bigint << 40) AS sequence, type, payload, event_id,
       occurred_at, correlation_id, causation_id, traceparent, aggregateid
FROM outbox ORDER BY id
"""
NEW_EPOCH = "UPDATE epoch SET number = number + 1 RETURNING number"


class EventTooLargeError(ValueError):
    """An event would not fit through Kafka: it must be sent as ordered parts."""


class ForeignTopicError(ValueError):
    """A service tried to write a topic of another: each topic has exactly one writer."""


async def emit(tx: Connection, events: Iterable[Event]) -> None:
    """Put events into the outbox, in this order, inside the caller's transaction.

    The rows of the devices concerned must be locked before: ids then rise in commit order for each
    of them. Correlation, cause and trace come from `event.because(…)` or `event.along(…)`, else
    from what is in hand.
    Raises EventTooLargeError and ForeignTopicError, both before anything is sent.
    """
    rows = [row_of(event) for event in events]
    if not rows:
        return
    service = await tx.fetchval(EMIT, *zip(*rows, strict=True), datetime.now(UTC))
    announce(tx, service, {row.topic for row in rows})


def announce(tx: Connection, service: str, topics: Iterable[str]) -> None:
    """Wake the relay once `tx` has committed; raises ForeignTopicError for others' topics."""
    for topic in topics:
        owner = TOPICS[topic.format(service=service)].owner
        if owner != service:
            raise ForeignTopicError(f"{topic} is written by {owner}, not by {service}")
    after_commit(tx, waking.waker(service))


async def read(connection: Connection, service: str) -> list[Event]:
    """Return what waits, in id order, as the events a consumer would receive."""
    rows = await connection.fetch(READ)
    return [received(row, service) for row in rows]


async def new_epoch(tx: Connection) -> int:
    """Start sequence numbers above all that this schema ever gave out: after each restore."""
    number: int = await tx.fetchval(NEW_EPOCH)
    return number


def received(row: Record, service: str) -> Event:
    """Return the event of an outbox row with the envelope it will travel in."""
    meta = Meta(
        event_id=row["event_id"],
        sequence=row["sequence"],
        time=row["occurred_at"],
        source=source_of(service),
        correlation_id=row["correlation_id"],
        causation_id=row["causation_id"],
        traceparent=row["traceparent"],
    )
    return EVENTS[row["type"]].model_validate_json(row["payload"]).received(meta)


def shard_of(key: str) -> int:
    """The shard of a subject: the same in every process and for ever."""
    return zlib.crc32(key.encode()) % SHARDS


class Row(NamedTuple):
    """What is stored of an event, in the order of EMIT."""

    shard: int
    topic: str
    key: str
    type: str
    payload: str
    event_id: UUID
    correlation_id: str
    causation_id: str | None
    traceparent: str | None


def row_of(event: Event) -> Row:
    """Return what is stored of an event; raises EventTooLargeError."""
    payload = event.model_dump_json()
    _check_size(event, payload)
    event_id: UUID = uuid7()
    cause = event.cause
    correlation, traceparent = event.trail
    if cause:
        correlation = correlation or cause.correlation_id or str(cause.event_id)
    return Row(
        shard_of(event.subject),
        event.TOPIC,
        event.subject,
        event.TYPE,
        payload,
        event_id,
        correlation or correlation_id.get() or str(event_id),
        str(cause.event_id) if cause else None,
        traceparent or (cause.traceparent if cause else None) or current_traceparent(),
    )


def _check_size(event: Event, payload: str) -> None:
    if len(payload) <= MAX_COMPRESSED // 4:  # even if every character takes four bytes
        return
    data = payload.encode()
    size = len(data)
    if size > MAX_COMPRESSED and size <= MAX_BYTES:
        size = len(cramjam.zstd.compress(data))
    if size > MAX_COMPRESSED:
        raise EventTooLargeError(
            f"{event.TYPE} about {event.subject} takes {size} bytes, {MAX_COMPRESSED} at most "
            "compressed: send ordered parts"
        )
