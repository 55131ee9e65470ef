"""When a channel has work: wake it once, again on schedule, and stop when it is done."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

from services.push_notifier.store import channels
from shared.db.pool import Connection
from shared.events.commands import CommandDeferred, CommandFinished, CommandQueued, TargetState

_BY_DEVICE = frozenset({TargetState.ACKNOWLEDGED, TargetState.FAILED, TargetState.VERIFIED})


async def work_waits(tx: Connection, queued: Sequence[CommandQueued]) -> None:
    await channels.work_waits(tx, [(q.channel_id, q.device_id) for q in queued if q.channel_id])


async def deferred(tx: Connection, refusals: Sequence[CommandDeferred], *, wait: timedelta) -> None:
    """A NotNow after which the device will not ask again by itself (apple.md §1.3 rule 3)."""
    wanted = [r.channel_id for r in refusals if r.push_wanted and r.channel_id]
    if wanted:
        await channels.not_now(tx, wanted, wait)


async def finished(tx: Connection, outcomes: Sequence[CommandFinished], *, wait: timedelta) -> None:
    news = [
        (o.channel_id, o.state in _BY_DEVICE and o.deliveries > 0, o.queue_empty)
        for o in outcomes
        if o.channel_id
    ]
    if news:
        await channels.answered(tx, news, wait)
