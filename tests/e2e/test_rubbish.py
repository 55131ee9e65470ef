"""Acceptance 6: rubbish on every device endpoint gets a bounded answer and has no effect."""

from __future__ import annotations

import plistlib
from datetime import UTC, datetime, timedelta

import pytest

from tests.e2e.conftest import Workshop
from tests.e2e.rig import Person
from tools.simulator import signing
from tools.simulator.device import SimulatedDevice
from tools.simulator.signing import Signing
from tools.simulator.wire import cms
from tools.simulator.wire.messages import CHECK_IN_TYPE, Reply, xml

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]

HEAD = b'<?xml version="1.0" encoding="UTF-8"?><plist version="1.0">'
ENTITY = (
    b'<?xml version="1.0"?><!DOCTYPE plist [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;">]>'
    b'<plist version="1.0"><dict><key>Status</key><string>&b;&b;</string></dict></plist>'
)


def bodies(device: SimulatedDevice) -> dict[str, bytes]:
    """Documents that no honest device sends, by what is wrong with them."""
    idle = xml({"Status": "Idle", "UDID": device.udid})
    pair = b"<key>UDID</key><string>%s</string>" % device.udid.encode()
    status = b"<key>Status</key><string>Idle</string>"
    deep = b"<array>" * 5000 + b"</array>" * 5000
    return {
        "empty": b"",
        "noise": bytes(range(256)) * 4,
        "truncated": idle[: len(idle) // 2],
        "deep": HEAD + b"<dict><key>Status</key>" + deep + b"</dict></plist>",
        "duplicate keys": HEAD + b"<dict>" + status + status + pair + b"</dict></plist>",
        "binary plist": plistlib.dumps(
            {"Status": "Idle", "UDID": device.udid}, fmt=plistlib.FMT_BINARY
        ),
        "entities": ENTITY,
        "not a dictionary": HEAD + b"<array/></plist>",
        "bad base64": HEAD + b"<dict><key>Status</key><data>!!!</data></dict></plist>",
        "huge integer": HEAD + b"<dict><key>N</key><integer>" + b"9" * 5000
        + b"</integer></dict></plist>",
    }  # fmt: skip


def bounded(reply: Reply, *allowed: int) -> None:
    assert reply.status in allowed, (reply.status, reply.body[:200])
    assert len(reply.body) < 500
    assert b"Traceback" not in reply.body
    assert not reply.unenrolls


async def test_rubbish_on_connect_well_signed_never_makes_a_device_loop(
    workshop: Workshop, person: Person
) -> None:
    """The sent command ends as failed, the answer is an empty 200 (security.md, The edge)."""
    device = await workshop.enrolled()
    device_id = await person.device_id(device)
    for name, body in bodies(device).items():
        command = await person.command(device_id)
        given = (await device.connect()).command
        assert given, name
        bounded(await device.send(device.connect_url, body), 200, 400)
        if (await person.state(command)) == "sent":
            await device.connect("Acknowledged", given)
        assert (await person.outcome(command))["state"] in ("failed", "acknowledged"), name


async def test_rubbish_on_check_in_is_a_short_400(workshop: Workshop) -> None:
    device = await workshop.enrolled()
    for body in bodies(device).values():
        reply = await device.send(device.check_in_url, body, content_type=CHECK_IN_TYPE)
        bounded(reply, 400)
    assert (await device.connect()).ok


SIGNATURES = {
    "none": signing.UNSIGNED,
    "no base64": Signing(header="%%%"),
    "no CMS": Signing(header="AAAA"),
    "too large": Signing(header="A" * 15_000),
    "swapped": signing.swapped(b"another body"),
    "old": Signing(cms.Style(signing_time=datetime.now(UTC) - timedelta(days=30))),
    "no certificate": Signing(cms.Style(with_certificate=False)),
}


@pytest.mark.parametrize("name", SIGNATURES)
async def test_bad_signatures_are_refused_everywhere(workshop: Workshop, name: str) -> None:
    device = await workshop.enrolled()
    bad = SIGNATURES[name]
    bounded(await device.connect(signing=bad), 400)
    message = device.message("GetBootstrapToken", AwaitingConfiguration=False)
    bounded(await device.checkin(message, signing=bad), 400)
    assert (await device.connect()).ok


async def test_two_signers_are_refused(workshop: Workshop) -> None:
    one, other = await workshop.enrolled(), await workshop.enrolled()
    both = signing.by(one.identity, other.identity)
    bounded(await one.connect(signing=both), 400)
    bounded(await one.checkin(one.message("GetBootstrapToken"), signing=both), 400)


async def test_a_replayed_answer_has_no_second_effect(workshop: Workshop, person: Person) -> None:
    device = await workshop.enrolled()
    device_id = await person.device_id(device)
    first = await person.command(device_id)
    given = (await device.connect()).command
    assert given
    body = xml({"Status": "Acknowledged", "UDID": device.udid, "CommandUUID": given.uuid})
    headers = signing.HONEST.headers(body, device.identity)
    for _ in range(3):
        reply = await device.link.request("PUT", device.connect_url, body, headers)
        assert reply.ok
    second = await person.command(device_id)
    reply = await device.link.request("PUT", device.connect_url, body, headers)
    assert reply.ok
    assert await person.state(second) in ("queued", "sent")
    assert (await person.outcome(first))["deliveries"] == 1


@pytest.mark.filterwarnings("ignore:Sending a large body:ResourceWarning")
async def test_oversized_bodies_end_bounded(workshop: Workshop, person: Person) -> None:
    device = await workshop.enrolled()
    large = xml({"Status": "Idle", "UDID": device.udid, "Filler": b"x" * (13 * 1024 * 1024)})
    assert len(large) > 16 * 1024 * 1024
    command = await person.command(await person.device_id(device))
    given = (await device.connect()).command
    assert given
    bounded(await device.send(device.connect_url, large), 200)
    assert (await person.outcome(command))["state"] == "failed"
    bounded(await device.send(device.check_in_url, large, content_type=CHECK_IN_TYPE), 400, 413)


@pytest.mark.parametrize("path", ["/scep/", "/scep/none", "/enroll/apple/none", "/pki/ocsp"])
@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "DELETE"])
async def test_rubbish_elsewhere(person: Person, path: str, method: str) -> None:
    for query in ("", "?operation=PKIOperation&message=%ff%fe", "?operation=" + "x" * 3000):
        async with person.session.request(
            method, person.cluster.devices_url + path + query, data=b"\x30\x80rubbish"
        ) as answer:
            assert answer.status < 500, (path, query, answer.status)
            assert answer.status != 401
            assert len(await answer.read()) < 4000
