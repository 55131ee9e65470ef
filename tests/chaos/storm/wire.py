"""Everything that ever travelled: each topic read on from where the last look ended."""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition

from shared.bus.kafka import KafkaAccess, stop
from shared.events.registry import TOPICS

_TIMES = frozenset({"evaluated_at", "finished_at", "observed_at", "sent_at"})


@dataclass(frozen=True)
class Travelled:
    """One record of a topic."""

    topic: str
    type: str
    event_id: str
    key: str
    sequence: int
    source: str
    cause: str | None
    value: bytes

    @cached_property
    def body(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.value)
        return found

    @property
    def digest(self) -> str:
        """Of what it says, its times apart: twice the same effect says the same twice."""
        said = {name: value for name, value in self.body.items() if name not in _TIMES}
        return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()[:16]


@dataclass
class Wire:
    """Reads past the proxies, as the administrator."""

    access: KafkaAccess
    records: dict[TopicPartition, list[Travelled]] = field(default_factory=dict)
    _read_to: dict[TopicPartition, int] = field(default_factory=dict)

    async def catch_up(self) -> None:
        """Read what came since the last time, to the present ends."""
        consumer = self.access.consumer(None)
        await consumer.start()
        try:
            places = await _places(consumer)
            consumer.assign(places)
            ends = await consumer.end_offsets(places)
            for place in places:
                consumer.seek(place, self._read_to.get(place, 0))
            for place in places:
                await self._read(consumer, place, ends[place])
        finally:
            await stop(consumer)

    async def ends(self) -> dict[TopicPartition, int]:
        """Where the topics end now."""
        consumer = self.access.consumer(None)
        await consumer.start()
        try:
            found: dict[TopicPartition, int] = await consumer.end_offsets(await _places(consumer))
            return found
        finally:
            await stop(consumer)

    async def _read(self, consumer: AIOKafkaConsumer, place: TopicPartition, end: int) -> None:
        kept = self.records.setdefault(place, [])
        while await consumer.position(place) < end:
            batches = await consumer.getmany(place, timeout_ms=1000)
            kept += [_record(record) for batch in batches.values() for record in batch]
        self._read_to[place] = await consumer.position(place)

    def all(self) -> Iterator[Travelled]:
        for records in self.records.values():
            yield from records

    def of_type(self, *types: str) -> dict[str, Travelled]:
        """Events by id: a repeat keeps its id."""
        return {record.event_id: record for record in self.all() if record.type in types}

    def newest_of(self, topic: str) -> dict[str, Travelled]:
        """The record with the highest sequence of each key."""
        found: dict[str, Travelled] = {}
        for record in self.all():
            if record.topic == topic:
                last = found.get(record.key)
                if last is None or last.sequence <= record.sequence:
                    found[record.key] = record
        return found

    def outlived(self, topic: str) -> list[str]:
        """Keys of a compacted topic whose last record, the one that stays, is not the newest."""
        newest = self.newest_of(topic)
        last: dict[str, Travelled] = {}
        for place, records in self.records.items():
            last |= {record.key: record for record in records if place.topic == topic}
        return [key for key, record in last.items() if record.sequence < newest[key].sequence]

    def out_of_order(self) -> list[str]:
        """Keys whose events, at their first appearance in a partition, did not rise."""
        wrong: list[str] = []
        for place, records in self.records.items():
            wrong += [f"{place.topic}/{place.partition}: {one}" for one in _falls(records)]
        return wrong


def _falls(records: Sequence[Travelled]) -> list[str]:
    seen: set[str] = set()
    last: dict[tuple[str, str], Travelled] = {}
    wrong = []
    for record in records:
        if record.event_id in seen:
            continue  # at least once: a repeat after a crash keeps its id
        seen.add(record.event_id)
        before = last.get((record.source, record.key))
        if before and record.sequence <= before.sequence:
            wrong.append(
                f"{record.key}: {record.type} {record.event_id} ({record.sequence}) came after "
                f"{before.type} {before.event_id} ({before.sequence})"
            )
        last[record.source, record.key] = record
    return wrong


async def _places(consumer: AIOKafkaConsumer) -> list[TopicPartition]:
    """Every partition of every topic of ours."""
    found = defaultdict(set)
    client = consumer._client
    await client.force_metadata_update()
    for topic in TOPICS:
        found[topic] = client.cluster.partitions_for_topic(topic) or set()
    missing = [topic for topic, numbers in found.items() if not numbers]
    if missing:
        raise ConnectionError(f"the broker does not tell of {missing}")
    return [TopicPartition(topic, n) for topic, numbers in found.items() for n in sorted(numbers)]


def _record(record: Any) -> Travelled:
    headers = {name: value.decode() for name, value in record.headers}
    return Travelled(
        topic=record.topic,
        type=headers["ce_type"],
        event_id=headers["ce_id"],
        key=(record.key or b"").decode(),
        sequence=int(headers["ce_sequence"]),
        source=headers["ce_source"],
        cause=headers.get("ce_causationid"),
        value=record.value or b"",
    )
