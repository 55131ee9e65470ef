"""Events as consumers get them, for tests that have no Kafka."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime
from typing import TypeVar

from shared.bus import envelope
from shared.events import Event, Meta, uuid7
from shared.events.base import Place
from shared.events.registry import topic_of

E = TypeVar("E", bound=Event)
_next_sequence = itertools.count(1)


def travelled(
    *events: E, service: str, sequence: int | None = None, at: datetime | None = None
) -> list[E]:
    """Return the events as received from `service`: encoded, decoded, with an envelope each.

    Sequence numbers go up from `sequence`, else from the last one used in this process. They
    happened `at` that time, else now.
    Raises ValueError when the service does not write such events.
    """
    numbers = _next_sequence if sequence is None else itertools.count(sequence)
    return [_travel(event, service, next(numbers), at) for event in events]


def _travel(event: E, service: str, sequence: int, at: datetime | None) -> E:
    topic = topic_of(type(event), service)
    meta = Meta(
        event_id=uuid7(),
        sequence=sequence,
        time=at or datetime.now(UTC),
        source=envelope.source_of(service),
        correlation_id=event.cause.correlation_id if event.cause else str(uuid7()),
        causation_id=str(event.cause.event_id) if event.cause else None,
    )
    headers = envelope.encode(event.TYPE, event.subject, meta)
    arrived = envelope.decode(headers, event.model_dump_json().encode())
    if not isinstance(arrived, type(event)):
        raise TypeError(f"{event.TYPE} came back as {type(arrived).__name__}")
    return arrived.lying(Place(topic, 0, sequence))
