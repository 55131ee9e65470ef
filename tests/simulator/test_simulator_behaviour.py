"""Conversations: order, NotNow, repetition, loss, and the end of an enrollment."""

from __future__ import annotations

from dataclasses import replace

import aiohttp
import pytest

from tests.simulator.conftest import MakeDevice
from tests.simulator.responder import Responder
from tools.simulator import behaviour
from tools.simulator.conversation import Conversation, Outcome
from tools.simulator.device import SimulatedDevice


def statuses(responder: Responder) -> list[tuple[str, str | None]]:
    """What arrived at the connect endpoint, in order."""
    messages = [heard.message for heard in responder.heard if heard.path.endswith("connect")]
    return [(message["Status"], message.get("CommandUUID")) for message in messages]


async def test_commands_are_answered_in_order(
    enrolled: SimulatedDevice, responder: Responder
) -> None:
    first = responder.queue(enrolled.udid, "DeviceInformation", Queries=["UDID"])
    second = responder.queue(enrolled.udid, "SecurityInfo")
    third = responder.queue(enrolled.udid, "MakeCoffee")
    conversation = Conversation(enrolled)
    assert await conversation.run() is Outcome.DONE
    assert statuses(responder) == [
        ("Idle", None),
        ("Acknowledged", first),
        ("Acknowledged", second),
        ("Error", third),
    ]
    assert responder.results[first]["QueryResponses"] == {"UDID": enrolled.udid}
    assert responder.results[third]["ErrorChain"][0]["ErrorCode"] == 12021
    assert conversation.tally.commands == {
        "DeviceInformation": 1,
        "SecurityInfo": 1,
        "MakeCoffee": 1,
    }
    assert not enrolled.receipts.repeated
    assert not enrolled.complaints


async def test_not_now_first_then_done(enrolled: SimulatedDevice, responder: Responder) -> None:
    harmless = responder.queue(enrolled.udid, "DeviceInformation", Queries=["UDID"])
    refused = responder.queue(enrolled.udid, "SecurityInfo")
    conversation = Conversation(enrolled, behaviour.NOT_NOW)
    assert await conversation.run() is Outcome.NOT_NOW
    assert await conversation.run() is Outcome.DONE
    assert statuses(responder) == [
        ("Idle", None),
        ("Acknowledged", harmless),
        ("NotNow", refused),
        ("Idle", None),
        ("Acknowledged", refused),
    ]
    # To be given a refused command again is no repetition.
    assert enrolled.receipts[refused].times == 2
    assert not enrolled.receipts.repeated


async def test_not_now_followed_by_an_answer_waits_for_a_push(
    enrolled: SimulatedDevice, responder: Responder
) -> None:
    responder.queue(enrolled.udid, "SecurityInfo")
    responder.queue(enrolled.udid, "DeviceInformation", Queries=["UDID"])
    outcome = await Conversation(enrolled, replace(behaviour.NOT_NOW, refusals=2)).run()
    # The refusal was not the last status: this device does not come back by itself.
    assert outcome is Outcome.DONE


async def test_a_mac_in_power_nap_takes_only_what_apple_lists(
    make_device: MakeDevice, responder: Responder, device_session: aiohttp.ClientSession
) -> None:
    mac = make_device(20, "mac")
    await mac.enroll(device_session, responder.enroll_url)
    refused = responder.queue(mac.udid, "DeviceInformation", Queries=["UDID"])
    taken = responder.queue(mac.udid, "RestartDevice")
    assert await Conversation(mac, behaviour.NOT_NOW).run() is Outcome.OFF
    assert statuses(responder)[1:] == [("NotNow", refused), ("Acknowledged", taken)]
    assert mac.state.restarts == 1


async def test_a_refused_command_again_at_once_is_a_complaint(
    enrolled: SimulatedDevice, responder: Responder
) -> None:
    responder.queue(enrolled.udid, "SecurityInfo")
    responder.forgetful = True
    outcome = await Conversation(enrolled, behaviour.NOT_NOW).run()
    assert outcome is Outcome.NOT_NOW
    assert enrolled.complaints["a refused command again at once"] == 1


@pytest.mark.parametrize("status", [503, 400])
async def test_an_answer_is_kept_until_it_is_taken(
    status: int, enrolled: SimulatedDevice, responder: Responder
) -> None:
    command = responder.queue(enrolled.udid, "SecurityInfo")
    conversation = Conversation(enrolled)
    responder.statuses = [None, status]
    assert await conversation.run() is Outcome.LOST
    assert await conversation.run() is Outcome.DONE
    assert statuses(responder) == [
        ("Idle", None),
        ("Acknowledged", command),
        ("Acknowledged", command),
    ]
    assert not enrolled.receipts.repeated
    assert conversation.tally.refusals == {status: 1}


async def test_a_command_given_twice_is_counted(
    enrolled: SimulatedDevice, responder: Responder
) -> None:
    command = responder.queue(enrolled.udid, "SecurityInfo")
    for _ in range(3):
        await enrolled.connect()
    assert enrolled.receipts[command].times == 3
    assert enrolled.receipts[command].repeats == 2
    await enrolled.connect("Acknowledged", command)
    assert enrolled.receipts[command].statuses == ["Acknowledged"]


async def test_a_lost_reply_leaves_no_trace(
    enrolled: SimulatedDevice, responder: Responder
) -> None:
    command = responder.queue(enrolled.udid, "SecurityInfo")
    reply = await enrolled.connect(lose_reply=True)
    assert reply.command is not None
    assert command not in enrolled.receipts


MISBEHAVIOURS = {each.name: each for each in behaviour.MISBEHAVING}


@pytest.mark.parametrize("name", MISBEHAVIOURS)
async def test_misbehaving_devices_still_get_through(
    name: str, enrolled: SimulatedDevice, responder: Responder
) -> None:
    how = MISBEHAVIOURS[name]
    how.prepare(enrolled)
    command = responder.queue(enrolled.udid, "SecurityInfo")
    assert await Conversation(enrolled, how).run() is Outcome.DONE
    connects = [heard for heard in responder.heard if heard.path.endswith("connect")]
    assert responder.results[command]["Status"] == "Acknowledged"
    assert {heard.method for heard in connects} == {how.method}
    assert all(("Content-Type" in heard.headers) is how.content_types for heard in connects)
    answers = [uuid for status, uuid in statuses(responder) if status == "Acknowledged"]
    if how.repeats:
        assert answers == [command, command]
    if how.invents:
        assert len(answers) == 2
        assert answers[1] == command


async def test_erase_ends_the_enrollment(enrolled: SimulatedDevice, responder: Responder) -> None:
    responder.queue(enrolled.udid, "EraseDevice")
    later = responder.queue(enrolled.udid, "SecurityInfo")
    before = enrolled.managed
    assert await Conversation(enrolled).run() is Outcome.ENDED
    assert enrolled.enrollment is None
    assert enrolled.state.profiles == {}
    assert later not in responder.results
    assert enrolled.link.session is not None
    await enrolled.enroll(enrolled.link.session, responder.enroll_url)
    assert enrolled.managed.push.token != before.push.token
    assert enrolled.identity.certificate != before.identity.certificate


async def test_the_enrollment_profile_again_renews(
    enrolled: SimulatedDevice, responder: Responder
) -> None:
    before = enrolled.managed
    command = responder.queue(enrolled.udid, "InstallProfile", Payload=responder.profile())
    after = responder.queue(enrolled.udid, "SecurityInfo")
    assert await Conversation(enrolled).run() is Outcome.DONE
    assert responder.results[command]["Status"] == "Acknowledged"
    assert responder.results[after]["Status"] == "Acknowledged"
    assert len(responder.said("Authenticate")) == 2
    assert enrolled.managed is not before
    assert enrolled.managed.push.token != before.push.token
    assert (await enrolled.connect()).ok


async def test_removing_the_enrollment_profile_checks_out(
    enrolled: SimulatedDevice, responder: Responder
) -> None:
    responder.queue(enrolled.udid, "RemoveProfile", Identifier="test.enrollment")
    assert await Conversation(enrolled).run() is Outcome.ENDED
    assert len(responder.said("CheckOut")) == 1


async def test_401_ends_the_enrollment(enrolled: SimulatedDevice, responder: Responder) -> None:
    responder.statuses = [401]
    assert await Conversation(enrolled).run() is Outcome.ENDED
    assert enrolled.enrollment is None
    assert enrolled.complaints["answered 401, which unenrolls (apple.md 1.1)"] == 1


async def test_400_does_not_end_it(enrolled: SimulatedDevice, responder: Responder) -> None:
    responder.statuses = [400]
    assert await Conversation(enrolled).run() is Outcome.LOST
    assert enrolled.enrollment is not None


@pytest.mark.parametrize(("status", "what"), [(204, "204"), (500, "500")])
async def test_odd_answers_are_complained_about(
    status: int, what: str, enrolled: SimulatedDevice, responder: Responder
) -> None:
    responder.statuses = [status]
    await enrolled.connect()
    assert any(what in complaint for complaint in enrolled.complaints)


async def test_user_channel_has_its_own_queue(
    make_device: MakeDevice, responder: Responder, device_session: aiohttp.ClientSession
) -> None:
    mac = make_device(21, "mac")
    await mac.enroll(device_session, responder.enroll_url)
    user = mac.traits.user
    await mac.token_update(user)
    mine = responder.queue(mac.udid, "ProfileList", user=user.user_id)
    theirs = responder.queue(mac.udid, "ProfileList")
    conversation = Conversation(mac)
    assert await conversation.run(user) is Outcome.DONE
    assert mine in responder.results
    assert theirs not in responder.results
    assert responder.results[mine]["UserID"] == user.user_id
    assert mac.receipts[mine].user_id == user.user_id
