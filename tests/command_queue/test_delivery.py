"""Batches: what one device does never harms another; nothing is written for an empty poll."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest

from services.command_queue.delivery import Delivery
from services.command_queue.http.devices import CONNECT
from services.command_queue.store import outcomes, pending, speakers
from services.command_queue.turn import Turn
from shared.db.batcher import Overloaded
from shared.db.pool import transaction
from shared.events.commands import DeviceSeen, TargetState
from shared.runtime.problems import Problem
from tests.command_queue.fleet import Fleet


async def test_fifty_devices_at_once_each_get_their_own(fleet: Fleet) -> None:
    phones = await fleet.enroll(50)
    asked = {phone.udid: (await fleet.ask(phone))["command_id"] for phone in phones}
    given = await asyncio.gather(*(phone.idle() for phone in phones))
    assert {p.udid: g.command_uuid for p, g in zip(phones, given, strict=True) if g} == asked
    await asyncio.gather(
        *(phone.say("Acknowledged", asked[phone.udid], Name=phone.udid) for phone in phones)
    )
    told = {str(e.command_id): (e.answer or {}).get("Name") for e in await fleet.finished()}
    assert told == {command_id: udid for udid, command_id in asked.items()}


async def test_an_empty_poll_writes_nothing(fleet: Fleet) -> None:
    phones = await fleet.enroll(20)
    await asyncio.gather(*(phone.idle() for phone in phones))
    [before] = await fleet.rows("SELECT pg_current_wal_insert_lsn()::text AS at, now()")
    rows_before = await _written(fleet)
    await asyncio.gather(*(phone.idle() for phone in phones for _ in range(5)))
    assert await _written(fleet) == rows_before
    assert before["at"]


async def _written(fleet: Fleet) -> Any:
    """Row versions, by table: an update, a lock or an insert would leave a trace."""
    tables = ("device", "enrollment", "channel", "pin", "pending", "outcome", "outbox", "presence")
    return {
        table: await fleet.rows(f"SELECT xmin::text, xmax::text, ctid::text FROM {table}")
        for table in tables
    }


async def test_a_frozen_queue_is_an_empty_poll(fleet: Fleet) -> None:
    phone = await fleet.enroll()
    await fleet.ask(phone)
    await fleet.trial.call("POST", "/api/v1/commands/freeze", {"reason": "x"})
    before = await _written(fleet)
    assert await phone.idle() is None
    assert await _written(fleet) == before


async def test_a_quarantined_enrollment_is_no_sign_of_life_of_the_device(fleet: Fleet) -> None:
    """Whoever imitates a device must not make it look alive."""
    phone = await fleet.enroll()
    clone = fleet.phone(device_id=phone.device_id, udid=phone.udid, state="quarantined")
    await fleet.trial.hears(phone.told(clone), service="enrollment")
    presence = fleet.trial.parts.values[CONNECT]._presence
    await clone.idle()
    await presence.flush()
    assert not [one for one in await fleet.events() if isinstance(one, DeviceSeen)]
    await phone.idle()
    await presence.flush()
    assert [one for one in await fleet.events() if isinstance(one, DeviceSeen)]


async def test_sightings_are_written_in_bulk_and_told_once_an_hour(fleet: Fleet) -> None:
    phones = await fleet.enroll(3)
    presence = fleet.trial.parts.values[CONNECT]._presence
    for _ in range(3):
        for phone in phones:
            await phone.idle()
        await presence.flush()
    assert len([e for e in await fleet.events() if isinstance(e, DeviceSeen)]) == 3
    fleet.clock.advance(timedelta(minutes=59))
    await phones[0].idle()
    await presence.flush()
    assert len([e for e in await fleet.events() if isinstance(e, DeviceSeen)]) == 3
    fleet.clock.advance(timedelta(minutes=1))
    await phones[0].idle()
    await presence.flush()
    seen = [e for e in await fleet.events() if isinstance(e, DeviceSeen)]
    assert len(seen) == 4
    assert seen[-1].seen_at == fleet.clock.now()
    path = f"/api/v1/commands/devices/{phones[0].device_id}"
    assert (await fleet.trial.call("GET", path)).json["last_seen_at"] is not None


async def test_an_answer_the_database_refuses_fails_alone(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    phones = await fleet.enroll(10)
    asked = await fleet.ask(*phones)
    for phone in phones:
        await phone.idle()
    poisoner = phones[3]
    settle = outcomes.settle

    async def refuse(tx: Any, ends: Any, now: Any, *, out_of: Any) -> Any:
        for end in ends:
            if end.channel_id == poisoner.channel_id and end.state == "acknowledged":
                raise ValueError("not to be stored")
        return await settle(tx, ends, now, out_of=out_of)

    monkeypatch.setattr(outcomes, "settle", refuse)
    given = await asyncio.gather(
        *(phone.say("Acknowledged", asked["command_id"]) for phone in phones)
    )
    assert given == [None] * 10
    ends = {e.device_id: (e.state, e.reason) for e in await fleet.finished()}
    bad = ends.pop(poisoner.device_id)
    assert bad == (TargetState.FAILED, "the answer cannot be stored")
    assert set(ends.values()) == {(TargetState.ACKNOWLEDGED, None)}
    assert len(ends) == 9


async def test_who_poisons_two_batches_is_served_alone(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    phone = await fleet.enroll()
    delivery: Delivery = fleet.trial.parts.values[CONNECT]._delivery
    settle = outcomes.settle
    alone: list[bool] = []
    put = delivery._single.put

    async def refuse(tx: Any, ends: Any, now: Any, *, out_of: Any) -> Any:
        if any(end.state == "acknowledged" for end in ends):
            raise ValueError("not to be stored")
        return await settle(tx, ends, now, out_of=out_of)

    async def single(turn: Turn) -> bytes:
        alone.append(turn.spoilt is None)
        return await put(turn)

    monkeypatch.setattr(outcomes, "settle", refuse)
    monkeypatch.setattr(delivery._single, "put", single)
    for _ in range(3):
        await fleet.ask(phone)
        one = await phone.idle()
        assert one
        await phone.say("Acknowledged", one.command_uuid)
    # Twice only the ruined answer went alone; from then on everything of this device does.
    assert alone == [False, False, True, True]


async def test_too_many_waiting_requests_are_503_with_retry_after(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    phone = await fleet.enroll()
    await fleet.ask(phone)

    async def full(_: Turn) -> bytes:
        raise Overloaded("too much waits")

    monkeypatch.setattr(fleet.trial.parts.values[CONNECT]._delivery, "take", full)
    answer = await phone.send(phone.body("Idle"))
    assert answer.status == 503
    assert int(answer.headers["Retry-After"]) > 0
    assert issubclass(Overloaded, Exception)
    assert issubclass(Problem, Exception)


async def test_the_cost_of_a_poll_does_not_depend_on_history(fleet: Fleet) -> None:
    """The plan of the poll's read names neither outcomes nor a scan of commands."""
    phone = await fleet.enroll()
    await fleet.rows(
        "INSERT INTO outcome (command_id, channel_id, device_id, state, deliveries, deferrals,"
        " queued_at, finished_at) SELECT gen_random_uuid(), $1, $2, 'acknowledged', 1, 0, now(),"
        " now() FROM generate_series(1, 20000)",
        phone.channel_id,
        phone.device_id,
    )
    await fleet.ask(phone, expires_in_seconds=60)
    await fleet.rows(
        "INSERT INTO command SELECT (json_populate_record(c, json_build_object('command_id',"
        " gen_random_uuid()))).* FROM command AS c, generate_series(1, 20000)"
    )
    await fleet.rows("ANALYZE outcome, command")
    now = fleet.clock.now()
    async with transaction(fleet.trial.context.pool) as tx:
        plan = await tx.fetch(
            "EXPLAIN " + speakers.FIND, [bytes.fromhex(phone.identity.fingerprint)], now
        )
        claim = await tx.fetch(
            "EXPLAIN " + pending.CLAIM, [phone.device_id], now, [phone.channel_id], [True]
        )
    for lines in (plan, claim):
        text = "\n".join(line["QUERY PLAN"] for line in lines)
        assert "outcome" not in text
        assert "Seq Scan on command " not in text


async def test_handing_out_updates_in_place(fleet: Fleet) -> None:
    """No index names what a claim changes: its updates are heap-only (HOT)."""
    indexes = await fleet.rows(
        "SELECT indexdef FROM pg_indexes WHERE tablename = 'pending'"
        " AND schemaname = current_schema()"
    )
    changed = ("state", "deliveries", "deferrals", "push_wanted", "sent_at")
    assert len(indexes) == 2
    assert not [one for one in indexes if any(name in one["indexdef"] for name in changed)]


async def test_outcomes_have_partitions_ahead_and_old_ones_go(fleet: Fleet) -> None:
    await fleet.job("tidy history")
    partitions = await fleet.rows(
        "SELECT relname FROM pg_inherits JOIN pg_class ON oid = inhrelid"
        " WHERE inhparent = 'outcome'::regclass"
    )
    assert len(partitions) >= 5
    phone = await fleet.enroll()
    asked = await fleet.ask(phone, expires_in_seconds=60)
    await phone.drain()
    [stored] = await fleet.rows("SELECT tableoid::regclass::text AS partition FROM outcome")
    assert stored["partition"] != "outcome_default"
    fleet.clock.advance(timedelta(seconds=61))
    await fleet.job("sweep ended commands")
    fleet.clock.advance(timedelta(days=450))
    await fleet.job("tidy history")
    assert await fleet.rows("SELECT FROM outcome") == []
    assert (await fleet.trial.call("GET", f"/api/v1/commands/{asked['command_id']}")).status == 404


async def test_news_heard_again_or_out_of_order_changes_nothing(fleet: Fleet) -> None:
    phone = fleet.phone()
    old = phone.told()
    phone.state = "ended"
    await phone.tell()
    [row] = await fleet.rows("SELECT sequence FROM device WHERE device_id = $1", phone.device_id)
    from shared.bus import apply  # noqa: PLC0415 - only here
    from shared.bus.testing import travelled  # noqa: PLC0415 - only here

    arrived = travelled(old, service="enrollment", sequence=row["sequence"] - 1)
    trial = fleet.trial
    await apply(trial.context.pool, "command_queue", trial.parts.handlers, arrived)
    [enrollment] = await fleet.rows("SELECT state FROM enrollment")
    assert enrollment["state"] == "ended"


async def test_an_emptied_projection_is_rebuilt_from_device_state(fleet: Fleet) -> None:
    phones = await fleet.enroll(5)
    asked = await fleet.ask(*phones)
    for table in ("pin", "channel", "enrollment", "authority"):
        await fleet.rows(f"DELETE FROM {table}")
    await fleet.rows("UPDATE device SET known = false, sequence = 0")
    await fleet.publish()
    for phone in phones:
        await phone.tell()
        one = await phone.idle()
        assert one
        assert one.command_uuid == asked["command_id"]
    assert await fleet.finished() == []


async def test_a_user_channel_that_is_gone_takes_its_work_along(fleet: Fleet) -> None:
    phone = fleet.phone(platform="macos", os_version="14.1")
    phone.users["ann"] = uuid4()
    await phone.tell()
    await fleet.ask(params={"section": "profiles"}, channel_ids=[str(phone.users["ann"])])
    del phone.users["ann"]
    await phone.tell()
    [finished] = await fleet.finished()
    assert (finished.state, finished.reason) == (TargetState.CANCELLED, "channel gone")
