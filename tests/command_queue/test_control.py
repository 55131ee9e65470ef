"""What stops commands: cancel, freeze, fence, expiry, limits."""

from __future__ import annotations

from datetime import timedelta
from uuid import UUID

from shared.events.audit import AuditRecorded
from shared.events.commands import (
    AnswerUnexpected,
    CommandCancelled,
    TargetState,
)
from tests.command_queue.approving import aged
from tests.command_queue.fleet import Fleet


async def _cancel(fleet: Fleet, command_id: str) -> bool:
    answer = await fleet.trial.call(
        "POST", f"/api/v1/commands/{command_id}/cancel", {"reason": "a mistake"}
    )
    assert answer.status == 200, answer.body
    return bool(answer.json["cancelled"])


async def _freeze(fleet: Fleet, **fields: object) -> str:
    answer = await fleet.trial.call(
        "POST", "/api/v1/commands/freeze", {"reason": "an incident", **fields}
    )
    assert answer.status == 201, answer.body
    return str(answer.json["freeze_id"])


async def test_a_cancelled_command_is_not_handed_out_and_its_target_says_so(fleet: Fleet) -> None:
    phone = await fleet.enroll()
    asked = await fleet.ask(phone)
    assert await _cancel(fleet, asked["command_id"])
    # At once, before the sweeper came by.
    assert (await fleet.show(asked["command_id"]))["progress"] == {"cancelled": 1}
    assert await phone.idle() is None
    await fleet.job("sweep ended commands")
    [finished] = await fleet.finished()
    assert (finished.state, finished.reason) == (TargetState.CANCELLED, "a mistake")
    assert (await fleet.show(asked["command_id"]))["state"] == "cancelled"
    assert not await _cancel(fleet, asked["command_id"])


async def test_a_cancel_is_told_and_audited(fleet: Fleet) -> None:
    phone = await fleet.enroll()
    asked = await fleet.ask(phone)
    await _cancel(fleet, asked["command_id"])
    events = await fleet.events()
    [cancelled] = [e for e in events if isinstance(e, CommandCancelled)]
    assert (str(cancelled.command_id), cancelled.actor) == (asked["command_id"], "tester")
    audits = [e for e in events if isinstance(e, AuditRecorded)]
    assert [e.action for e in audits] == ["command.create", "command.cancel"]


async def test_what_is_out_when_cancelled_is_awaited_and_never_handed_out_again(
    fleet: Fleet,
) -> None:
    phone = await fleet.enroll()
    asked = await fleet.ask(phone)
    one = await phone.idle()
    assert one
    await _cancel(fleet, asked["command_id"])
    await fleet.job("sweep ended commands")
    assert await phone.idle() is None
    [target] = await fleet.targets(asked["command_id"])
    assert target["state"] == "cancel_requested"
    # The truth, not the intent: the device did it.
    await phone.say("Acknowledged", one.command_uuid)
    [finished] = await fleet.finished()
    assert finished.state is TargetState.ACKNOWLEDGED


async def test_not_now_to_a_cancelled_command_settles_it(fleet: Fleet) -> None:
    phone = await fleet.enroll()
    asked = await fleet.ask(phone)
    one = await phone.idle()
    assert one
    await _cancel(fleet, asked["command_id"])
    await fleet.job("sweep ended commands")
    assert await phone.say("NotNow", one.command_uuid) is None
    [finished] = await fleet.finished()
    assert (finished.state, finished.reason) == (TargetState.CANCELLED, "the device had not begun")
    assert not [e for e in await fleet.events() if isinstance(e, AnswerUnexpected)]


async def test_what_is_never_answered_becomes_unconfirmed_a_day_after_it_expired(
    fleet: Fleet,
) -> None:
    phone = await fleet.enroll()
    asked = await fleet.ask(phone, expires_in_seconds=60)
    assert await phone.idle()
    fleet.clock.advance(timedelta(seconds=61))
    await fleet.job("sweep ended commands")
    assert await phone.idle() is None
    assert await fleet.finished() == []
    fleet.clock.advance(timedelta(days=1))
    await fleet.job("sweep ended commands")
    [finished] = await fleet.finished()
    assert finished.state is TargetState.UNCONFIRMED
    assert len(await fleet.rows("SELECT FROM command")) == 1
    await fleet.job("sweep ended commands")
    assert (await fleet.show(asked["command_id"]))["state"] == "expired"
    assert await fleet.rows("SELECT FROM command") == []


async def test_a_command_whose_targets_are_all_done_ends_finished(fleet: Fleet) -> None:
    phone = await fleet.enroll()
    asked = await fleet.ask(phone, expires_in_seconds=60)
    await phone.drain()
    fleet.clock.advance(timedelta(seconds=61))
    await fleet.job("sweep ended commands")
    assert (await fleet.show(asked["command_id"]))["state"] == "finished"


async def test_a_target_that_is_not_expanded_yet_is_cancelled_with_its_command(
    fleet: Fleet,
) -> None:
    phone = await fleet.enroll()
    asked = await fleet.ask(phone, expand=False)
    await _cancel(fleet, asked["command_id"])
    await fleet.job("expand targets")
    [finished] = await fleet.finished()
    assert finished.state is TargetState.CANCELLED
    assert await fleet.queued() == []
    await fleet.job("sweep ended commands")
    assert await fleet.rows("SELECT FROM command") == []


async def test_a_freeze_stops_its_class_and_leaves_the_others(fleet: Fleet) -> None:
    phone = await fleet.enroll()
    people = await aged(fleet, 2)
    lock = await fleet.ask(phone, kind="device.lock", priority=5)
    harmless = await fleet.ask(phone)
    freeze_id = await _freeze(fleet, command_class="disruptive")
    assert [one.command_uuid for one in await phone.drain()] == [harmless["command_id"]]
    assert [(await one.lift(freeze_id)).json["lifted"] for one in people] == [False, True]
    assert [one.command_uuid for one in await phone.drain()] == [lock["command_id"]]
    assert (await fleet.trial.call("GET", "/api/v1/commands/freeze")).json["items"] == []


async def test_a_freeze_stops_what_was_handed_out_from_going_out_again(fleet: Fleet) -> None:
    phone = await fleet.enroll()
    await fleet.ask(phone)
    one = await phone.idle()
    assert one
    await _freeze(fleet)
    assert await phone.idle() is None
    # What the device has done is still heard.
    await phone.say("Acknowledged", one.command_uuid)
    assert len(await fleet.finished()) == 1


async def test_a_freeze_before_an_instant_spares_what_is_asked_for_later(fleet: Fleet) -> None:
    phone = await fleet.enroll()
    await fleet.ask(phone)
    fleet.clock.advance(timedelta(seconds=1))
    await _freeze(fleet, before=fleet.clock.now().isoformat())
    later = await fleet.ask(phone, params={"section": "profiles"})
    assert [one.command_uuid for one in await phone.drain()] == [later["command_id"]]


async def test_a_fence_cancels_what_waits_and_leaves_what_is_out_unconfirmed(fleet: Fleet) -> None:
    phone = await fleet.enroll()
    erase = await fleet.ask(phone, kind="device.erase")
    waiting = await fleet.ask(phone)
    out = await phone.idle()
    assert out
    assert out.command_uuid == erase["command_id"]
    assert (await fleet.fence(phone, 2)).json == {}
    ends = {str(e.command_id): (e.state, e.reason) for e in await fleet.finished()}
    assert ends == {
        erase["command_id"]: (TargetState.UNCONFIRMED, "re-enrolled"),
        waiting["command_id"]: (TargetState.CANCELLED, "re-enrolled"),
    }
    assert await phone.idle() is None
    phone.generation = 2
    await phone.tell()
    # A sent erase never reaches a later generation.
    assert await phone.idle() is None
    await phone.say("Acknowledged", out.command_uuid)
    [unexpected] = [e for e in await fleet.events() if isinstance(e, AnswerUnexpected)]
    assert unexpected.why == "settled as unconfirmed"


async def test_the_same_fence_again_changes_nothing(fleet: Fleet) -> None:
    phone = await fleet.enroll()
    await fleet.ask(phone)
    await fleet.fence(phone, 2)
    phone.generation = 2
    await phone.tell()
    asked = await fleet.ask(phone)
    assert (await fleet.fence(phone, 2)).status == 200
    one = await phone.idle()
    assert one
    assert one.command_uuid == asked["command_id"]
    assert len(await fleet.finished()) == 1


async def test_a_fence_covers_the_user_channels_too(fleet: Fleet) -> None:
    phone = fleet.phone(platform="macos", os_version="14.1")
    phone.users["ann"] = UUID(int=7)
    await phone.tell()
    await fleet.ask(params={"section": "profiles"}, channel_ids=[str(UUID(int=7))])
    await fleet.fence(phone, 2)
    [finished] = await fleet.finished()
    assert (finished.channel_id, finished.state) == (UUID(int=7), TargetState.CANCELLED)


async def test_news_from_before_a_fence_does_not_open_the_channel_again(fleet: Fleet) -> None:
    phone = await fleet.enroll()
    await fleet.fence(phone, 2)
    # Emitted before the fence, heard after it.
    await phone.tell()
    await fleet.ask(phone)
    assert await phone.idle() is None
    phone.generation = 2
    await phone.tell()
    assert await phone.idle() is not None


async def test_what_is_asked_for_after_a_fence_waits_for_the_new_generation(fleet: Fleet) -> None:
    phone = await fleet.enroll()
    await fleet.fence(phone, 2)
    asked = await fleet.ask(phone)
    assert await phone.idle() is None
    queued_before = len(await fleet.queued())
    phone.generation = 2
    await phone.tell()
    # The channel opened with work in it: it is woken.
    assert len(await fleet.queued()) == queued_before + 1
    one = await phone.idle()
    assert one
    assert one.command_uuid == asked["command_id"]


async def test_what_was_asked_for_before_a_fence_is_cancelled_even_if_expanded_after_it(
    fleet: Fleet,
) -> None:
    phone = await fleet.enroll()
    await fleet.ask(phone, kind="device.erase", expand=False)
    await fleet.fence(phone, 2)
    phone.generation = 2
    await phone.tell()
    await fleet.job("expand targets")
    assert await phone.idle() is None
    [finished] = await fleet.finished()
    assert (finished.state, finished.reason) == (TargetState.CANCELLED, "re-enrolled")


async def test_a_fence_that_ends_an_enrollment_refuses_its_device_at_once(fleet: Fleet) -> None:
    phone = await fleet.enroll()
    await fleet.ask(phone)
    await fleet.fence(phone, 1, "revoked")
    assert (await phone.send(phone.body("Idle"))).status == 400
    # Older news does not let it back in, also when the projection is built anew.
    await phone.tell()
    assert (await phone.send(phone.body("Idle"))).status == 400
    await fleet.rows("DELETE FROM enrollment")
    await fleet.rows("UPDATE device SET sequence = 0")
    await phone.tell()
    assert (await phone.send(phone.body("Idle"))).body == b""
    assert len(await phone.drain()) == 0


async def test_a_released_quarantine_is_served_again(fleet: Fleet) -> None:
    phone = await fleet.enroll()
    await fleet.fence(phone, 2, "quarantined")
    phone.generation, phone.state = 2, "quarantined"
    await phone.tell()
    assert await phone.idle() is None
    phone.state = "enrolled"
    await phone.tell()
    await fleet.ask(phone)
    assert await phone.idle() is not None
    # Also when the projection is built anew from the last event alone.
    await fleet.rows("DELETE FROM enrollment")
    await fleet.rows("DELETE FROM channel")
    await fleet.rows("DELETE FROM pin")
    await fleet.rows("UPDATE device SET sequence = 0, known = false")
    await phone.tell()
    assert await phone.idle() is not None


async def test_a_fence_whose_authenticate_never_came_to_pass_is_taken_down(fleet: Fleet) -> None:
    phone = await fleet.enroll()
    fleet.clock.advance(timedelta(minutes=-10))  # the fence is old when enrollment speaks next
    await fleet.fence(phone, 2)
    fleet.clock.advance(timedelta(minutes=10))
    await phone.tell()
    await fleet.ask(phone)
    assert await phone.idle() is not None


async def test_a_fence_for_a_device_nobody_knows_holds_when_it_is_introduced(fleet: Fleet) -> None:
    phone = fleet.phone()
    await fleet.fence(phone, 1, "ended")
    await phone.tell()
    await fleet.ask(phone)
    assert await phone.idle() is None
    assert await fleet.rows("SELECT FROM pending") == []


async def test_a_fence_is_for_enrollment_alone(fleet: Fleet) -> None:
    phone = await fleet.enroll()
    body = {
        "enrollment_id": str(phone.enrollment_id),
        "device_id": str(phone.device_id),
        "generation": 2,
        "state": "ended",
    }
    path = "/internal/v1/commands/fence"
    answer = await fleet.trial.call("POST", path, body, as_service="inventory")
    assert answer.status == 401
    assert (await fleet.trial.call("POST", path, body)).status == 401
    assert (await phone.send(phone.body("Idle"))).status == 200


async def test_a_device_that_is_deleted_leaves_nothing_open(fleet: Fleet) -> None:
    phone = await fleet.enroll()
    await fleet.ask(phone)
    assert await phone.idle()
    await fleet.ask(phone)
    await phone.tell(deleted=True)
    states = sorted(e.state for e in await fleet.finished())
    assert states == [TargetState.CANCELLED, TargetState.UNCONFIRMED]
    for table in ("pending", "enrollment", "channel", "pin"):
        assert await fleet.rows(f"SELECT FROM {table}") == []


async def test_a_checkout_told_by_event_alone_ends_open_work(fleet: Fleet) -> None:
    phone = await fleet.enroll()
    await fleet.ask(phone)
    phone.state = "ended"
    await phone.tell()
    [finished] = await fleet.finished()
    assert (finished.state, finished.reason) == (TargetState.CANCELLED, "enrollment ended")


async def test_wake_events_name_each_channel_of_a_command_once(fleet: Fleet) -> None:
    phones = await fleet.enroll(3)
    asked = await fleet.ask(*phones)
    queued = await fleet.queued()
    assert {e.channel_id for e in queued} == {phone.channel_id for phone in phones}
    assert len(queued) == 3
    assert {e.meta.causation_id for e in queued} == {asked["command_id"]}


async def test_not_now_to_what_has_run_out_of_time_ends_it(fleet: Fleet) -> None:
    """The sweeper has seen that it was out, and would come back only when the answer is overdue."""
    phone = await fleet.enroll()
    asked = await fleet.ask(phone, expires_in_seconds=60)
    await phone.idle()
    fleet.clock.advance(timedelta(seconds=61))
    await fleet.job("sweep ended commands")
    assert (await fleet.show(asked["command_id"]))["progress"] == {"sent": 1}
    assert await phone.say("NotNow", asked["command_id"]) is None
    [end] = await fleet.finished()
    assert (end.state, end.reason) == (TargetState.EXPIRED, "the device had not begun")
    assert (await fleet.show(asked["command_id"]))["progress"] == {"expired": 1}


async def test_not_now_to_what_was_cancelled_when_its_time_had_run_out_is_cancelled(
    fleet: Fleet,
) -> None:
    phone = await fleet.enroll()
    asked = await fleet.ask(phone, expires_in_seconds=60)
    await phone.idle()
    fleet.clock.advance(timedelta(seconds=61))
    path = f"/api/v1/commands/{asked['command_id']}/cancel"
    assert (await fleet.trial.call("POST", path, {})).json == {"cancelled": True}
    assert await phone.say("NotNow", asked["command_id"]) is None
    [end] = await fleet.finished()
    assert (end.state, end.reason) == (TargetState.CANCELLED, "the device had not begun")
