"""Turning devices' answers into facts and lists, and telling the others only what changed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, cast

import orjson

from services.inventory import announcements, apple, metrics
from services.inventory.facts import LISTS
from services.inventory.readings import Reading, UnreadableError
from services.inventory.refresh import after_configuration, is_answer
from services.inventory.store import answer_parts, devices, facts, items, reports
from shared.bus import outbox
from shared.db.pool import Connection
from shared.events.base import Event
from shared.events.commands import CommandAnswerPart, CommandFinished
from shared.events.inventory import Section


@dataclass(frozen=True)
class Answer:
    """A readable answer with the event that brought it."""

    event: CommandFinished
    section: Section
    reading: Reading

    def report(self) -> reports.Report:
        return reports.Report(
            device_id=self.event.device_id,
            section=self.section,
            sequence=self.event.meta.sequence,
            observed_at=self.event.finished_at,
            enrollment_id=self.event.enrollment_id,
            generation=self.event.generation,
            answered=sorted(self.reading.facts),
        )


async def keep_part(tx: Connection, events: Sequence[CommandAnswerPart]) -> None:
    """Store a slice until CommandFinished says that it was the last."""
    await answer_parts.keep(tx, events)


async def apply(
    tx: Connection, events: Sequence[CommandFinished], *, announce_every: timedelta
) -> None:
    """Record what a batch of answers says and emit what changed by it."""
    assembled = await _assembled(tx, [event for event in events if event.answer_parts])
    answers = [answer for event in events if (answer := _read(event, assembled))]
    news: list[Event] = list(after_configuration(events))
    if answers:
        news += await _record(tx, answers, announce_every)
    await outbox.emit(tx, news)


async def _assembled(
    tx: Connection, events: Sequence[CommandFinished]
) -> dict[answer_parts.Key, Any]:
    """Put the parts of large answers together; the parts of any command are dropped here."""
    if not events:
        return {}
    whole: dict[answer_parts.Key, Any] = {}
    found = await answer_parts.take(tx, [(e.command_id, e.device_id) for e in events])
    for event in filter(is_answer, events):
        key = (event.command_id, event.device_id)
        answer = _joined(found.get(key, {}), event.answer_parts)
        if answer is None:
            metrics.REPORTS.labels(event.section, "incomplete").inc()
        else:
            whole[key] = answer
    return whole


def _joined(parts: Mapping[int, str], count: int) -> Any:
    """Parse the parts as one text; None when one is missing or they are of different answers."""
    if sorted(parts) != list(range(count)):
        return None
    try:
        return orjson.loads("".join(parts[n] for n in range(count)))
    except orjson.JSONDecodeError:
        return None


def _read(event: CommandFinished, assembled: Mapping[answer_parts.Key, Any]) -> Answer | None:
    if not is_answer(event):
        return None
    section = cast("Section", event.section)
    answer = assembled.get((event.command_id, event.device_id), event.answer)
    try:
        reading = apple.read(section, answer if isinstance(answer, Mapping) else {})
    except UnreadableError:
        metrics.REPORTS.labels(section, "unreadable").inc()
        return None
    metrics.VALUES_IGNORED.labels(section).inc(reading.ignored)
    return Answer(event, section, reading)


async def _record(
    tx: Connection, answers: Sequence[Answer], announce_every: timedelta
) -> list[Event]:
    recorded = await reports.record(tx, [a.report() for a in answers], announce_every)
    for answer in answers:
        outcome = "applied" if answer.event.device_id in recorded else "outdated"
        metrics.REPORTS.labels(answer.section, outcome).inc()
    newer = [answer for answer in answers if answer.event.device_id in recorded]
    events = await _record_facts(tx, newer, recorded)
    for section in LISTS & {answer.section for answer in newer}:
        of_section = [answer for answer in newer if answer.section == section]
        events += await _record_items(tx, section, of_section, recorded)
    # Last: who hears of a first report must know already what it held.
    events += announcements.reported(newer_events(newer), recorded)
    return events


def newer_events(answers: Iterable[Answer]) -> list[CommandFinished]:
    return [answer.event for answer in answers]


async def _record_facts(
    tx: Connection, answers: Sequence[Answer], recorded: Mapping[Any, reports.Recorded]
) -> list[Event]:
    seen = [
        facts.Observation(
            device_id=answer.event.device_id,
            name=name,
            section=answer.section,
            value=value,
            at=recorded[answer.event.device_id].observed_at,
        )
        for answer in answers
        for name, value in answer.reading.facts.items()
    ]
    changes = await facts.record(tx, seen) if seen else []
    await facts.confirmed(tx, list(_confirmations(answers, recorded)))
    await devices.reported(tx, announcements.own_words(changes))
    for answer in answers:
        own = sum(change.device_id == answer.event.device_id for change in changes)
        metrics.CHANGES.labels(answer.section).inc(own)
    return announcements.facts_changed(newer_events(answers), recorded, changes)


def _confirmations(
    answers: Iterable[Answer], recorded: Mapping[Any, reports.Recorded]
) -> Iterable[tuple[Any, str, Any]]:
    """Which facts a device stopped answering, with their last confirmation, and which came back."""
    for answer in answers:
        last = recorded[answer.event.device_id]
        before, now = set(last.last_answered), set(answer.reading.facts)
        yield from ((last.device_id, name, last.last_observed_at) for name in before - now)
        yield from ((last.device_id, name, None) for name in now - before)


async def _record_items(
    tx: Connection,
    section: Section,
    answers: Sequence[Answer],
    recorded: Mapping[Any, reports.Recorded],
) -> list[Event]:
    lists = {
        answer.event.device_id: (
            recorded[answer.event.device_id].observed_at,
            answer.reading.items or {},
        )
        for answer in answers
    }
    changes = await items.record(tx, section, lists)
    metrics.CHANGES.labels(section).inc(len(changes))
    return announcements.items_changed(newer_events(answers), section, recorded, changes)
