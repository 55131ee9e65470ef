"""Who may speak at the check-in address, and what rubbish gets (apple.md §1.4, §1.11, §1.12)."""

from __future__ import annotations

import base64
import plistlib
from datetime import timedelta

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.enrollment.conftest import Apple, House
from tools.simulator.wire import cms, scep

CHECK_IN = "/mdm/apple/checkin"


async def nothing_happened(house: House, before: object) -> bool:
    after = await house.query("SELECT * FROM enrollment")
    return after == before and not (await house.told()).events


async def test_a_swapped_body_is_refused(house: House) -> None:
    """apple.md §1.11, 8: the signature is good, over another body."""
    device = await house.enrolled()
    await house.told()
    before = await house.query("SELECT * FROM enrollment")
    other = plistlib.dumps(device.token_update(Token=b"another"))
    for embed in (False, True):
        device.style = cms.Style(embed=embed)
        answer = await house.check_in(device, device.token_update(), signed=other)
        assert (answer.status, answer.text) == (400, "signature_bad\n")
    assert await nothing_happened(house, before)


@pytest.mark.parametrize(
    "style",
    [
        cms.Style(embed=True),
        cms.Style(digest="sha1"),
        cms.Style(digest="sha1", combined_algorithm=True, null_parameters=False),
        cms.Style(indefinite=True),
        cms.Style(attributes=False),
    ],
    ids=["embedded", "sha1", "sha1 without NULL", "BER", "no attributes"],
)
async def test_the_fields_ways_of_signing_are_accepted(house: House, style: cms.Style) -> None:
    """apple.md §1.11, 8 and §1.12, 3."""
    device = await house.enrolled()
    device.style = style
    assert (await house.check_in(device, device.token_update())).status == 200


async def test_two_signers_are_refused(house: House) -> None:
    mine, other = await house.enrolled(), await house.enrolled()
    assert mine.identity is not None
    assert other.identity is not None
    body = plistlib.dumps(mine.token_update())
    message = cms.sign(body, [mine.identity, other.identity], cms.Style())
    headers = {"Mdm-Signature": base64.b64encode(message).decode()}
    answer = await house.service.send("devices", "PUT", CHECK_IN, body, headers)
    assert (answer.status, answer.text) == (400, "signature_bad\n")


async def test_a_wrong_certificate_is_refused_without_a_change(house: House) -> None:
    """apple.md §1.11, 6: neither 401 nor a state change."""
    device = await house.enrolled()
    await house.told()
    before = await house.query("SELECT * FROM enrollment")
    key = house.new_key()
    stranger = scep.self_signed(key, scep.subject_name([[["CN", "stranger"]]]))
    answer = await house.check_in(device, device.authenticate(), identity=stranger)
    assert (answer.status, answer.text) == (400, "certificate_unknown\n")
    unused = await house.identity(await house.credential())
    await house.told()
    answer = await house.check_in(device, device.token_update(), identity=unused)
    assert (answer.status, answer.text) == (400, "not_authenticated\n")
    assert await nothing_happened(house, before)


async def test_an_old_signature_is_not_played_again(house: House) -> None:
    """apple.md §1.12, 2: where a signing time is present, it bounds the replay."""
    device = await house.enrolled()
    house.later(days=2)
    answer = await house.check_in(device, device.token_update())
    assert (answer.status, answer.text) == (400, "signature_old\n")
    device.style = cms.Style(with_signing_time=False)
    assert (await house.check_in(device, device.token_update())).status == 200
    device.style = cms.Style(signing_time=house.clock.now() - timedelta(hours=1))
    assert (await house.check_in(device, device.token_update())).status == 200


async def test_an_expired_certificate_is_refused(house: House) -> None:
    device = await house.enrolled()
    house.later(days=3 * 365 + 1)
    device.style = cms.Style(signing_time=house.clock.now())
    answer = await house.check_in(device, device.token_update())
    assert (answer.status, answer.text) == (400, "certificate_expired\n")


async def test_after_check_out_the_old_identity_is_refused(house: House) -> None:
    """apple.md §1.12, 2."""
    device = await house.enrolled()
    message = device.message("CheckOut", Topic="com.apple.mgmt.x")
    answer = await house.check_in(device, message)
    assert (answer.status, answer.body) == (200, b"")
    for again in (message, device.token_update(), device.authenticate()):
        answer = await house.check_in(device, again)
        assert (answer.status, answer.text) == (400, "certificate_revoked\n")


def deep(levels: int) -> bytes:
    inside = b"<array>" * levels + b"</array>" * levels
    return b"<plist><dict><key>A</key>" + inside + b"</dict></plist>"


RUBBISH = {
    "empty": b"",
    "text": b"hello",
    "truncated": b"<?xml version='1.0'?><plist><dict><key>MessageType",
    "deep": deep(100),
    "binary": plistlib.dumps({"MessageType": "Authenticate"}, fmt=plistlib.FMT_BINARY),
    "duplicate keys": b"<plist><dict><key>MessageType</key><string>CheckOut</string>"
    b"<key>MessageType</key><string>Authenticate</string></dict></plist>",
    "entity": b'<!DOCTYPE plist [<!ENTITY a "x">]><plist><dict><key>A</key><string>&a;</string>'
    b"</dict></plist>",
    "bad base64": b"<plist><dict><key>Token</key><data>***</data></dict></plist>",
    "NUL": b"<plist><dict><key>A\x00</key><string>b</string></dict></plist>",
    "surrogate": b"<plist><dict><key>A</key><string>&#xD800;</string></dict></plist>",
    "no message": plistlib.dumps({"Status": "Idle", "UDID": "x"}),
    "unknown message": plistlib.dumps({"MessageType": "Reboot", "UDID": "x"}),
    "no id": plistlib.dumps({"MessageType": "Authenticate", "Topic": "com.apple.mgmt.x"}),
    "wrong types": plistlib.dumps({"MessageType": ["Authenticate"], "UDID": 7}),
}


@pytest.mark.parametrize("body", RUBBISH.values(), ids=RUBBISH.keys())
async def test_well_signed_rubbish_gets_a_short_400(house: House, body: bytes) -> None:
    """apple.md §1.11, 27."""
    device = await house.enrolled()
    await house.told()
    before = await house.query("SELECT * FROM enrollment")
    answer = await house.check_in(device, body)
    assert answer.status == 400
    assert len(answer.body) < 200
    assert await nothing_happened(house, before)


@pytest.mark.parametrize(
    "signature", [None, "", "?", "AAAA", base64.b64encode(b"\x30\x80" * 40).decode(), "A" * 15000]
)
async def test_an_unsigned_or_badly_signed_body_gets_a_short_400(
    house: House, signature: str | None
) -> None:
    body = plistlib.dumps(house.device().authenticate())
    headers = {} if signature is None else {"Mdm-Signature": signature}
    answer = await house.service.send("devices", "PUT", CHECK_IN, body, headers)
    assert answer.status == 400
    assert len(answer.body) < 200


async def test_an_oversized_body_is_refused_before_it_is_read(house: House) -> None:
    """apple.md §1.12, 8: not a byte of it is waited for."""
    answer = await house.raw(
        b"PUT /mdm/apple/checkin HTTP/1.1\r\nHost: mdm.example.org\r\n"
        b"Content-Length: 20000000\r\nConnection: close\r\n\r\n"
    )
    assert answer.startswith(b"HTTP/1.1 413 ")


async def test_a_compressed_body_is_refused(house: House) -> None:
    device = await house.enrolled()
    answer = await house.check_in(device, b"x", headers={"Content-Encoding": "gzip"})
    assert answer.status == 415


async def test_a_signed_message_with_odd_values_never_breaks_the_service(house: House) -> None:
    """Any values under the known keys: 200 or a bounded refusal, never a 500."""
    device = await house.enrolled()
    values = st.one_of(
        st.text(max_size=300),
        st.binary(max_size=300),
        st.booleans(),
        st.integers(-9, 9),
        st.lists(st.text(max_size=5), max_size=3),
    )
    keys = ("Token", "PushMagic", "UnlockToken", "UserID", "UserShortName", "Topic", "DeviceName")
    kinds = st.sampled_from(
        ("Authenticate", "TokenUpdate", "SetBootstrapToken", "UserAuthenticate")
    )
    messages = st.builds(
        lambda kind, more: {"MessageType": kind, "UDID": device.udid, **more},
        kinds,
        st.dictionaries(st.sampled_from(keys), values, max_size=7),
    )
    sent = []

    @settings(
        max_examples=60,
        deadline=None,
        database=None,
        suppress_health_check=[HealthCheck.function_scoped_fixture],
    )
    @given(messages)
    def gather(message: dict[str, object]) -> None:
        sent.append(message)

    gather()
    for message in sent:
        try:
            body = plistlib.dumps(message)
        except (TypeError, ValueError, OverflowError):
            continue  # nothing that a property list can hold
        answer = await house.check_in(device, body)
        assert answer.status in (200, 400, 410), (message, answer.text)


async def test_the_authenticated_message_cannot_be_sent_for_another_device(house: House) -> None:
    """Ids in a body are only compared: they never choose whom a message concerns."""
    mine, other = await house.enrolled(), await house.enrolled()
    await house.told()
    forged = Apple(other.udid, other.serial, identity=mine.identity)
    for message in (
        forged.token_update(Token=b"evil"),
        forged.message("CheckOut", Topic="com.apple.mgmt.x"),
        forged.message("SetBootstrapToken", BootstrapToken=b"evil"),
        forged.message("GetBootstrapToken"),
    ):
        answer = await house.check_in(forged, message)
        assert (answer.status, answer.text) == (400, "certificate_of_another\n")
    assert not (await house.told()).events
