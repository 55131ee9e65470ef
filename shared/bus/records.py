"""Records of Kafka on their way to becoming events."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Protocol

from shared.bus import envelope
from shared.bus.applying import is_compacted
from shared.bus.handlers import Handlers, Poison
from shared.events import Event, uuid7_time
from shared.events.base import Place
from shared.events.registry import EVENTS, TOPICS

KEPT = timedelta(days=45)
"""How long the inbox remembers: longer than any topic keeps."""
AHEAD = timedelta(minutes=5)


class Record(Protocol):
    """What aiokafka's ConsumerRecord has, as far as we use it."""

    @property
    def topic(self) -> str: ...
    @property
    def partition(self) -> int: ...
    @property
    def offset(self) -> int: ...
    @property
    def timestamp(self) -> int: ...
    @property
    def key(self) -> bytes | None: ...
    @property
    def value(self) -> bytes | None: ...
    @property
    def headers(self) -> Sequence[tuple[str, bytes]]: ...


@dataclass(frozen=True)
class Arrival:
    """A record and the event it holds."""

    record: Record
    event: Event


def concerns(record: Record, handlers: Handlers) -> bool | None:
    """Tell whether a handler wants this record; None for a type this release does not know."""
    event_type = envelope.type_of(record.headers)
    if event_type is None:
        # Without a type it is no event; without a value it only deletes its key from the topic.
        return record.value is not None
    model = EVENTS.get(event_type)
    return None if model is None else model in handlers


def read(record: Record) -> Event:
    """Return the record's event; raises Poison for what cannot be one, comes from another time or
    from somebody who does not write such events.

    The inbox forgets: an event older than it remembers could take effect a second time.
    """
    place = Place(record.topic, record.partition, record.offset)
    event = envelope.decode(record.headers, record.value).lying(place)
    _check_writer(record.topic, event)
    if is_compacted(event):
        return event
    if event.meta.event_id.version != 7:  # noqa: PLR2004 - RFC 9562
        raise Poison("its id is no UUIDv7", reason="malformed")
    age = datetime.now(UTC) - uuid7_time(event.meta.event_id)
    if age > KEPT:
        raise Poison(f"it is older than {KEPT.days} days", reason="too_old")
    if -age > AHEAD:
        raise Poison("its id lies in the future", reason="from_the_future")
    return event


def _check_writer(name: str, event: Event) -> None:
    """The broker knows who may write to a topic, and nothing of what is in it: a service that was
    taken over could else tell what only another may.
    """
    topic = TOPICS.get(name)
    if topic is None or event.TOPIC.format(service=topic.owner) != name:
        raise Poison(f"{event.TYPE} does not belong on {name}", reason="misplaced")
    if event.meta.source != envelope.source_of(topic.owner):
        raise Poison(f"its source does not write {name}", reason="misplaced")
