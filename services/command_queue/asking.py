"""Commands that other services ask for, by event."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Final

from services.command_queue.errors import CommandRefused
from services.command_queue.requests import Ask, Requests
from shared.bus import outbox
from shared.bus.handlers import Handler
from shared.db.pool import Connection
from shared.events.commands import CommandFinished, CommandRequested, TargetState
from shared.runtime.clock import Clock

_LONGEST: Final = timedelta(days=90)
_PRIORITY: Final = 100


def handler(requests: Requests, clock: Clock) -> Handler:
    """Return the handler of CommandRequested."""

    async def handle(tx: Connection, asked: Sequence[CommandRequested]) -> None:
        await accept(tx, requests, asked, clock.now())

    return handle


async def accept(
    tx: Connection, requests: Requests, asked: Sequence[CommandRequested], now: datetime
) -> None:
    """Store what services ask for; what cannot be is told as a failed target, with the reason.

    A device that is not known yet is waited for: topics are not ordered against each other.
    """
    results, events = await requests.accept(tx, [_ask(one) for one in asked], now)
    events += [
        _refused(one, result, now)
        for one, result in zip(asked, results, strict=True)
        if isinstance(result, CommandRefused)
    ]
    await outbox.emit(tx, events)


def _ask(one: CommandRequested) -> Ask:
    return Ask(
        kind=one.kind,
        params=one.params,
        device_ids=[one.device_id],
        idempotency_key=one.idempotency_key,
        actor=one.actor,
        reason=one.reason,
        expires_in=min(timedelta(seconds=max(one.expires_in_seconds, 1)), _LONGEST),
        priority=max(-_PRIORITY, min(_PRIORITY, one.priority)),
        by_enrollment=one.meta.source.rpartition("/")[2] == "enrollment",
        cause=one,
    )


def _refused(one: CommandRequested, why: CommandRefused, now: datetime) -> CommandFinished:
    """There is no command: the request's own id stands for it."""
    finished = CommandFinished(
        device_id=one.device_id,
        command_id=one.meta.event_id,
        kind=one.kind,
        state=TargetState.FAILED,
        reason=str(why)[:300],
        actor=one.actor,
        queued_at=one.meta.time,
        finished_at=now,
    )
    return finished.because(one)
