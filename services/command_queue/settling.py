"""Telling the others how targets ended: one outcome, one event."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from services.command_queue import metrics
from services.command_queue.store import outcomes
from services.command_queue.store.outcomes import End, Filing, Settled
from shared.db.pool import Connection
from shared.events import Event, Meta
from shared.events.commands import (
    CommandAnswerPart,
    CommandFinished,
    ErrorDetail,
    TargetState,
)

PART: Final = 200_000
"""Characters: an event stays below 900 KiB even if each of them takes four bytes."""
_INLINE: Final = 500_000
_BY_DEVICE: Final = frozenset({TargetState.ACKNOWLEDGED, TargetState.FAILED})


@dataclass(frozen=True, slots=True)
class Told:
    """What a device said in its answer; `text` is the JSON of `values`."""

    errors: tuple[ErrorDetail, ...] = ()
    values: Mapping[str, Any] | None = None
    text: str | None = None


_NOTHING: Final = Told()


class Origin(Event):
    """Stands for the request that led to a command, so that events about it name their cause."""

    @classmethod
    def of(
        cls, command_id: UUID, correlation_id: str | None, traceparent: str | None, at: datetime
    ) -> Origin:
        meta = Meta(
            event_id=command_id,
            sequence=0,
            time=at,
            source="command_queue",
            correlation_id=correlation_id,
            traceparent=traceparent,
        )
        return cls().received(meta)


async def settle(
    tx: Connection, ends: Sequence[End], now: datetime, *, out_of: Sequence[str]
) -> list[Event]:
    """End targets that nobody answered and return the events that say so; devices are locked."""
    return tell(await outcomes.settle(tx, ends, now, out_of=out_of), now)


async def file(tx: Connection, filings: Sequence[Filing], now: datetime) -> list[Event]:
    """End targets that never came into a queue and return the events that say so."""
    homeless = {
        (filing.command_id, filing.device_id) for filing in filings if filing.channel_id is None
    }
    return tell(await outcomes.file(tx, filings, now), now, homeless=homeless)


def tell(
    settled: Sequence[Settled],
    now: datetime,
    *,
    told: Mapping[tuple[UUID, UUID], Told] | None = None,
    homeless: set[tuple[UUID, UUID]] | None = None,
) -> list[Event]:
    """Make the events of targets that have just ended, those of each in order.

    `told` are the devices' answers by (channel, command), `homeless` the (command, device) pairs
    that had no channel.
    """
    events: list[Event] = []
    for one in settled:
        metrics.SETTLED.labels(one.kind, one.state).inc()
        if one.state in _BY_DEVICE and one.deliveries:
            metrics.SETTLE_SECONDS.observe((now - one.queued_at).total_seconds())
        answer = (told or {}).get((one.channel_id, one.command_id), _NOTHING)
        has_channel = (one.command_id, one.device_id) not in (homeless or ())
        origin = Origin.of(one.command_id, one.correlation_id, one.traceparent, one.queued_at)
        parts = _parts(one, answer)
        finished = _finished(one, answer, now, len(parts))
        if not has_channel:
            finished = finished.model_copy(update={"channel_id": None})
        events += [event.because(origin) for event in (*parts, finished)]
    return events


def _parts(one: Settled, answer: Told) -> list[CommandAnswerPart]:
    """Cut an answer that is too long for one event; its parts go before the outcome."""
    if answer.text is None or len(answer.text) <= _INLINE // 4:
        return []
    if len(answer.text.encode()) <= _INLINE:
        return []
    slices = [answer.text[at : at + PART] for at in range(0, len(answer.text), PART)]
    return [
        CommandAnswerPart(
            device_id=one.device_id,
            channel_id=one.channel_id,
            command_id=one.command_id,
            part=number,
            parts=len(slices),
            data=data,
        )
        for number, data in enumerate(slices)
    ]


def _finished(one: Settled, answer: Told, now: datetime, parts: int) -> CommandFinished:
    return CommandFinished(
        device_id=one.device_id,
        channel_id=one.channel_id,
        command_id=one.command_id,
        enrollment_id=one.enrollment_id,
        generation=one.generation,
        kind=one.kind,
        request_type=one.request_type,
        section=one.section,
        state=TargetState(one.state),
        reason=one.reason,
        errors=list(answer.errors),
        answer=None if parts or answer.values is None else dict(answer.values),
        answer_parts=parts,
        deliveries=one.deliveries,
        actor=one.actor,
        queued_at=one.queued_at,
        handed_out_at=one.sent_at,
        finished_at=now,
        queue_empty=not one.busy,
    )
