"""The transaction in which events take effect: locks, inbox, handlers."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from uuid import UUID

from shared.bus import metrics
from shared.bus.handlers import Handlers
from shared.db.locks import lock_devices
from shared.db.pool import Connection, Pool, transaction
from shared.events import Event
from shared.events.registry import TOPICS

RECORD = """
INSERT INTO inbox (event_id) SELECT * FROM unnest($1::uuid[])
ON CONFLICT DO NOTHING RETURNING event_id
"""
_COMPACTED = frozenset(topic.name for topic in TOPICS.values() if topic.compacted)


async def apply(pool: Pool, service: str, handlers: Handlers, events: Sequence[Event]) -> None:
    """Let events take effect, all or none; events without a handler are left out.

    The events need their envelopes. One that was applied before has no second effect, except on
    compacted topics, where its handler guards by `event.meta.sequence`.
    """
    wanted = [event for event in events if type(event) in handlers]
    if not wanted:
        return
    async with transaction(pool) as tx:
        fresh = await apply_in(tx, handlers, wanted)
    metrics.DUPLICATES.labels(service).inc(len(wanted) - len(fresh))
    for kind, count in Counter(event.TYPE for event in fresh).items():
        metrics.HANDLED.labels(service, kind).inc(count)


async def apply_in(tx: Connection, handlers: Handlers, events: Sequence[Event]) -> list[Event]:
    """Apply inside the caller's transaction and return the events that were not duplicates."""
    await lock_devices(tx, {device for event in events for device in event.devices})
    fresh = await _record(tx, events)
    for model, of_type in rounds(newest(fresh)):
        await handlers[model](tx, of_type)
    return fresh


def newest(events: Sequence[Event]) -> list[Event]:
    """Leave out states that a later one in the same batch replaces whole, as compaction may."""
    last: dict[tuple[type[Event], str], int] = {}
    for place, event in enumerate(events):
        if is_compacted(event):
            key = type(event), event.subject
            before = last.get(key)
            # By sequence, not by place: a repeat of an old state may come after a new one.
            if before is None or events[before].meta.sequence <= event.meta.sequence:
                last[key] = place
    kept = set(last.values())
    return [e for place, e in enumerate(events) if place in kept or not is_compacted(e)]


def rounds(events: Sequence[Event]) -> Iterator[tuple[type[Event], list[Event]]]:
    """Group events for handlers: in each call one type, each key at most once, keys in order.

    The n-th event of a key is in the n-th round, whatever its type. Those that only add are all in
    the first.
    """
    seen: dict[str, int] = defaultdict(int)
    grouped: dict[tuple[int, type[Event]], list[Event]] = defaultdict(list)
    for event in events:
        if event.ADDS:
            grouped[0, type(event)].append(event)
            continue
        grouped[seen[event.subject], type(event)].append(event)
        seen[event.subject] += 1
    # Sorting is stable: inside a round, types stay in the order they came in.
    for (_, model), of_type in sorted(grouped.items(), key=lambda group: group[0][0]):
        yield model, of_type


def is_compacted(event: Event) -> bool:
    """Tell whether each event replaces the whole state of its subject."""
    return event.TOPIC in _COMPACTED


async def _record(tx: Connection, events: Sequence[Event]) -> list[Event]:
    """Write the inbox; return what is new, in order. A repeat inside the batch counts once."""
    ids = sorted({event.meta.event_id for event in events if not is_compacted(event)})
    new: set[UUID] = set()
    if ids:
        new = {row["event_id"] for row in await tx.fetch(RECORD, ids)}
    fresh = []
    for event in events:
        if is_compacted(event):
            fresh.append(event)
        elif event.meta.event_id in new:
            new.remove(event.meta.event_id)
            fresh.append(event)
    return fresh
