"""When a channel has work: wake it once, again on schedule, and stop when it is done."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

from services.push_notifier import metrics
from services.push_notifier.store import channels
from services.push_notifier.store.channels import Woken
from shared.bus import tracing
from shared.db.pool import Connection, after_commit
from shared.events.commands import CommandDeferred, CommandFinished, CommandQueued, TargetState
from shared.runtime.jobs import Wake

_BY_DEVICE = frozenset({TargetState.ACKNOWLEDGED, TargetState.FAILED, TargetState.VERIFIED})


async def work_waits(tx: Connection, queued: Sequence[CommandQueued], *, sender: Wake) -> None:
    # A channel once, with the newest: several commands may wait for it.
    waiting = {
        target.channel_id: (
            target.channel_id,
            target.device_id,
            tracing.recorded(event.meta.traceparent),
            event.meta.sequence,
        )
        for event in sorted(queued, key=lambda event: event.meta.sequence)
        for target in event.targets
    }
    await channels.work_waits(tx, list(waiting.values()))
    after_commit(tx, sender.set)


async def deferred(tx: Connection, refusals: Sequence[CommandDeferred], *, wait: timedelta) -> None:
    """A NotNow after which the device will not ask again by itself (apple.md §1.3 rule 3)."""
    wanted = [r.channel_id for r in refusals if r.push_wanted and r.channel_id]
    if wanted:
        await channels.not_now(tx, wanted, wait)


async def finished(tx: Connection, outcomes: Sequence[CommandFinished], *, wait: timedelta) -> None:
    news = [
        (
            o.channel_id,
            o.device_id,
            o.state in _BY_DEVICE and o.deliveries > 0,
            o.queue_empty,
            o.meta.sequence,
        )
        for o in outcomes
        if o.channel_id
    ]
    if news:
        before = await channels.answered(tx, news, wait)
        for outcome in outcomes:
            _measure(outcome, before.get(outcome.channel_id) if outcome.channel_id else None)


def _measure(outcome: CommandFinished, woken: Woken | None) -> None:
    """Observe how long after the push the device came for this command.

    The first answer after a push counts, of a command handed out once: only then is `handed_out_at`
    the moment the device came. Who came without being pushed, or before the push, is left out.
    """
    at = outcome.handed_out_at
    if at is None or outcome.deliveries != 1 or woken is None or not woken.attempts:
        return
    pushed = woken.last_push_at
    if pushed is not None and outcome.queued_at <= pushed <= at:
        which = "first" if woken.attempts == 1 else "repeated"
        metrics.PUSH_TO_CHECKIN_SECONDS.labels(which).observe((at - pushed).total_seconds())
