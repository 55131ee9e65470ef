"""The straight road: credential, profile, certificate, Authenticate, TokenUpdate."""

from __future__ import annotations

from shared.events.device_state import DeviceState
from shared.events.devices import CertificateIssued, DeviceEnrolled
from tests.enrollment.conftest import TOPIC, House


async def test_authenticate_then_token_update_enrolls(house: House) -> None:
    """apple.md §1.11, 1: nothing is open before the first TokenUpdate."""
    device = house.device()
    device.identity = await house.identity(await house.credential(user="ada@example.org"))
    answer = await house.check_in(device, device.authenticate())
    assert (answer.status, answer.body) == (200, b"")
    told = await house.told()
    pending = told.enrollment
    assert (pending.state, pending.generation, pending.channels) == ("pending", 1, [])
    assert not told.of(DeviceEnrolled)
    assert told.one(CertificateIssued).sha256 in pending.pins

    answer = await house.check_in(device, device.token_update())
    assert (answer.status, answer.body) == (200, b"")
    told = await house.told()
    enrolled = told.one(DeviceEnrolled)
    state = told.one(DeviceState)
    [channel] = told.enrollment.channels
    assert enrolled.channel_id == channel.channel_id
    assert (enrolled.platform, enrolled.serial, enrolled.again) == ("ios", device.serial, False)
    assert told.enrollment.state == "enrolled"
    assert channel.open
    assert channel.push_topic == TOPIC
    assert channel.push is not None
    assert state.user == "ada@example.org"
    assert state.ownership == "corporate"
    assert house.fences == []  # a first enrollment displaces nobody
