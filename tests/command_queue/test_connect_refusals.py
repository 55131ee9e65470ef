"""Who is not served, and what a body may not be (security.md, The edge; apple.md §1.11, §1.12)."""

from __future__ import annotations

import base64
import os
import plistlib
from datetime import timedelta
from uuid import uuid4

import pytest

from shared.apple import cms
from shared.events.commands import AnswerUnexpected, TargetState
from shared.runtime.testing import Answer
from tests.command_queue.fleet import CONNECT, Authority, Fleet, Phone, sendable

_MALFORMED = {
    "truncated": b"<?xml version='1.0'?><plist version='1.0'><dict><key>Status</key>",
    "rubbish": b"\x00\xff\xfe rubbish",
    "binary": plistlib.dumps({"Status": "Idle"}, fmt=plistlib.FMT_BINARY),
    "duplicate keys": b"<plist version='1.0'><dict><key>Status</key><string>Idle</string>"
    b"<key>Status</key><string>Acknowledged</string></dict></plist>",
    "deep": b"<plist version='1.0'>" + b"<dict><key>a</key>" * 200,
    "entity": b"<!DOCTYPE plist [<!ENTITY a 'aaaa'>]><plist version='1.0'><dict><key>Status</key>"
    b"<string>&a;</string></dict></plist>",
    "NUL": b"<plist version='1.0'><dict><key>Status</key><string>I&#0;dle</string></dict></plist>",
    "lone surrogate": b"<plist version='1.0'><dict><key>Status</key><string>&#xD800;</string>"
    b"</dict></plist>",
    "bad base64": b"<plist version='1.0'><dict><key>Status</key><data>!!</data></dict></plist>",
    "an array": b"<plist version='1.0'><array/></plist>",
    "empty": b"",
}


async def _send(fleet: Fleet, body: bytes, signature: str | None) -> Answer:
    headers = {} if signature is None else {"Mdm-Signature": signature}
    return await fleet.trial.send("devices", "PUT", CONNECT, sendable(body), headers)


def _short(answer: Answer) -> bool:
    return answer.status == 400 and len(answer.body) < 200


@pytest.mark.parametrize("what", _MALFORMED)
async def test_a_well_signed_body_that_cannot_be_read_ends_what_was_handed_out(
    fleet: Fleet, what: str
) -> None:
    phone = await fleet.enroll()
    await fleet.ask(phone)
    waiting = await fleet.ask(phone, params={"section": "profiles"})
    assert await phone.idle()
    answer = await phone.send(_MALFORMED[what])
    assert (answer.status, answer.body) == (200, b"")
    [finished] = await fleet.finished()
    assert finished.state is TargetState.FAILED
    assert (finished.reason or "").startswith("unreadable answer: ")
    # Only that one: what waits goes on.
    one = await phone.idle()
    assert one
    assert one.command_uuid == waiting["command_id"]


@pytest.mark.parametrize("what", ["truncated", "duplicate keys", "NUL"])
async def test_a_badly_signed_body_that_cannot_be_read_is_400_and_ends_nothing(
    fleet: Fleet, what: str
) -> None:
    phone = await fleet.enroll()
    await fleet.ask(phone)
    assert await phone.idle()
    signature = phone.identity.header(b"something else", fleet.clock.now())
    assert _short(await _send(fleet, _MALFORMED[what], signature))
    assert await fleet.finished() == []


async def test_a_report_without_a_status_or_a_command_is_malformed(fleet: Fleet) -> None:
    phone = await fleet.enroll()
    await fleet.ask(phone)
    assert await phone.idle()
    body = plistlib.dumps({"UDID": phone.udid, "Status": "Acknowledged"})
    answer = await phone.send(body)
    assert (answer.status, answer.body) == (200, b"")
    [finished] = await fleet.finished()
    assert finished.reason == "unreadable answer: no CommandUUID"


async def test_a_body_that_names_nobody_is_malformed(fleet: Fleet) -> None:
    phone = await fleet.enroll()
    answer = await phone.send(plistlib.dumps({"Status": "Idle"}))
    assert (answer.status, answer.body) == (200, b"")


@pytest.mark.parametrize(
    "signature", [None, "", "!!!", "AAAA", base64.b64encode(os.urandom(900)).decode(), "A" * 15_000]
)
async def test_a_missing_or_broken_signature_is_a_short_400(
    fleet: Fleet, signature: str | None
) -> None:
    phone = await fleet.enroll()
    assert _short(await _send(fleet, phone.body("Idle"), signature))


async def test_point_8_a_swapped_body_is_refused(fleet: Fleet) -> None:
    phone = await fleet.enroll()
    await fleet.ask(phone)
    signature = phone.identity.header(phone.body("Idle"), fleet.clock.now())
    swapped = phone.body("Acknowledged", str(uuid4()))
    assert _short(await _send(fleet, swapped, signature))
    assert await fleet.rows("SELECT FROM pending WHERE deliveries > 0") == []


async def test_point_8_embedded_content_is_accepted_and_ignored(fleet: Fleet) -> None:
    phone = await fleet.enroll()
    await fleet.ask(phone)
    body, identity = phone.body("Idle"), phone.identity
    embedded = cms.sign(body, identity.certificate, identity.key, at=fleet.clock.now())
    answer = await _send(fleet, body, base64.b64encode(embedded).decode())
    assert answer.status == 200
    assert answer.body
    # What is embedded does not count: the body of the request does.
    swapped = await _send(fleet, phone.body("Idle", x=1), base64.b64encode(embedded).decode())
    assert _short(swapped)


async def test_point_6_a_wrong_certificate_changes_nothing(fleet: Fleet) -> None:
    phone = await fleet.enroll()
    await fleet.ask(phone)
    foreign = Authority(fleet.clock.now(), "Somebody else").issue(phone.udid)
    answer = await phone.send(phone.body("Idle"), identity=foreign)
    assert _short(answer)
    # One of ours that is pinned to nobody does not get the device's work either.
    unpinned = fleet.authority.issue(phone.udid)
    assert _short(await phone.send(phone.body("Idle"), identity=unpinned))
    assert await fleet.rows("SELECT FROM pending WHERE deliveries > 0") == []
    assert await phone.idle()


async def test_point_7_a_certificate_of_another_device_is_refused(fleet: Fleet) -> None:
    one, other = await fleet.enroll(2)
    await fleet.ask(one)
    assert _short(await one.send(one.body("Idle"), identity=other.identity))
    assert await fleet.rows("SELECT FROM pending WHERE deliveries > 0") == []


async def test_an_unknown_device_of_our_ca_gets_an_empty_200(fleet: Fleet) -> None:
    phone = fleet.phone()
    answer = await phone.send(phone.body("Idle"))
    assert (answer.status, answer.body) == (200, b"")


async def test_an_unknown_certificate_that_is_no_device_identity_is_refused(fleet: Fleet) -> None:
    phone = fleet.phone()
    server = fleet.authority.issue("a server", client=False)
    assert _short(await phone.send(phone.body("Idle"), identity=server))
    assert _short(await phone.send(phone.body("Idle"), identity=fleet.authority.identity))


async def test_an_expired_certificate_is_refused(fleet: Fleet) -> None:
    identity = fleet.authority.issue("old", expires=timedelta(days=-1))
    phone = await fleet.enroll(identity=identity)
    assert _short(await phone.send(phone.body("Idle")))


async def test_point_1_before_token_update_nothing_is_served(fleet: Fleet) -> None:
    phone = await fleet.enroll(state="pending", open=False)
    asked = await fleet.ask(phone)
    assert await phone.idle() is None
    phone.state, phone.open = "enrolled", True
    await phone.tell()
    one = await phone.idle()
    assert one
    assert one.command_uuid == asked["command_id"]


async def test_field_note_2_a_device_that_checked_out_is_not_answered(fleet: Fleet) -> None:
    phone = await fleet.enroll()
    idle = phone.body("Idle")
    assert (await phone.send(idle)).status == 200
    phone.state = "ended"
    await phone.tell()
    assert _short(await phone.send(idle))


async def test_a_quarantined_enrollment_is_given_nothing(fleet: Fleet) -> None:
    phone = await fleet.enroll(state="quarantined")
    asked = await fleet.ask(phone)
    assert await phone.idle() is None
    [target] = await fleet.targets(asked["command_id"])
    assert (target["state"], target["reason"]) == ("failed", "enrollment quarantined")


async def test_a_quarantined_enrollment_ends_nothing_of_the_device(fleet: Fleet) -> None:
    """Neither by rubbish nor by a report about a command that the device was handed."""
    phone = await fleet.enroll()
    asked = await fleet.ask(phone)
    assert await phone.idle()
    clone = fleet.phone(device_id=phone.device_id, udid=phone.udid, state="quarantined")
    await fleet.trial.hears(phone.told(clone), service="enrollment")
    assert await clone.idle() is None
    for body in (b"<rubbish", clone.body("Acknowledged", asked["command_id"])):
        assert (await clone.send(body)).body == b""
    [target] = await fleet.targets(asked["command_id"])
    assert target["state"] == "sent"
    assert await phone.say("Acknowledged", asked["command_id"]) is None
    [finished] = await fleet.finished()
    assert finished.state is TargetState.ACKNOWLEDGED


async def test_a_signing_time_older_than_the_setting_is_refused(fleet: Fleet) -> None:
    phone = await fleet.enroll()
    body = phone.body("Idle")
    recent = fleet.clock.now() - timedelta(hours=23)
    assert (await phone.send(body, at=recent)).status == 200
    old = fleet.clock.now() - timedelta(hours=25)
    assert _short(await phone.send(body, at=old))


async def test_a_replayed_answer_has_no_second_effect(fleet: Fleet) -> None:
    phone = await fleet.enroll()
    await fleet.ask(phone)
    one = await phone.idle()
    assert one
    body = phone.body("Acknowledged", one.command_uuid, SecurityInfo={})
    signature = phone.identity.header(body, fleet.clock.now())
    for _ in range(3):
        assert (await _send(fleet, body, signature)).status == 200
    assert len(await fleet.finished()) == 1
    assert len(await fleet.rows("SELECT FROM outcome")) == 1
    assert not [e for e in await fleet.events() if isinstance(e, AnswerUnexpected)]


async def test_a_check_in_at_the_connect_address_is_400(fleet: Fleet) -> None:
    phone = await fleet.enroll()
    body = plistlib.dumps({"MessageType": "TokenUpdate", "UDID": phone.udid})
    assert _short(await phone.send(body))
    assert _short(await fleet.phone().send(body))


async def test_a_compressed_body_is_415(fleet: Fleet) -> None:
    phone = await fleet.enroll()
    answer = await phone.send(phone.body("Idle"), headers={"Content-Encoding": "gzip"})
    assert answer.status == 415


async def test_nothing_is_ever_answered_401(fleet: Fleet) -> None:
    phone = await fleet.enroll()
    foreign = Authority(fleet.clock.now(), "Somebody else").issue("x")
    answers = [
        await _send(fleet, phone.body("Idle"), None),
        await phone.send(phone.body("Idle"), identity=foreign),
        await fleet.trial.send("devices", "GET", CONNECT),
    ]
    assert all(answer.status in {400, 405} for answer in answers)


def _large(phone: Phone, uuid: str, size: int) -> bytes:
    return phone.body("Acknowledged", uuid, SecurityInfo={"Blob": b"x" * (size * 3 // 4)})


async def test_an_answer_up_to_16_mib_is_taken_and_told_in_parts(fleet: Fleet) -> None:
    phone = await fleet.enroll()
    await fleet.ask(phone)
    one = await phone.idle()
    assert one
    body = _large(phone, one.command_uuid, 12 * 1024 * 1024)
    assert len(body) < 16 * 1024 * 1024
    answer = await phone.send(body)
    assert (answer.status, answer.body) == (200, b"")
    events = await fleet.events()
    [finished] = await fleet.finished()
    parts = [event for event in events if type(event).__name__ == "CommandAnswerPart"]
    assert finished.answer is None
    assert finished.answer_parts == len(parts) > 1
    assert events.index(finished) > max(events.index(part) for part in parts)


async def test_an_answer_above_16_mib_ends_its_command_as_failed_with_200(fleet: Fleet) -> None:
    phone = await fleet.enroll()
    await fleet.ask(phone)
    one = await phone.idle()
    assert one
    answer = await phone.send(_large(phone, one.command_uuid, 20 * 1024 * 1024))
    assert (answer.status, answer.body) == (200, b"")
    [finished] = await fleet.finished()
    assert (finished.state, finished.reason) == (
        TargetState.FAILED,
        "the answer is larger than 16 MiB",
    )


async def test_a_badly_signed_body_above_16_mib_is_400_and_ends_nothing(fleet: Fleet) -> None:
    phone = await fleet.enroll()
    await fleet.ask(phone)
    one = await phone.idle()
    assert one
    body = _large(phone, one.command_uuid, 17 * 1024 * 1024)
    signature = phone.identity.header(b"another body", fleet.clock.now())
    assert _short(await _send(fleet, body, signature))
    assert await fleet.finished() == []


async def test_a_body_above_64_mib_is_413(fleet: Fleet) -> None:
    phone = await fleet.enroll()
    signature = phone.identity.header(b"", fleet.clock.now())
    answer = await _send(fleet, bytes(65 * 1024 * 1024), signature)
    assert answer.status == 413
