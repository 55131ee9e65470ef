"""apple.md §1.12, the notes that are about what a server must not do under odd requests."""

from __future__ import annotations

import asyncio
from uuid import uuid4

import pytest

from tests.e2e.conftest import Workshop
from tests.e2e.rig import Person
from tools.simulator.wire import scep
from tools.simulator.wire.cms import Identity
from tools.simulator.wire.messages import xml

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]


async def test_note_07_unknown_devices_and_foreign_ids_are_bounded(
    workshop: Workshop, person: Person
) -> None:
    """Where NanoMDM answers 500: unknown device, foreign UDID, unknown command, unknown Status."""
    known = await workshop.enrolled()
    stranger = await workshop.enrolled()
    key = await workshop.keys.get(stranger.traits.index, 7)
    self_made = scep.self_signed(key, known.identity.certificate.subject)
    stranger.managed.identity = Identity(key, self_made.certificate)
    assert (await stranger.connect()).status == 400
    assert (await stranger.authenticate()).status == 400

    foreign = xml({"Status": "Idle", "UDID": str(uuid4()).upper()})
    assert (await known.send(known.connect_url, foreign)).status == 400
    assert (await known.connect("Acknowledged", str(uuid4()))).status == 200
    assert (await known.connect("Nonsense", str(uuid4()))).status in (200, 400)
    message = xml({"MessageType": "Nonsense", "UDID": known.udid})
    assert (await known.send(known.check_in_url, message)).status == 400
    assert (await known.connect()).ok
    assert await person.device_id(known)


async def test_note_08_bodies_are_limited_before_they_are_read(person: Person) -> None:
    """The refusal comes while not one byte of the announced body was sent."""
    port = person.cluster.serving("enrollment").ports["devices"]
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    head = (
        "PUT /mdm/apple/checkin HTTP/1.1\r\nHost: localhost\r\nMdm-Signature: AAAA\r\n"
        f"Content-Length: {200 * 1024 * 1024}\r\n\r\n"
    )
    writer.write(head.encode())
    async with asyncio.timeout(30):
        status = (await reader.readline()).split()[1]
    assert status in (b"400", b"413")
    writer.close()


async def test_compressed_bodies_are_refused(workshop: Workshop) -> None:
    device = await workshop.enrolled()
    reply = await device.send(device.connect_url, b"\x1f\x8b", headers={"Content-Encoding": "gzip"})
    assert reply.status == 415


async def test_header_fields_are_limited(workshop: Workshop) -> None:
    device = await workshop.enrolled()
    reply = await device.send(device.connect_url, b"", headers={"X-Large": "x" * 20_000})
    assert reply.status in (400, 413, 431)
    assert (await device.connect()).ok
