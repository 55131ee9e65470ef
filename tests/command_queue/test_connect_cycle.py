"""The connect cycle of apple.md §1.3, as devices see it."""

from __future__ import annotations

from datetime import timedelta
from uuid import uuid4

from shared.events.commands import (
    AnswerUnexpected,
    CommandDeferred,
    TargetState,
)
from tests.command_queue.fleet import Fleet


async def test_an_idle_device_with_nothing_to_do_gets_an_empty_200(fleet: Fleet) -> None:
    phone = await fleet.enroll()
    answer = await phone.send(phone.body("Idle"))
    assert (answer.status, answer.body) == (200, b"")
    assert answer.headers["Content-Length"] == "0"


async def test_a_command_goes_out_and_its_answer_ends_it_with_one_event(fleet: Fleet) -> None:
    phone = await fleet.enroll()
    asked = await fleet.ask(phone)
    one = await phone.idle()
    assert one is not None
    assert one.command == {"RequestType": "SecurityInfo"}
    assert one.command_uuid == asked["command_id"]
    info = {"HardwareEncryptionCaps": 3, "PasscodePresent": True}
    assert await phone.say("Acknowledged", one.command_uuid, SecurityInfo=info) is None
    [finished] = await fleet.finished()
    assert finished.state is TargetState.ACKNOWLEDGED
    assert finished.answer == {"SecurityInfo": info}
    assert (finished.kind, finished.section) == ("inventory.refresh", "security")
    assert (finished.deliveries, finished.queue_empty) == (1, True)
    assert finished.enrollment_id == phone.enrollment_id
    assert finished.channel_id == phone.channel_id
    [target] = await fleet.targets(asked["command_id"])
    assert (target["state"], target["answer"]) == ("acknowledged", {"SecurityInfo": info})
    assert await fleet.rows("SELECT FROM pending") == []


async def test_post_works_like_put_and_no_content_type_is_needed(fleet: Fleet) -> None:
    phone = await fleet.enroll()
    await fleet.ask(phone)
    answer = await phone.send(phone.body("Idle"), method="POST")
    assert answer.status == 200
    assert b"SecurityInfo" in answer.body
    assert answer.headers["Content-Type"].startswith("application/xml")


async def test_point_9_first_asked_first_served_but_priority_goes_first(fleet: Fleet) -> None:
    phone = await fleet.enroll()
    first = await fleet.ask(phone)
    second = await fleet.ask(phone, params={"section": "profiles"})
    urgent = await fleet.ask(phone, params={"section": "applications"}, priority=5)
    handed = [one.command_uuid for one in await phone.drain()]
    assert handed == [urgent["command_id"], first["command_id"], second["command_id"]]


async def test_an_error_ends_the_command_and_keeps_the_error_chain(fleet: Fleet) -> None:
    phone = await fleet.enroll()
    await fleet.ask(phone)
    one = await phone.idle()
    assert one
    chain = [{"ErrorCode": 12021, "ErrorDomain": "MCMDMErrorDomain", "USEnglishDescription": "no"}]
    assert await phone.say("Error", one.command_uuid, ErrorChain=chain) is None
    [finished] = await fleet.finished()
    assert finished.state is TargetState.FAILED
    [error] = finished.errors
    assert (error.code, error.domain, error.message) == (12021, "MCMDMErrorDomain", "no")


async def test_a_command_format_error_is_final_and_never_sent_again(fleet: Fleet) -> None:
    phone = await fleet.enroll()
    await fleet.ask(phone)
    one = await phone.idle()
    assert one
    assert await phone.say("CommandFormatError", one.command_uuid) is None
    assert await phone.idle() is None
    [finished] = await fleet.finished()
    assert finished.state is TargetState.FAILED
    assert finished.reason == "the device could not read the command"


async def test_an_unknown_status_ends_the_command_as_failed(fleet: Fleet) -> None:
    phone = await fleet.enroll()
    await fleet.ask(phone)
    one = await phone.idle()
    assert one
    assert await phone.say("Busy", one.command_uuid) is None
    [finished] = await fleet.finished()
    assert (finished.state, finished.reason) == (TargetState.FAILED, "unknown status: Busy")


async def test_point_10_not_now_then_the_next_and_the_refused_one_at_the_next_idle(
    fleet: Fleet,
) -> None:
    phone = await fleet.enroll()
    refused = await fleet.ask(phone)
    other = await fleet.ask(phone, params={"section": "profiles"})
    one = await phone.idle()
    assert one
    assert one.command_uuid == refused["command_id"]
    two = await phone.say("NotNow", one.command_uuid)
    assert two
    assert two.command_uuid == other["command_id"]
    # Not again on this connection, whatever else was answered.
    assert await phone.say("Acknowledged", two.command_uuid) is None
    again = await phone.idle()
    assert again
    assert again.command_uuid == refused["command_id"]


async def test_not_now_alone_hands_out_nothing_and_does_not_spin(fleet: Fleet) -> None:
    phone = await fleet.enroll()
    await fleet.ask(phone)
    one = await phone.idle()
    assert one
    assert await phone.say("NotNow", one.command_uuid) is None
    [deferred] = [e for e in await fleet.events() if isinstance(e, CommandDeferred)]
    assert not deferred.push_wanted
    [row] = await fleet.rows("SELECT state, deferrals FROM pending")
    assert row == {"state": "deferred", "deferrals": 1}


async def test_point_11_not_now_then_an_answer_to_another_wants_a_push_once(fleet: Fleet) -> None:
    phone = await fleet.enroll()
    refused = await fleet.ask(phone)
    for section in ("profiles", "applications"):
        await fleet.ask(phone, params={"section": section})
    one = await phone.idle()
    assert one
    two = await phone.say("NotNow", one.command_uuid)
    assert two
    three = await phone.say("Acknowledged", two.command_uuid)
    assert three
    await phone.say("Acknowledged", three.command_uuid)
    deferred = [e for e in await fleet.events() if isinstance(e, CommandDeferred)]
    assert [(str(e.command_id), e.push_wanted) for e in deferred] == [
        (refused["command_id"], False),
        (refused["command_id"], True),
    ]
    assert [e.queue_empty for e in await fleet.finished()] == [False, False]


async def test_a_target_that_is_never_queued_does_not_hide_what_waits(fleet: Fleet) -> None:
    """`queue_empty` ends the pushes to a channel: it must be true of the whole channel."""
    phone = await fleet.enroll(supervised=False)
    await fleet.ask(phone, kind="device.restart")
    await fleet.ask(phone)
    await fleet.ask(phone, kind="device.restart")
    found = [(event.state, event.queue_empty) for event in await fleet.finished()]
    assert found == [("failed", True), ("failed", False)]


async def test_the_same_not_now_twice_changes_nothing(fleet: Fleet) -> None:
    phone = await fleet.enroll()
    await fleet.ask(phone)
    one = await phone.idle()
    assert one
    await phone.say("NotNow", one.command_uuid)
    await phone.say("NotNow", one.command_uuid)
    events = await fleet.events()
    assert len([e for e in events if isinstance(e, CommandDeferred)]) == 1
    assert not [e for e in events if isinstance(e, AnswerUnexpected)]


async def test_point_12_a_duplicate_answer_has_one_result_and_one_event(fleet: Fleet) -> None:
    phone = await fleet.enroll()
    await fleet.ask(phone)
    next_one = await fleet.ask(phone, params={"section": "profiles"})
    one = await phone.idle()
    assert one
    two = await phone.say("Acknowledged", one.command_uuid)
    assert two
    assert two.command_uuid == next_one["command_id"]
    # Our answer was lost: the device repeats itself and is given the same command once more.
    again = await phone.say("Acknowledged", one.command_uuid)
    assert again
    assert again.command_uuid == two.command_uuid
    events = await fleet.events()
    assert len(await fleet.finished()) == 1
    assert not [e for e in events if isinstance(e, AnswerUnexpected)]


async def test_point_13_an_answer_to_an_unknown_command_is_200_and_an_event(fleet: Fleet) -> None:
    phone = await fleet.enroll()
    waiting = await fleet.ask(phone)
    stranger = str(uuid4())
    one = await phone.say("Acknowledged", stranger)
    assert one
    assert one.command_uuid == waiting["command_id"]
    assert await phone.say("Error", "not even a UUID") is not None
    unexpected = [e for e in await fleet.events() if isinstance(e, AnswerUnexpected)]
    assert [(e.command_uuid, e.status, e.why) for e in unexpected] == [
        (stranger, "Acknowledged", "never asked"),
        ("not even a UUID", "Error", "never asked"),
    ]


async def test_an_answer_to_what_was_never_handed_out_ends_nothing(fleet: Fleet) -> None:
    phone = await fleet.enroll()
    await fleet.ask(phone)
    later = await fleet.ask(phone, params={"section": "profiles"})
    await phone.say("Acknowledged", later["command_id"])
    assert await fleet.finished() == []
    [unexpected] = [e for e in await fleet.events() if isinstance(e, AnswerUnexpected)]
    assert unexpected.why == "never asked"
    assert len(await phone.drain()) == 2


async def test_point_14_what_was_not_answered_is_handed_out_again_and_counted(
    fleet: Fleet,
) -> None:
    phone = await fleet.enroll()
    asked = await fleet.ask(phone)
    for _ in range(3):
        one = await phone.idle()
        assert one
        assert one.command_uuid == asked["command_id"]
    await phone.say("Acknowledged", asked["command_id"])
    [finished] = await fleet.finished()
    assert finished.deliveries == 3
    [target] = await fleet.targets(asked["command_id"])
    assert target["deliveries"] == 3


async def test_a_late_word_on_what_is_settled_otherwise_is_told(fleet: Fleet) -> None:
    phone = await fleet.enroll()
    asked = await fleet.ask(phone)
    one = await phone.idle()
    assert one
    await phone.say("Error", one.command_uuid)
    await phone.say("Acknowledged", one.command_uuid)
    [unexpected] = [e for e in await fleet.events() if isinstance(e, AnswerUnexpected)]
    assert (str(unexpected.command_uuid), unexpected.why) == (
        asked["command_id"],
        "settled as failed",
    )
    assert [e.state for e in await fleet.finished()] == [TargetState.FAILED]


async def test_point_15_commands_of_a_user_channel_never_reach_the_device_channel(
    fleet: Fleet,
) -> None:
    user = "0A2C6A4E-1111-2222-3333-444455556666"
    phone = fleet.phone(platform="macos", os_version="14.1")
    phone.users[user] = uuid4()
    await phone.tell()
    asked = await fleet.ask(
        kind="inventory.refresh",
        params={"section": "profiles"},
        channel_ids=[str(phone.users[user])],
    )
    assert await phone.idle() is None
    one = await phone.idle(UserID=user)
    assert one
    assert one.command_uuid == asked["command_id"]
    # The device channel cannot answer for the user.
    await phone.say("Acknowledged", one.command_uuid)
    assert await fleet.finished() == []
    await phone.say("Acknowledged", one.command_uuid, UserID=user)
    [finished] = await fleet.finished()
    assert finished.channel_id == phone.users[user]


async def test_point_16_a_shared_ipad_user_is_found_by_the_short_name(fleet: Fleet) -> None:
    phone = fleet.phone(platform="ipados", mode="shared_ipad")
    phone.users["ann@example.org"] = uuid4()
    await phone.tell()
    await fleet.ask(
        params={"section": "profiles"}, channel_ids=[str(phone.users["ann@example.org"])]
    )
    shared = "FFFFFFFF-FFFF-FFFF-FFFF-FFFFFFFFFFFF"
    assert await phone.idle(UserID=shared, UserShortName="bob@example.org") is None
    assert await phone.idle(UserID=shared, UserShortName="ann@example.org") is not None


async def test_an_expired_command_is_never_handed_out(fleet: Fleet) -> None:
    phone = await fleet.enroll()
    asked = await fleet.ask(phone, expires_in_seconds=60)
    fleet.clock.advance(timedelta(seconds=61))
    assert await phone.idle() is None
    await fleet.job("sweep ended commands")
    [finished] = await fleet.finished()
    assert finished.state is TargetState.EXPIRED
    assert (await fleet.show(asked["command_id"]))["state"] == "expired"


async def test_secret_fields_of_an_answer_reach_no_event_and_no_plain_row(fleet: Fleet) -> None:
    phone = await fleet.enroll(platform="macos", os_version="14.1")
    await fleet.ask(phone)
    one = await phone.idle()
    assert one
    info = {"FDE_Enabled": True, "FDE_PersonalRecoveryKeyCMS": b"marked-secret"}
    await phone.say("Acknowledged", one.command_uuid, SecurityInfo=info, UnlockToken=b"marked-too")
    [finished] = await fleet.finished()
    assert finished.answer == {"SecurityInfo": {"FDE_Enabled": True}}
    [row] = await fleet.rows("SELECT answer::text, secrets FROM outcome")
    assert row["answer"] == '{"SecurityInfo": {"FDE_Enabled": true}}'
    channel = f"{one.command_uuid}:{phone.channel_id}"
    opened = fleet.trial.context.cipher.decrypt(
        row["secrets"], table="outcome", column="secrets", row=channel
    )
    assert b"FDE_PersonalRecoveryKeyCMS" in opened
    assert b"UnlockToken" in opened
