"""The heart: answers end commands, and the next ones are handed out, a batch a transaction.

Locks come first and sorted; claims run under a shared advisory lock that freeze, cancel and fence
take exclusively (architecture §3).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final
from uuid import UUID

import orjson

from services.command_queue import metrics, settling, trails
from services.command_queue.apple import wire
from services.command_queue.apple.answers import NOT_NOW, Answer
from services.command_queue.settings import CommandQueueSettings
from services.command_queue.settling import Told
from services.command_queue.store import commands, outcomes, pending
from services.command_queue.store.outcomes import End, Settled
from services.command_queue.store.pending import Claimed, Key
from services.command_queue.turn import Turn
from shared.apple import plist
from shared.bus import outbox, tracing
from shared.db.batcher import Batcher
from shared.db.locks import lock_devices
from shared.db.pool import Connection, Pool, is_data_error
from shared.events import Event
from shared.events.commands import (
    AnswerUnexpected,
    CommandDeferred,
    CommandFinished,
    TargetState,
)
from shared.runtime.clock import Clock
from shared.sealed import Keyring, LocalCipher, SealError

# A target whose command was handed out at least once and has no outcome.
OUT: Final = ("sent", "deferred", "cancel_requested")
_NOT_ANSWERED: Final = ("sent", "cancel_requested")
UNLOCK_PURPOSE: Final = "unlock-token"
_KEPT_ANSWER: Final = 64 * 1024
_POISON_LIMIT: Final = 2
_POISONERS: Final = 10_000
# Commands that fail on our side while they are handed out, one after the other.
_UNDELIVERABLE: Final = 5


@dataclass(slots=True)
class _Work:
    """One batch in progress."""

    now: datetime
    began_at: int = field(default_factory=tracing.now)
    events: list[Event] = field(default_factory=list)
    given: dict[UUID, bytes] = field(default_factory=dict)


class Delivery:
    """Serves channels in batches; safe in any number of processes."""

    def __init__(
        self,
        pool: Pool,
        clock: Clock,
        cipher: LocalCipher,
        keyring: Keyring,
        settings: CommandQueueSettings,
    ) -> None:
        self._clock, self._cipher, self._keyring = clock, cipher, keyring
        self._batched: Batcher[Turn, bytes] = Batcher(
            "command_queue_turns",
            pool,
            self._flush,
            key=_device,
            lock=lock_devices,
            first=pending.SHARE_CLAIMS,
            max_batch=settings.max_batch,
            max_waiting=settings.max_waiting,
            parallel=2,
        )
        self._single: Batcher[Turn, bytes] = Batcher(
            "command_queue_turns_alone",
            pool,
            self._flush,
            key=_device,
            lock=lock_devices,
            first=pending.SHARE_CLAIMS,
            max_batch=1,
            max_waiting=settings.max_waiting,
        )
        self._poison: Counter[UUID] = Counter()

    async def close(self) -> None:
        await self._batched.close()
        await self._single.close()

    async def take(self, turn: Turn) -> bytes:
        """Return the document to hand out, empty when there is none; all of it is committed.

        Raises Overloaded. An answer that the database refuses ends its command as failed.
        """
        alone = self._poison[turn.enrollment_id] >= _POISON_LIMIT
        batcher = self._single if alone else self._batched
        try:
            return await batcher.put(turn)
        except Exception as error:
            if turn.spoilt is not None or not is_data_error(error):
                raise
        # Who does this twice keeps the others waiting no more: served alone from then on.
        if len(self._poison) >= _POISONERS:
            self._poison.clear()
        self._poison[turn.enrollment_id] += 1
        metrics.MALFORMED.labels("not storable").inc()
        harmless = Turn(
            turn.device_id,
            turn.enrollment_id,
            turn.channel_id,
            spoilt="the answer cannot be stored",
        )
        return await (self._batched if alone else self._single).put(harmless)

    async def _flush(self, tx: Connection, turns: Sequence[Turn]) -> Sequence[bytes]:
        work = _Work(self._clock.now())
        await _end_spoilt(tx, turns, work)
        settled = await self._end_answered(tx, turns, work)
        await _defer(tx, turns, work)
        # A device that answers something else after NotNow does not come back by itself
        # (apple.md §1.3 rule 3).
        if forgotten := {(one.device_id, one.channel_id) for one in settled if one.deferred}:
            wanted = await pending.want_push(tx, forgotten)
            work.events += [_deferred(one, push_wanted=True) for one in wanted]
        # The devices are locked: a queue that was found empty is empty until this commits.
        empty = {one.channel_id for one in settled if not one.busy}
        await self._hand_out(tx, [turn for turn in turns if turn.channel_id not in empty], work)
        if work.events:
            await outbox.emit(tx, work.events)
        return [work.given.get(turn.channel_id, b"") if turn.channel_id else b"" for turn in turns]

    async def _end_answered(
        self, tx: Connection, turns: Sequence[Turn], work: _Work
    ) -> list[Settled]:
        """End what was answered; return what was, and what its channel has left."""
        ends: list[End] = []
        told: dict[tuple[UUID, UUID], Told] = {}
        for turn in turns:
            answer = turn.answer
            if answer and answer.state and answer.command_id and turn.channel_id:
                text = orjson.dumps(answer.values).decode() if answer.values else None
                key = (turn.channel_id, answer.command_id)
                told[key] = Told(answer.errors, answer.values, text)
                ends.append(self._end(Key(turn.device_id, *key), answer, text))
        settled = await outcomes.settle(tx, ends, work.now, out_of=OUT)
        settled = trails.answered(settled, turns, work.began_at)
        work.events += settling.tell(settled, work.now, told=told)
        profiles = [
            (one.device_id, one.profile_identifier)
            for one in settled
            if one.profile_identifier and one.state == TargetState.ACKNOWLEDGED
        ]
        if profiles:
            await outcomes.profiles_installed(tx, profiles)
        done = {(one.channel_id, one.command_id) for one in settled}
        await _note_unexpected(tx, [turn for turn in turns if not _is_in(turn, done)], work)
        return settled

    def _end(self, key: Key, answer: Answer, text: str | None) -> End:
        secrets = None
        if answer.secrets is not None:
            row = f"{key.command_id}:{key.channel_id}"
            secrets = self._cipher.encrypt(
                answer.secrets, table="outcome", column="secrets", row=row
            )
        errors = [error.model_dump() for error in answer.errors]
        return End(
            *key,
            str(answer.state),
            answer.reason,
            orjson.dumps(errors).decode() if errors else None,
            text if text is not None and len(text) <= _KEPT_ANSWER else None,
            None if text is None else len(text),
            secrets,
        )

    async def _hand_out(self, tx: Connection, turns: Sequence[Turn], work: _Work) -> None:
        """Give every channel its next command; one that fails on our side ends, and the next goes.

        What was deferred goes out again on Idle only: never in circles on one connection
        (apple.md §1.3 rule 4; on the next connection the device is asked again).
        """
        wanted = [
            (turn.device_id, turn.channel_id, turn.answer is None or turn.answer.idle)
            for turn in turns
            if turn.channel_id is not None and turn.spoilt is None
        ]
        for _ in range(_UNDELIVERABLE):
            if not wanted:
                return
            claimed = await pending.claim(tx, wanted, work.now)
            trails.handed_out(claimed.values(), turns, work.began_at)
            failed = [end for one in claimed.values() if (end := self._give(one, work))]
            if not failed:
                return
            work.events += await settling.settle(tx, failed, work.now, out_of=OUT)
            again = {end.channel_id for end in failed}
            wanted = [one for one in wanted if one[1] in again]

    def _give(self, claimed: Claimed, work: _Work) -> End | None:
        """Render what was claimed; return how it ends when that cannot be done."""
        try:
            document = self.render(claimed)
        except (SealError, plist.PlistError, LookupError) as error:
            why = str(error) if isinstance(error, LookupError) else "cannot be decrypted"
            key = Key(claimed.device_id, claimed.channel_id, claimed.command_id)
            return End(*key, TargetState.FAILED, why)
        work.given[claimed.channel_id] = document
        metrics.HANDED_OUT.labels(claimed.kind).inc()
        if claimed.deliveries > 1:
            metrics.REPEATED.labels(claimed.kind).inc()
        return None

    def render(self, claimed: Claimed) -> bytes:
        """Return the document for one device; raises SealError, PlistError and LookupError."""
        body = claimed.body
        if claimed.secret:
            body = self._cipher.decrypt(
                body, table="command", column="body", row=str(claimed.command_id)
            )
        if claimed.request_type != "ClearPasscode":
            return body
        if claimed.unlock_token is None:
            raise LookupError("no unlock token is known of this device")
        token = self._keyring.open(
            claimed.unlock_token, purpose=UNLOCK_PURPOSE, device_id=claimed.device_id
        )
        return wire.with_unlock_token(body, token)


def _device(turn: Turn) -> UUID:
    return turn.device_id


def _is_in(turn: Turn, done: Collection[tuple[UUID, UUID]]) -> bool:
    """Whether a turn answered one of these; a turn that ends nothing counts as one that did."""
    answer = turn.answer
    if answer is None or answer.state is None or turn.channel_id is None:
        return True
    return answer.command_id is not None and (turn.channel_id, answer.command_id) in done


async def _end_spoilt(tx: Connection, turns: Sequence[Turn], work: _Work) -> None:
    """End what was handed to devices whose answer cannot be read: it would come again for ever."""
    spoilt = {turn.enrollment_id: turn.spoilt for turn in turns if turn.spoilt is not None}
    if not spoilt:
        return
    doubted = await pending.in_doubt(tx, list(spoilt))
    ends = [
        End(*key, TargetState.FAILED, spoilt[enrollment_id])
        for enrollment_id, key in doubted.items()
    ]
    work.events += await settling.settle(tx, ends, work.now, out_of=OUT)


async def _defer(tx: Connection, turns: Sequence[Turn], work: _Work) -> None:
    """Note NotNow: the commands go out again when the device comes the next time."""
    refused = [
        (Key(turn.device_id, turn.channel_id, turn.answer.command_id), turn)
        for turn in turns
        if turn.channel_id and turn.answer and turn.answer.status == NOT_NOW
        if turn.answer.command_id
    ]
    strangers = [turn for turn in turns if _is_nameless_not_now(turn)]
    if refused:
        known = await pending.defer(tx, [key for key, _ in refused], work.now)
        work.events += [_deferred(one, push_wanted=False) for one in known]
        # It was cancelled while it was out, or its time ran out, and the device has not begun: that
        # settles it.
        left = [key for key, _ in refused if key not in known]
        ended = await _end_not_begun(tx, left, work.now) if left else []
        work.events += ended
        known |= {
            Key(event.device_id, event.channel_id, event.command_id)
            for event in ended
            if isinstance(event, CommandFinished) and event.channel_id
        }
        strangers += [turn for key, turn in refused if key not in known]
    if strangers:
        await _note_unexpected(tx, strangers, work)


async def _end_not_begun(tx: Connection, keys: Sequence[Key], now: datetime) -> list[Event]:
    """End what is out and refused. Cancelled counts first: time may have run out of it as well."""
    called_off = await commands.cancelled_among(tx, {key.command_id for key in keys})
    ends = [
        End(
            *key,
            TargetState.CANCELLED if key.command_id in called_off else TargetState.EXPIRED,
            "the device had not begun",
        )
        for key in keys
    ]
    return await settling.settle(tx, ends, now, out_of=_NOT_ANSWERED)


def _is_nameless_not_now(turn: Turn) -> bool:
    answer = turn.answer
    return answer is not None and answer.status == NOT_NOW and answer.command_id is None


def _deferred(key: pending.Key, *, push_wanted: bool) -> CommandDeferred:
    return CommandDeferred(
        device_id=key.device_id,
        channel_id=key.channel_id,
        command_id=key.command_id,
        push_wanted=push_wanted,
    )


async def _note_unexpected(tx: Connection, turns: Sequence[Turn], work: _Work) -> None:
    """Tell apart a repeat, a late word on what is settled otherwise, and what was never asked."""
    keys = [
        Key(turn.device_id, turn.channel_id, turn.answer.command_id)
        for turn in turns
        if turn.channel_id and turn.answer and turn.answer.command_id
    ]
    settled = await outcomes.find(tx, [one[1:] for one in keys]) if keys else {}
    still_open = {one[1:] for one in await pending.deferred_among(tx, keys)} if keys else set()
    for turn in turns:
        answer = turn.answer
        if answer is None or turn.channel_id is None:
            continue
        key = (turn.channel_id, answer.command_id) if answer.command_id else None
        state = settled.get(key) if key else None
        if (state is not None and state == answer.state) or key in still_open:
            metrics.DUPLICATES.inc()
            continue
        why = "never asked" if state is None else f"settled as {state}"
        metrics.UNEXPECTED.labels(why).inc()
        work.events.append(
            AnswerUnexpected(
                device_id=turn.device_id,
                channel_id=turn.channel_id,
                command_uuid=answer.command_uuid,
                status=answer.status,
                why=why,
            )
        )
