from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest

from shared.bus import Handlers, Poison, apply, dead_letters, envelope, outbox
from shared.bus.kafka import KafkaAccess
from shared.bus.replaying import replay_due
from shared.bus.runner import Runner
from shared.db.pool import Connection, Pool, transaction
from shared.events import Event, Meta, uuid7
from shared.events.audit import AuditRecorded
from shared.events.commands import DeviceSeen
from shared.events.dead_letters import DeadLettered
from tests.bus.small import SERVICE, TOPIC, effects, ids, note, running, seen, until

HANDLERS: Handlers = {DeviceSeen: note}


@dataclass(frozen=True)
class Sent:
    """A record as aiokafka would give it."""

    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes]]
    offset: int = 7
    topic: str = TOPIC
    partition: int = 1
    timestamp: int = 0


def sent(event: Event, **changes: Any) -> Sent:
    headers = envelope.encode(event.TYPE, event.subject, event.meta)
    return Sent(event.subject.encode(), event.model_dump_json().encode(), headers, **changes)


async def give_up(pool: Pool, record: Sent) -> UUID | None:
    before = {letter.id for letter in await dead_letters.list_(pool)}
    async with transaction(pool) as tx:
        await dead_letters.record(tx, record, "failed", LookupError("why"))
    new = [letter.id for letter in await dead_letters.list_(pool) if letter.id not in before]
    return new[0] if new else None


async def emitted(pool: Pool, model: type[Event]) -> list[Any]:
    async with pool.acquire() as connection:
        return [e for e in await outbox.read(connection, SERVICE) if isinstance(e, model)]


async def test_a_record_is_kept_once_and_announced_once(pool: Pool) -> None:
    record = sent(seen())
    assert await give_up(pool, record)
    assert await give_up(pool, record) is None
    [announced] = await emitted(pool, DeadLettered)
    assert (announced.source_topic, announced.source_offset) == (TOPIC, 7)
    assert announced.source_headers["ce_type"] == DeviceSeen.TYPE


async def test_the_list_is_paged(pool: Pool) -> None:
    for offset in range(5):
        await give_up(pool, sent(seen(), offset=offset))
    first = await dead_letters.list_(pool, limit=3)
    rest = await dead_letters.list_(pool, limit=3, after=first[-1].id)
    # By id, and ids of one millisecond have no order.
    assert sorted(letter.offset for letter in (*first, *rest)) == list(range(5))


async def test_a_replay_lets_the_event_take_effect_and_is_audited(pool: Pool) -> None:
    event = seen()
    letter = await give_up(pool, sent(event))
    assert letter is not None
    assert await replay_due(pool, HANDLERS) == 0  # nobody asked
    assert await dead_letters.replay(pool, [letter, uuid7()], actor="ann", reason="fixed") == [
        letter
    ]
    assert await replay_due(pool, HANDLERS) == 1
    assert await effects(pool) == ids([event])
    assert await dead_letters.show(pool, letter) is None
    audits = await emitted(pool, AuditRecorded)
    assert [(a.action, a.actor, a.target) for a in audits] == [
        ("dead_letter.replay", "ann", f"dead-letter:{letter}"),
        ("dead_letter.replayed", "ann", f"dead-letter:{letter}"),
    ]
    await apply(pool, SERVICE, HANDLERS, [event])
    assert await effects(pool) == ids([event])


async def test_a_replay_of_what_took_effect_in_the_meantime_has_no_second_effect(
    pool: Pool,
) -> None:
    event = seen()
    letter = await give_up(pool, sent(event))
    assert letter is not None
    await apply(pool, SERVICE, HANDLERS, [event])
    await dead_letters.replay(pool, [letter], actor="ann", reason="to be sure")
    await replay_due(pool, HANDLERS)
    assert await effects(pool) == ids([event])
    assert await dead_letters.show(pool, letter) is None


async def fail(tx: Connection, events: Sequence[Any]) -> None:
    await note(tx, events)
    raise Poison("again")


async def test_a_replay_that_fails_again_stays_and_is_not_tried_for_ever(pool: Pool) -> None:
    letter = await give_up(pool, sent(seen()))
    assert letter is not None
    await dead_letters.replay(pool, [letter], actor="ann", reason="hope")
    assert await replay_due(pool, {DeviceSeen: fail}) == 1
    assert await replay_due(pool, {DeviceSeen: fail}) == 0
    assert await effects(pool) == []
    kept = await dead_letters.show(pool, letter)
    assert kept is not None
    assert (kept.replays, kept.error, kept.replay_requested_at) == (1, "Poison: again", None)
    assert [a.action for a in await emitted(pool, AuditRecorded)] == [
        "dead_letter.replay",
        "dead_letter.replay_failed",
    ]


async def test_a_replay_checks_everything_again(pool: Pool) -> None:
    event = seen()
    old = Meta(
        **{**event.meta.model_dump(), "event_id": uuid7(datetime.now(UTC) - timedelta(days=60))}
    )
    letters = [
        await give_up(pool, sent(event.received(old), offset=1)),
        await give_up(pool, Sent(b"k", b"{", sent(seen()).headers, offset=2)),
    ]
    asked = [letter for letter in letters if letter]
    await dead_letters.replay(pool, asked, actor="ann", reason="hope")
    assert await replay_due(pool, HANDLERS) == 2
    assert await effects(pool) == []
    errors = [letter.error for letter in await dead_letters.list_(pool)]
    assert "older than 45 days" in errors[0]
    assert "not an event of ours" in errors[1]


async def test_without_a_handler_it_is_not_lost(pool: Pool) -> None:
    letter = await give_up(pool, sent(seen()))
    assert letter is not None
    await dead_letters.replay(pool, [letter], actor="ann", reason="hope")
    await replay_due(pool, {})
    kept = await dead_letters.show(pool, letter)
    assert kept is not None
    assert "no handler" in kept.error


async def test_dropped_ones_are_gone_and_audited(pool: Pool) -> None:
    letter = await give_up(pool, sent(seen()))
    assert letter is not None
    assert await dead_letters.drop(pool, [letter], actor="ann", reason="a test device") == [letter]
    assert await dead_letters.list_(pool) == []
    [audit] = await emitted(pool, AuditRecorded)
    assert (audit.action, audit.reason) == ("dead_letter.drop", "a test device")


@pytest.mark.parametrize("headers", [[], [("ce_id", b"\xff\x00")], [("ce_type", b"x" * 2000)]])
async def test_any_rubbish_can_be_kept(pool: Pool, headers: list[tuple[str, bytes]]) -> None:
    letter = await give_up(pool, Sent(None, b"\x00\xff", headers))
    assert letter is not None
    whole = await dead_letters.show(pool, letter)
    assert whole is not None
    assert whole.value == b"\x00\xff"


async def test_the_runner_does_what_was_asked(pool: Pool, kafka: KafkaAccess, group: str) -> None:
    event = seen()
    letter = await give_up(pool, sent(event))
    assert letter is not None
    await dead_letters.replay(pool, [letter], actor="ann", reason="fixed")

    async def done() -> bool:
        return await effects(pool) == ids([event])

    async with running(Runner(SERVICE, pool, kafka, HANDLERS, group=group)):
        await until(done)
