"""Enrollments of another server, taken over as they stand there (docs/import.md)."""

from __future__ import annotations

import orjson
import pytest

from shared.events.audit import AuditRecorded
from shared.events.device_state import DeviceState
from shared.events.devices import (
    BootstrapTokenChanged,
    CertificateIssued,
    DeviceEnrolled,
    DeviceImported,
    DeviceUnenrolled,
)
from shared.sealed import Keyring
from tests.enrollment.conftest import TOPIC, House
from tests.enrollment.imported import BOOTSTRAP, UNLOCK, OldServer, b64, der
from tests.enrollment.test_escrow import bootstrap_token

TABLES = """
SELECT table_name FROM information_schema.tables
WHERE table_schema = current_schema() AND table_type = 'BASE TABLE'
"""


@pytest.fixture
def old(house: House) -> OldServer:
    return OldServer.beside(house)


async def everything(house: House) -> dict[str, list[str]]:
    """Every row of every table."""
    names = [row["table_name"] for row in await house.query(TABLES)]
    return {
        name: sorted(str(tuple(row)) for row in await house.query(f'SELECT * FROM "{name}"'))
        for name in names
    }


async def test_an_imported_device_is_enrolled_as_it_stood_there(
    house: House, old: OldServer
) -> None:
    mac = old.device(product="Mac15,3")
    row = old.row(
        mac,
        unlock_token=b64(UNLOCK),
        bootstrap_token=b64(BOOTSTRAP),
        user="ada",
        ownership="corporate",
        access_rights=8191,
    )
    report = await old.imported(row)
    assert report["counts"] == {"enrolled": 1}
    told = await house.told()
    state, enrollment = told.state, told.enrollment
    assert (state.platform, state.serial, state.name) == ("macos", mac.serial, f"Old {mac.serial}")
    assert (state.user, state.ownership) == ("ada", "corporate")
    assert (enrollment.state, enrollment.generation, enrollment.udid) == ("enrolled", 1, mac.udid)
    assert (enrollment.mode, enrollment.access_rights) == ("device", 8191)
    certificate = told.one(CertificateIssued)
    assert certificate.imported
    assert enrollment.pins == [certificate.sha256]
    [channel] = enrollment.channels
    assert (channel.open, channel.push_topic) == (True, TOPIC)
    imported = told.one(DeviceImported)
    assert (imported.enrollment_id, imported.channel_id) == (
        enrollment.enrollment_id,
        channel.channel_id,
    )
    assert (imported.refresh, imported.actor) == (True, "tester")
    assert told.one(BootstrapTokenChanged).escrowed
    assert not told.of(DeviceEnrolled)
    assert told.one(AuditRecorded).after == {"enrolled": 1, "codes": {}}

    keys = house.service._keys
    push = Keyring.load(keys / "push_notifier").open(
        str(channel.push), purpose="push", device_id=state.device_id
    )
    assert orjson.loads(push) == {"token": "ab" * 32, "magic": f"magic-of-{mac.udid}"}
    unlock = Keyring.load(keys / "command_queue").open(
        str(channel.unlock_token), purpose="unlock-token", device_id=state.device_id
    )
    assert unlock == UNLOCK
    assert await bootstrap_token(house, mac) == BOOTSTRAP


async def test_an_imported_device_goes_on_where_it_was(house: House, old: OldServer) -> None:
    """New tokens, the end of management: nothing needs an Authenticate here."""
    phone = await old.here()
    await house.told()
    assert (await house.check_in(phone, phone.token_update(Token=b"\x02" * 32))).status == 200
    told = await house.told()
    assert not told.of(DeviceEnrolled)  # the enrollment was complete already
    assert told.enrollment.channels[0].open
    assert house.fences == []
    gone = await house.check_in(phone, phone.message("CheckOut", Topic=TOPIC))
    assert gone.status == 200
    assert (await house.told()).one(DeviceUnenrolled).reason == "check_out"
    assert (await house.check_in(phone, phone.token_update())).text == "certificate_revoked\n"


async def test_the_same_row_again_changes_nothing(house: House, old: OldServer) -> None:
    """Also with other tokens: a row is no way to turn a channel to somebody else."""
    phone, tablet = old.device(), old.device(product="iPad14,1")
    rows = [old.row(phone), old.registration(tablet)]
    assert await old.outcomes(*rows) == ["enrolled", "registered"]
    await house.told()
    before = await everything(house)
    assert await old.outcomes(*rows) == ["already_there", "already_there"]
    changed = old.row(phone, push_token="cd" * 32, push_magic="mine", unlock_token=b64(b"x"))
    assert await old.outcomes(changed) == ["already_there"]
    assert await everything(house) == before


async def test_a_dry_run_tells_all_and_changes_nothing(house: House, old: OldServer) -> None:
    before = await everything(house)
    rows = [
        old.row(old.device(), bootstrap_token=b64(BOOTSTRAP)),
        old.registration(old.device()),
        {"udid": "x"},
    ]
    report = await old.imported(*rows, dry_run=True)
    assert report["counts"] == {"enrolled": 1, "registered": 1, "refused": 1}
    assert await everything(house) == before
    assert (await old.imported(*rows))["counts"] == report["counts"]


async def test_a_registered_certificate_enrolls_by_its_first_authenticate(
    house: House, old: OldServer
) -> None:
    phone = old.device()
    row = old.registration(phone, user="ada", ownership="corporate", access_rights=8191)
    assert await old.outcomes(row) == ["registered"]
    told = await house.told()
    assert not told.of(DeviceState)
    assert (await house.check_in(phone, phone.token_update())).text == "not_authenticated\n"
    assert (await house.check_in(phone, phone.authenticate())).status == 200
    assert (await house.check_in(phone, phone.token_update())).status == 200
    assert house.fences == []
    told = await house.told()
    assert told.one(CertificateIssued).imported
    assert not told.one(DeviceEnrolled).again
    assert (told.state.user, told.state.ownership) == ("ada", "corporate")
    assert (told.enrollment.generation, told.enrollment.access_rights) == (1, 8191)
    assert await old.outcomes(old.row(phone)) == ["already_there"]


async def test_a_registration_is_completed_by_a_whole_row(house: House, old: OldServer) -> None:
    phone = old.device()
    assert await old.outcomes(old.registration(phone)) == ["registered"]
    assert await old.outcomes(old.row(phone)) == ["enrolled"]
    told = await house.told()
    assert told.enrollment.state == "enrolled"
    assert len(await house.query("SELECT FROM certificate WHERE sha256 = sha256($1)", der(phone)))
    assert (await house.check_in(phone, phone.token_update())).status == 200
