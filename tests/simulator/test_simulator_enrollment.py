"""Enrollment from the device's side, against a server whose cryptography is OpenSSL's."""

from __future__ import annotations

import aiohttp
import pytest
from cryptography.hazmat.primitives import hashes

from tests.simulator.conftest import MakeDevice
from tests.simulator.responder import TOPIC, Responder
from tools.simulator import signing
from tools.simulator.device import EnrollmentError, SimulatedDevice
from tools.simulator.session import RemoteAddressError, open_session
from tools.simulator.wire import profile as profiles
from tools.simulator.wire.scepclient import Options


async def test_an_iphone_enrolls(enrolled: SimulatedDevice, responder: Responder) -> None:
    assert all(heard.trusted for heard in responder.heard), [heard.why for heard in responder.heard]
    assert {heard.method for heard in responder.heard} == {"PUT"}
    authenticate, update = responder.heard[0].message, responder.heard[1].message
    assert authenticate == {
        "MessageType": "Authenticate",
        "UDID": enrolled.udid,
        "Topic": TOPIC,
        "BuildVersion": enrolled.traits.release.build,
        "OSVersion": enrolled.traits.release.version,
        "ProductName": enrolled.traits.model.product_name,
        "SerialNumber": enrolled.traits.serial,
        "IMEI": enrolled.traits.imei,
    }
    assert set(update) == {
        *("MessageType", "UDID", "Topic", "Token", "PushMagic", "UnlockToken"),
        "AwaitingConfiguration",
    }
    assert update["Token"] == enrolled.managed.push.token
    assert len(responder.heard) == 2
    assert not enrolled.complaints


async def test_a_mac_escrows_and_opens_its_user_s_channel(
    make_device: MakeDevice, responder: Responder, device_session: aiohttp.ClientSession
) -> None:
    mac = make_device(2, "mac")
    await mac.enroll(device_session, responder.enroll_url)
    await mac.token_update(mac.traits.user)
    authenticate, device, bootstrap, user = (heard.message for heard in responder.heard)
    assert authenticate["DeviceName"] == mac.traits.device_name
    assert "UnlockToken" not in device
    assert bootstrap["BootstrapToken"] == mac.managed.bootstrap_token
    assert await mac.get_bootstrap_token() == mac.managed.bootstrap_token
    assert user["UserShortName"] == mac.traits.user.short_name
    assert user["NotOnConsole"] is False
    assert user["Token"] != device["Token"]
    assert user["PushMagic"] != device["PushMagic"]


async def test_enrolled_device_idles(enrolled: SimulatedDevice, responder: Responder) -> None:
    reply = await enrolled.connect()
    assert (reply.status, reply.body, reply.command) == (200, b"", None)
    assert responder.heard[-1].message == {"Status": "Idle", "UDID": enrolled.udid}
    assert not enrolled.complaints


@pytest.mark.parametrize(
    ("cipher", "openssl_name"),
    [("des", "-des"), ("3des", "-des3"), ("aes128", "-aes128"), ("aes256", "-aes256")],
)
async def test_scep_in_every_cipher(
    cipher: str, openssl_name: str, make_device: MakeDevice, responder: Responder
) -> None:
    device = make_device(3)
    device.scep_options = Options(cipher=cipher)
    prepared = await device.prepare(profiles.read(responder.profile()))
    assert prepared.identity.certificate == responder.authority.issued[-1]
    assert responder.authority.seen[-1]["cipher"] == openssl_name


async def test_scep_by_get_and_with_one_ca_certificate(
    make_device: MakeDevice, responder: Responder
) -> None:
    responder.authority.list_of_certificates = False
    device = make_device(3)
    device.scep_options = Options(method="GET", digest="sha1")
    await device.prepare(profiles.read(responder.profile()))
    assert responder.authority.seen[-1]["digest"] == "1.3.14.3.2.26"


async def test_scep_follows_the_authority_s_capabilities(
    make_device: MakeDevice, responder: Responder
) -> None:
    responder.authority.capabilities = "SHA-1\n"
    await make_device(3).prepare(profiles.read(responder.profile()))
    assert responder.authority.seen[-1] == {
        "type": "19",
        "cipher": "-des",
        "digest": "1.3.14.3.2.26",
    }


async def test_message_in_the_query_of_a_post(
    make_device: MakeDevice, responder: Responder
) -> None:
    device = make_device(3)
    device.scep_options = Options(message_in_query=True)
    await device.prepare(profiles.read(responder.profile()))
    assert len(responder.authority.issued) == 1


async def test_a_used_challenge_is_a_signed_refusal(
    make_device: MakeDevice, responder: Responder
) -> None:
    profile = profiles.read(responder.profile())
    await make_device(3).prepare(profile)
    with pytest.raises(EnrollmentError, match="badRequest"):
        await make_device(4).prepare(profile)


@pytest.mark.parametrize("fault", ["break_nonce", "break_signature"])
async def test_a_wrong_certrep_is_noticed(
    fault: str, make_device: MakeDevice, responder: Responder
) -> None:
    setattr(responder.authority, fault, True)
    with pytest.raises(EnrollmentError, match=r"nonce|signature"):
        await make_device(3).prepare(profiles.read(responder.profile()))


async def test_renewal_is_signed_by_the_current_certificate(
    enrolled: SimulatedDevice, responder: Responder
) -> None:
    old = enrolled.identity
    await enrolled.renew()
    assert responder.authority.seen[-1]["type"] == "17"
    assert enrolled.identity.certificate != old.certificate
    assert (await enrolled.authenticate()).ok
    assert responder.heard[-1].trusted


async def test_another_ca_than_the_profile_s_fingerprint_is_refused(
    make_device: MakeDevice, responder: Responder
) -> None:
    responder.authority.list_of_certificates = False
    profile = profiles.read(responder.profile())
    responder.authority.ca = responder.authority.ra
    with pytest.raises(EnrollmentError, match="CAFingerprint"):
        await make_device(3).prepare(profile)


async def test_a_profile_with_a_broken_signature_is_refused(responder: Responder) -> None:
    raw = bytearray(responder.profile())
    raw[raw.index(b"test CA")] ^= 1
    with pytest.raises(profiles.ProfileError, match="signature"):
        profiles.read(bytes(raw))


async def test_an_unsigned_profile_is_read_too(responder: Responder) -> None:
    responder.signed = False
    assert profiles.read(responder.profile()).signer is None
    responder.signed = True
    signer = profiles.read(responder.profile()).signer
    assert signer == responder.authority.ca.certificate


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"Topic": "com.example.other"}, "Topic"),
        ({"AccessRights": 2}, "lacks a right"),
        ({"AccessRights": 8192}, "no sum"),
        ({"ServerURL": "http://mdm.example.org/"}, "neither HTTPS"),
        ({"IdentityCertificateUUID": "nothing"}, "names no"),
        ({"PayloadUUID": 5}, "PayloadUUID"),
        ({"CheckInURL": 5}, "CheckInURL"),
        ({"ServerCapabilities": "all"}, "ServerCapabilities"),
    ],
)
async def test_rules_of_the_management_payload(
    changes: dict[str, object], why: str, responder: Responder
) -> None:
    with pytest.raises(profiles.ProfileError, match=why):
        profiles.mdm_payload(profiles.read(responder.profile(**changes)))


async def test_authenticate_refused_keeps_the_old_enrollment(
    enrolled: SimulatedDevice, responder: Responder
) -> None:
    before = enrolled.managed
    responder.statuses = [503]
    with pytest.raises(EnrollmentError, match="503"):
        await enrolled.enroll_with(profiles.read(responder.profile()))
    assert enrolled.enrollment is before
    assert (await enrolled.connect()).ok


async def test_patience_outlasts_a_busy_server(
    make_device: MakeDevice, responder: Responder, device_session: aiohttp.ClientSession
) -> None:
    device = make_device(5)
    device.link.patience = 2
    responder.statuses = [503]
    await device.enroll(device_session, responder.enroll_url)
    assert device.enrollment is not None


async def test_a_device_says_no_more_than_its_rights_allow(
    make_device: MakeDevice, responder: Responder, device_session: aiohttp.ClientSession
) -> None:
    responder.changes = {"AccessRights": 1}
    device = make_device(5)
    await device.enroll(device_session, responder.enroll_url)
    assert set(responder.heard[0].message) == {"MessageType", "UDID", "Topic"}
    assert device.managed.unlock_token is None
    assert "UnlockToken" not in responder.heard[1].message


async def test_a_weaker_key_is_made_where_the_profile_says_nothing(
    make_device: MakeDevice, responder: Responder
) -> None:
    document = profiles.read(responder.profile())
    del document.payloads[1]["PayloadContent"]["Keysize"]
    prepared = await make_device(6).prepare(document)
    # 1024 is Apple's default: a server that forgets the key shall notice.
    assert prepared.identity.key.key_size == 1024
    assert isinstance(prepared.identity.certificate.signature_hash_algorithm, hashes.SHA256)


SIGNINGS = {
    "honest": (signing.HONEST, True),
    "sha1": (signing.SHA1, True),
    "sha1 without NULL": (signing.SHA1_WITHOUT_NULL, True),
    "embedded": (signing.EMBEDDED, True),
    "indefinite": (signing.INDEFINITE, True),
    "indefinite and embedded": (signing.INDEFINITE_EMBEDDED, True),
    "unsigned": (signing.UNSIGNED, False),
    "swapped": (signing.swapped(b"another body"), False),
    "no base64": (signing.Signing(header="AAAA"), False),
}


@pytest.mark.parametrize("name", SIGNINGS)
async def test_signatures_as_openssl_sees_them(
    name: str, enrolled: SimulatedDevice, responder: Responder
) -> None:
    how, trusted = SIGNINGS[name]
    reply = await enrolled.connect(signing=how)
    assert responder.heard[-1].trusted is trusted
    assert reply.status == (200 if trusted else 400)


async def test_a_stranger_s_and_two_signatures(
    enrolled: SimulatedDevice, make_device: MakeDevice, responder: Responder
) -> None:
    other = make_device(7)
    prepared = await other.prepare(profiles.read(responder.profile()))
    await enrolled.connect(signing=signing.by(prepared.identity))
    assert responder.heard[-1].trusted  # good, but somebody else's: for the server to notice
    await enrolled.connect(signing=signing.by(enrolled.identity, prepared.identity))
    assert responder.heard[-1].trusted
    signature = responder.heard[-1].headers["Mdm-Signature"]
    assert len(signature) > len(responder.heard[-2].headers["Mdm-Signature"]) + 1000


async def test_raw_bytes_methods_and_headers(
    enrolled: SimulatedDevice, responder: Responder
) -> None:
    await enrolled.send(enrolled.connect_url, b"\0 rubbish", method="POST")
    assert (responder.heard[-1].method, responder.heard[-1].body) == ("POST", b"\0 rubbish")
    assert responder.heard[-1].trusted
    assert "Content-Type" not in responder.heard[-1].headers
    await enrolled.checkin(b"<plist>", content_type=None)
    assert "Content-Type" not in responder.heard[-1].headers


async def test_only_this_machine_unless_told(enrolled: SimulatedDevice) -> None:
    with pytest.raises(RemoteAddressError, match="allow-remote"):
        await enrolled.send("https://192.0.2.1/mdm", b"")


async def test_tls_trusts_only_the_given_roots(responder: Responder) -> None:
    async with open_session() as session:
        with pytest.raises(aiohttp.ClientConnectorCertificateError):
            await session.get(responder.enroll_url)
