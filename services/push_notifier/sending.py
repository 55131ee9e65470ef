"""The sender: claims channels that are due, wakes them side by side, records every answer."""

from __future__ import annotations

import asyncio
import json
import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID, uuid4

from opentelemetry.trace import SpanKind

from services.push_notifier import metrics
from services.push_notifier.answers import Answer, Decision, Fate, decide
from services.push_notifier.apple.apns import Apns
from services.push_notifier.certificates import Certificates
from services.push_notifier.settings import PushSettings
from services.push_notifier.store import attempts, channels
from services.push_notifier.store.attempts import Attempt
from services.push_notifier.store.channels import Due, Settled
from shared.bus import outbox, tracing
from shared.db.locks import lock_devices
from shared.db.pool import Connection, Pool, connected, transaction
from shared.events.base import Event, uuid7
from shared.events.pushes import PushFailed, PushSent
from shared.runtime.clock import Clock
from shared.sealed import Keyring, SealError

log = logging.getLogger(__name__)

_LEASE = timedelta(seconds=60)
_FIRST_CIRCUIT = timedelta(minutes=1)


@dataclass(frozen=True)
class Pushed:
    """One push and what became of it."""

    due: Due
    push_id: UUID
    sent_at: datetime
    answer: Answer
    decision: Decision
    traceparent: str | None


class Sender:
    def __init__(
        self,
        pool: Pool,
        keyring: Keyring,
        certificates: Certificates,
        settings: PushSettings,
        clock: Clock,
    ) -> None:
        self._pool = pool
        self._keyring = keyring
        self._certificates = certificates
        self._settings = settings
        self._clock = clock

    async def run(self) -> bool:
        """Send one batch; True while more may be due."""
        limit = self._settings.send_at_once
        async with transaction(self._pool) as tx:
            due = await channels.claim_due(tx, self._clock.now(), _LEASE, limit)
        if not due:
            return False
        ways = {
            topic: await self._certificates.sender(topic)
            for topic in {channel.topic for channel in due}
        }
        pushed = await asyncio.gather(*(self._push(one, ways[one.topic]) for one in due))
        async with transaction(self._pool) as tx:
            await lock_devices(tx, [push.due.device_id for push in pushed])
            await self._record(tx, pushed)
        return len(due) == limit

    async def _push(self, due: Due, apns: Apns | None) -> Pushed:
        push_id, sent_at = uuid4(), self._clock.now()
        with (
            metrics.PUSH_SECONDS.time(),
            tracing.continued("push_notifier", "push", due.traceparent, kind=SpanKind.CLIENT),
        ):
            answer = await self._send(due, apns, str(push_id))
            traceparent = tracing.current_traceparent() or due.traceparent
        decision = decide(answer, attempts=due.attempts, token_since=due.push_updated_at)
        _count(due, answer, decision, sent_at)
        return Pushed(due, push_id, sent_at, answer, decision, traceparent)

    async def _send(self, due: Due, apns: Apns | None, push_id: str) -> Answer:
        try:
            opened = self._keyring.open(due.push, purpose="push", device_id=due.device_id)
            push = json.loads(opened)
            token, magic = str(push["token"]), str(push["magic"])
        except (SealError, ValueError, KeyError, TypeError):
            metrics.UNREADABLE_TOKENS.inc()
            return Answer(400, "the sealed token does not open")
        if apns is None:
            return Answer(403, "no push certificate for the topic")
        lifetime = self._settings.push_lifetime
        return await apns.wake(due.topic, token, magic, push_id=push_id, lifetime=lifetime)

    async def measure(self) -> None:
        """Set the gauge of topics that nothing is sent for."""
        async with connected(self._pool) as connection:
            open_ = await attempts.count_circuits(connection, self._clock.now())
        metrics.CIRCUITS_OPEN.set(open_)

    async def _record(self, tx: Connection, pushed: Sequence[Pushed]) -> None:
        now = self._clock.now()
        await channels.settle(tx, [self._settled(push, now) for push in pushed], now)
        await attempts.record(tx, [_attempt(push) for push in pushed])
        refused = [p for p in pushed if p.decision.fate is Fate.CERTIFICATE]
        topics = {p.due.topic for p in refused}
        if refused:
            reason = refused[0].answer.reason[:300]
            await attempts.open_circuits(tx, sorted(topics), now, _FIRST_CIRCUIT, reason)
        healthy = {p.due.topic for p in pushed if p.decision.fate is Fate.WOKEN} - topics
        if healthy:
            await attempts.close_circuits(tx, sorted(healthy))
        await outbox.emit(tx, [_event(push).along(None, push.traceparent) for push in pushed])
        failed = [push for push in pushed if push.decision.fate is not Fate.WOKEN]
        if failed:
            why = Counter(f"{push.answer.status} {push.answer.reason}" for push in failed)
            log.warning("Pushes failed", extra={"answers": dict(why.most_common(5))})

    def _settled(self, push: Pushed, now: datetime) -> Settled:
        fate = push.decision.fate
        return Settled(
            push.due.channel_id,
            push.due.leased_until,
            str(push.push_id) if fate is Fate.WOKEN else "",
            push.answer.reason if fate is Fate.DEAD else "",
            push.due.push_updated_at,
            self._next(push, now),
        )

    def _next(self, push: Pushed, now: datetime) -> datetime | None:
        """When to push again if the device stays silent; None gives up until something changes."""
        decision, due = push.decision, push.due
        if decision.fate is Fate.DEAD:
            return None
        if due.waiting_since and (now - due.waiting_since).total_seconds() > (
            self._settings.give_up_after
        ):
            return None
        if decision.fate is Fate.CERTIFICATE:
            return now  # held back by the circuit, not by the channel
        if decision.retry_after is not None:
            return now + decision.retry_after
        waits = self._settings.repush_after
        return now + timedelta(seconds=waits[min(due.attempts, len(waits)) - 1])


def _count(due: Due, answer: Answer, decision: Decision, sent_at: datetime) -> None:
    metrics.PUSHES.labels(str(answer.status), decision.fate.value).inc()
    if decision.fate is Fate.DEAD:
        metrics.TOKENS_DEAD.inc()
    if decision.fate is Fate.WOKEN and due.attempts == 1 and due.waiting_since:
        waited = (sent_at - due.waiting_since).total_seconds()
        metrics.QUEUED_TO_PUSH_SECONDS.observe(max(0.0, waited))


def _attempt(push: Pushed) -> Attempt:
    due, answer = push.due, push.answer
    return Attempt(
        uuid7(push.sent_at),
        due.channel_id,
        due.device_id,
        push.sent_at,
        answer.status,
        answer.reason[:300],
    )


def _event(push: Pushed) -> Event:
    due = push.due
    if push.decision.fate is Fate.WOKEN:
        return PushSent(
            device_id=due.device_id,
            channel_id=due.channel_id,
            push_id=str(push.push_id),
            sent_at=push.sent_at,
        )
    return PushFailed(
        device_id=due.device_id,
        channel_id=due.channel_id,
        status=push.answer.status,
        reason=push.answer.reason[:300],
        token_dead=push.decision.fate is Fate.DEAD,
    )
