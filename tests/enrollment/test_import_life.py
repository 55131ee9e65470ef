"""What comes after an import: starting over, renewal, revocation."""

from __future__ import annotations

import base64
from typing import Any
from urllib.parse import urlsplit

from shared.events.devices import (
    CertificateIssued,
    CertificateRevoked,
    DeviceEnrolled,
    DeviceUnenrolled,
)
from tests.enrollment.conftest import TOPIC, House, opened, payload_of
from tests.enrollment.imported import BOOTSTRAP, OldServer, b64
from tests.enrollment.test_escrow import bootstrap_token
from tests.enrollment.test_import import old
from tools.simulator.wire import cms

__all__ = ["old"]

OLD_TOPIC = "com.apple.mgmt.External.of-the-old-server"
INSTALLED = {
    "identifier": "com.example.old",
    "management_identifier": "com.example.old.mdm",
    "server_url": "https://old.example.org/mdm",
    "per_user_connections": False,
}


async def test_an_imported_device_that_starts_over_is_fenced_first(
    house: House, old: OldServer
) -> None:
    mac = old.device(product="Mac15,3")
    await old.outcomes(old.row(mac, bootstrap_token=b64(BOOTSTRAP)))
    before = (await house.told()).enrollment
    house.others.failing.add("command_queue")
    assert (await house.check_in(mac, mac.authenticate())).status == 503
    house.others.failing.clear()
    house.others.calls.clear()
    assert (await house.check_in(mac, mac.authenticate())).status == 200
    [fence] = house.fences
    assert (fence["enrollment_id"], fence["generation"], fence["state"]) == (
        str(before.enrollment_id),
        2,
        "reauthenticated",
    )
    told = await house.told()
    assert (told.enrollment.generation, told.enrollment.state) == (2, "pending")
    assert not told.enrollment.channels[0].open
    assert await bootstrap_token(house, mac) == b""
    assert (await house.check_in(mac, mac.token_update())).status == 200
    assert (await house.told()).one(DeviceEnrolled).again


async def renewal(house: House, device_id: object) -> dict[str, Any]:
    made = await house.call("POST", f"/devices/{device_id}/renewal-profile")
    return opened(base64.b64decode(made["profile"]))


async def test_a_renewal_gives_an_imported_device_a_certificate_of_ours(
    house: House, old: OldServer
) -> None:
    """And the profile repeats what can never change on the device: else it would not take it."""
    await house.push_certificate(OLD_TOPIC)
    await house.push_certificate()
    mac = old.device(product="Mac15,3")
    row = old.row(mac, topic=OLD_TOPIC, bootstrap_token=b64(BOOTSTRAP), access_rights=4096)
    assert await old.outcomes(row | {"profile": INSTALLED}) == ["enrolled"]
    device_id = await house.id_of(mac)
    before = (await house.told()).enrollment
    house.later(minutes=5)
    document = await renewal(house, device_id)
    management = payload_of(document, "com.apple.mdm")
    assert document["PayloadIdentifier"] == INSTALLED["identifier"]
    assert management["PayloadIdentifier"] == INSTALLED["management_identifier"]
    assert (management["Topic"], management["AccessRights"]) == (OLD_TOPIC, 4096)
    assert management["ServerURL"] == INSTALLED["server_url"]
    assert "CheckInURL" not in management
    assert management["ServerCapabilities"] == ["com.apple.mdm.bootstraptoken"]

    foreign, mac.identity = mac.identity, await house.identity_of(document)
    assert (await house.check_in(mac, mac.authenticate(Topic=OLD_TOPIC))).status == 200
    assert (await house.check_in(mac, mac.token_update(Topic=OLD_TOPIC))).status == 200
    told = await house.told()
    assert told.enrollment.enrollment_id == before.enrollment_id
    issued = told.one(CertificateIssued)
    assert (issued.renewal, issued.imported) == (True, False)
    assert told.one(CertificateRevoked).sha256 == before.pins[0]
    assert await bootstrap_token(house, mac) == BOOTSTRAP
    answer = await house.check_in(mac, mac.token_update(Topic=OLD_TOPIC), identity=foreign)
    assert answer.text == "certificate_revoked\n"
    # The next renewal still meets the same installed profile.
    again = await renewal(house, device_id)
    assert again["PayloadIdentifier"] == INSTALLED["identifier"]


async def test_the_installed_profile_follows_a_registered_device(
    house: House, old: OldServer
) -> None:
    own = await house.enrolled()
    phone, tablet = old.device(), old.device(product="iPad14,1")
    rows = [old.registration(one, profile=INSTALLED) for one in (phone, tablet)]
    assert await old.outcomes(*rows) == ["registered", "registered"]
    assert (await house.check_in(phone, phone.authenticate())).status == 200
    assert (await house.check_in(phone, phone.token_update())).status == 200
    checkin = {"checkin_url": "https://old.example.org/checkin"}
    whole = old.row(tablet, profile=INSTALLED | checkin)
    assert await old.outcomes(whole) == ["enrolled"]
    found = [
        payload_of(await renewal(house, await house.id_of(one)), "com.apple.mdm")
        for one in (phone, tablet, own)
    ]
    assert [one["ServerURL"] for one in found] == [
        *([INSTALLED["server_url"]] * 2),
        "https://mdm.example.org/mdm/apple/connect",
    ]
    assert found[1]["CheckInURL"] == checkin["checkin_url"]


async def test_a_foreign_certificate_renews_itself_over_scep(house: House, old: OldServer) -> None:
    """The current certificate is the proof (RenewalReq), whoever issued it."""
    phone = await old.here()
    await house.told()
    document = await renewal(house, await house.id_of(phone))
    address = payload_of(document, "com.apple.security.scep")["PayloadContent"]["URL"]
    key = house.new_key()
    issued = await house.issue(urlsplit(address).path, None, key, signer=phone.identity)
    told = await house.told()
    assert told.one(CertificateIssued).renewal
    assert len(told.enrollment.pins) == 2
    phone.identity = cms.Identity(key, issued.certificate)
    assert (await house.check_in(phone, phone.token_update())).status == 200


async def test_a_revoked_import_is_refused_by_its_pin(house: House, old: OldServer) -> None:
    """It stands on no list of ours: another CA issued it."""
    phone, waiting = await old.here(), old.device()
    assert await old.outcomes(old.registration(waiting)) == ["registered"]
    await house.told()
    device_id = await house.id_of(phone)
    numbers = await house.query("SELECT number FROM crl")
    answer = await house.call("POST", f"/devices/{device_id}/revoke", {"reason": "sold"})
    assert answer == {"state": "ended"}
    told = await house.told()
    assert told.one(DeviceUnenrolled).reason == "revoked"
    assert told.one(CertificateRevoked).sha256 in told.enrollment.pins
    assert (await house.check_in(phone, phone.token_update())).text == "certificate_revoked\n"
    await house.service.run_job("crl")
    assert await house.query("SELECT number FROM crl") == numbers


async def test_a_user_enrollment_comes_over_by_its_own_id(house: House, old: OldServer) -> None:
    phone = old.device(serial=None, id_key="EnrollmentID")
    row = old.row(phone, udid=None, enrollment_id=phone.udid, ownership="personal")
    assert await old.outcomes(row) == ["enrolled"]
    told = await house.told()
    assert (told.enrollment.mode, told.state.ownership) == ("user", "personal")
    assert (await house.check_in(phone, phone.token_update())).status == 200
    phone.id_key = "UDID"
    assert (await house.check_in(phone, phone.token_update())).text == "certificate_of_another\n"
    assert (await house.check_in(phone, phone.message("CheckOut", Topic=TOPIC))).status == 400
