"""Pretending to be another device: by certificate, by signer, by ids, by a greedy request."""

from __future__ import annotations

import hashlib
import json
import plistlib

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID

from shared.sealed import Keyring
from tests.attacks import forge
from tests.attacks.forge import Forgery, attributes_of, by_name, encoded, forged
from tests.command_queue.fleet import CONNECT, Fleet, Phone
from tests.enrollment.conftest import PKI_OPERATION, Apple, House, registration_authority
from tools.simulator.wire import cms, der, envelope
from tools.simulator.wire import scep as wire_scep

CHECK_IN = "/mdm/apple/checkin"


async def _refused(house: House, body: bytes, forgery: Forgery) -> str:
    """Send it; the short word it is refused with, after nothing has changed."""
    before = (
        await house.query("SELECT * FROM enrollment"),
        await house.query("SELECT * FROM channel"),
    )
    headers = {"Mdm-Signature": forgery.header()}
    answer = await house.service.send("devices", "PUT", CHECK_IN, body, headers)
    after = (
        await house.query("SELECT * FROM enrollment"),
        await house.query("SELECT * FROM channel"),
    )
    assert answer.status == 400
    assert before == after
    return answer.text.strip()


async def _victim(house: House) -> tuple[Apple, bytes, bytes]:
    """A device, what it would say, and its certificate."""
    device = await house.enrolled()
    assert device.identity is not None
    body = plistlib.dumps(device.token_update(Token=b"the attacker's"))
    return device, body, encoded(device.identity.certificate)


async def test_a_certificate_is_public_and_proves_nothing_without_its_key(house: House) -> None:
    _, body, certificate = await _victim(house)
    assert await _refused(house, body, forged(body, [certificate])) == "signature_bad"


async def test_a_certificate_with_the_victims_names_is_still_a_stranger(house: House) -> None:
    """Issuer and serial number are only a name: what counts is the SHA-256 of the whole."""
    _, body, certificate = await _victim(house)
    twin = forge.certificate(like=certificate)
    assert by_name(twin) == by_name(certificate)
    assert await _refused(house, body, forged(body, [twin])) == "certificate_unknown"


@pytest.mark.parametrize("order", ["twin first", "victim first"])
async def test_two_certificates_of_one_name_are_not_chosen_between(
    house: House, order: str
) -> None:
    _, body, certificate = await _victim(house)
    pair = [forge.certificate(like=certificate), certificate]
    forgery = forged(body, pair if order == "twin first" else pair[::-1])
    assert await _refused(house, body, forgery) == "signature_bad"


async def test_the_victims_certificate_beside_the_attackers_changes_nothing(house: House) -> None:
    """The pin is that of the signer, not of whatever lies in the bag first."""
    _, body, certificate = await _victim(house)
    mine = forge.certificate()
    for bag in ([certificate, mine], [mine, certificate]):
        forgery = forged(body, bag, signer=by_name(mine))
        assert await _refused(house, body, forgery) == "certificate_unknown"


async def test_the_victims_key_identifier_in_another_certificate_names_the_other(
    house: House,
) -> None:
    device, body, certificate = await _victim(house)
    assert device.identity is not None
    stolen = device.identity.certificate.extensions.get_extension_for_class(
        x509.SubjectKeyIdentifier
    ).value.digest
    twin = forge.certificate(
        extensions=[forge.extension(forge.SUBJECT_KEY_IDENTIFIER, der.octets(stolen))]
    )
    named = der.tlv(0x80, stolen)
    assert await _refused(house, body, forged(body, [twin], signer=named)) == "certificate_unknown"
    both = forged(body, [certificate, twin], signer=named)
    assert await _refused(house, body, both) == "signature_bad"


def _resigned(device: Apple, attributes: list[bytes], **changed: object) -> Forgery:
    """The device's own signature over attributes of the attacker's choice."""
    assert device.identity is not None
    key = device.identity.key
    assert isinstance(key, rsa.RSAPrivateKey)
    certificate = encoded(device.identity.certificate)
    return Forgery(
        certificates=[certificate],
        attributes=attributes,
        signature=forge.sign(der.tlv(der.SET, *attributes), key),
        signer=by_name(certificate),
        **changed,  # type: ignore[arg-type]
    )


async def test_attributes_twice_missing_or_of_another_type_are_no_signature(house: House) -> None:
    """A verifier that takes the first, and a signer that meant the last, must not meet."""
    device, body, _ = await _victim(house)
    good = attributes_of(body)
    digest = cms.attribute(cms.MESSAGE_DIGEST, der.octets(cms.digest("sha256", b"another body")))
    kind = cms.attribute(cms.CONTENT_TYPE, der.oid("1.2.840.113549.1.7.3"))
    both = der.sequence(
        der.oid(cms.MESSAGE_DIGEST),
        der.set_of(
            der.octets(cms.digest("sha256", body)), der.octets(cms.digest("sha256", b"another"))
        ),
    )
    time = cms.attribute(cms.SIGNING_TIME, der.time(house.clock.now()))
    for attributes in (
        sorted([*good, digest]),
        [good[0]],
        [good[1]],
        sorted([kind, good[1]]),
        sorted([good[0], both]),
        sorted([*good, time, time]),
        sorted([*good, cms.attribute(cms.SIGNING_TIME, der.octets(b"now"))]),
        sorted(good * 20),
    ):
        forgery = _resigned(device, attributes)
        assert await _refused(house, body, forgery) == "signature_bad"


async def test_another_content_type_needs_attributes_that_say_so(house: House) -> None:
    device, body, _ = await _victim(house)
    forgery = _resigned(device, attributes_of(body), content_type="1.2.840.113549.1.7.3")
    assert await _refused(house, body, forgery) == "signature_bad"


async def test_a_signature_is_no_wildcard_for_algorithms(house: House) -> None:
    """RSA's name over an EC key, no hash, MD5, a hash that is not the digest's."""
    device, body, _ = await _victim(house)
    attributes = attributes_of(body)
    for dotted in (
        cms.ECDSA_WITH["sha256"],
        cms.RSA_WITH["sha1"],
        cms.RSA_WITH["sha512"],
        "1.2.840.113549.1.1.4",
        "1.3.101.112",
        cms.DIGEST_OIDS["sha256"],
    ):
        forgery = _resigned(device, attributes, algorithm=der.sequence(der.oid(dotted), der.null()))
        assert await _refused(house, body, forgery) == "signature_bad"


async def test_ids_in_a_body_are_only_compared(house: House) -> None:
    """Every message of one device, sent with the good identity of another."""
    mine, other = await house.enrolled(), await house.enrolled()
    await house.check_in(other, other.message("SetBootstrapToken", BootstrapToken=b"other's"))
    before = await house.query("SELECT * FROM enrollment ORDER BY enrollment_id")
    for message in (
        other.authenticate(),
        other.token_update(),
        other.message("CheckOut", Topic="x"),
        other.message("SetBootstrapToken", BootstrapToken=b"mine"),
        other.message("GetBootstrapToken"),
        other.message("UserAuthenticate", UserID="A"),
        other.message("DeclarativeManagement", Endpoint="tokens"),
        other.message("ReturnToService"),
        {**other.token_update(), "UDID": "", "EnrollmentID": other.udid},
        {**other.token_update(), "UDID": "", "EnrollmentID": mine.udid},
        {**other.token_update(), "UDID": other.udid.lower()},
    ):
        answer = await house.check_in(mine, message)
        assert answer.status == 400
        assert b"other's" not in answer.body
    assert await house.query("SELECT * FROM enrollment ORDER BY enrollment_id") == before


async def test_udid_wins_over_an_enrollment_id_that_names_somebody_else(house: House) -> None:
    mine, other = await house.enrolled(), await house.enrolled()
    message = {**mine.token_update(Token=b"mine"), "EnrollmentID": other.udid}
    assert (await house.check_in(mine, message)).status == 200
    rows = await house.query("SELECT device_id, push_sealed FROM channel")
    sealed = {row["device_id"]: row["push_sealed"] for row in rows}
    keys = Keyring.load(house.service.context.settings.keys_dir / "push_notifier")
    said = {}
    for device in (mine, other):
        device_id = await house.id_of(device)
        push = keys.open(sealed[device_id], purpose="push", device_id=device_id)
        said[device.udid] = json.loads(push)["token"]
    assert said == {mine.udid: b"mine".hex(), other.udid: "01" * 32}


# ---- The connect endpoint ------------------------------------------------------------------------


async def test_connect_serves_by_the_certificate_not_by_the_body(fleet: Fleet) -> None:
    mine, other = await fleet.enroll(2)
    await fleet.ask(other)
    for key in ("UDID", "EnrollmentID"):
        body = plistlib.dumps({"Status": "Idle", key: other.udid})
        answer = await other.send(body, identity=mine.identity)
        assert (answer.status, answer.text) == (400, "certificate of another device\n")
    assert await other.idle()


async def test_connect_takes_no_answer_for_another_devices_command(fleet: Fleet) -> None:
    mine, other = await fleet.enroll(2)
    await fleet.ask(other)
    given = await other.idle()
    assert given
    assert await mine.say("Acknowledged", given.command_uuid) is None
    assert await mine.say("NotNow", given.command_uuid) is None
    assert await fleet.finished() == []
    again = await other.idle()
    assert again
    assert again.command_uuid == given.command_uuid


async def _stranger_says(phone: Phone, forgery: Forgery, body: bytes) -> int:
    headers = {"Mdm-Signature": forgery.header()}
    answer = await phone.fleet.trial.send("devices", "PUT", CONNECT, body, headers)
    assert not answer.body.startswith(b"<?xml")
    return answer.status


async def test_connect_knows_a_certificate_by_its_hash_and_its_key(fleet: Fleet) -> None:
    phone = await fleet.enroll()
    await fleet.ask(phone)
    body = phone.body("Idle")
    certificate = encoded(phone.identity.certificate)
    twin = forge.certificate(like=certificate)
    for bag in ([certificate], [twin], [twin, certificate], [certificate, twin]):
        assert await _stranger_says(phone, forged(body, bag), body) == 400
    signed = forged(body, [certificate])
    ecdsa = der.sequence(der.oid(cms.ECDSA_WITH["sha256"]))
    key = ec.generate_private_key(ec.SECP256R1())
    covered = der.tlv(der.SET, *attributes_of(body))
    for signature in (
        key.sign(covered, ec.ECDSA(hashes.SHA256())),
        b"",
        der.sequence(der.integer(0), der.integer(0)),
        der.sequence(der.integer(1), der.integer(1)),
    ):
        forgery = Forgery(
            signed.certificates, signed.attributes, signature, signed.signer, algorithm=ecdsa
        )
        assert await _stranger_says(phone, forgery, body) == 400
    assert await phone.idle()


# ---- What a certificate request asks for ---------------------------------------------------------


def _greedy() -> bytes:
    """A request that asks to become a CA, a server and somebody else."""
    wanted = der.sequence(
        der.sequence(
            der.oid("2.5.29.19"),
            der.tlv(0x01, b"\xff"),
            der.octets(der.sequence(der.tlv(0x01, b"\xff"))),
        ),
        forge.extension("2.5.29.17", der.sequence(der.tlv(0x82, b"mdm.example.org"))),
        forge.extension("2.5.29.37", der.sequence(der.oid("2.5.29.37.0"))),
        forge.extension("2.5.29.15", der.tlv(0x03, b"\x01\x06")),
        forge.extension("1.2.840.113635.100.8.11.1", der.octets(b"attested")),
    )
    return der.sequence(der.oid(forge.EXTENSION_REQUEST), der.set_of(wanted))


async def test_a_request_gives_its_key_and_nothing_else(house: House) -> None:
    """Subject, SAN, CA:true, key usage, extended key usage: Muster writes them, nobody asks."""
    document = await house.profile(await house.credential())
    payload = next(p for p in document["PayloadContent"] if p["PayloadType"].endswith(".scep"))
    path = payload["PayloadContent"]["URL"].removeprefix("https://mdm.example.org")
    authorities = await house.authorities(path)
    key = house.new_key()
    csr = forge.request(key=key, attributes=[_greedy()])
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "root")])
    signer = wire_scep.self_signed(key, name)
    sealed = envelope.encrypt(csr, registration_authority(authorities), "aes256")
    attributes = [
        cms.attribute(wire_scep.MESSAGE_TYPE, der.printable(wire_scep.PKCS_REQ)),
        cms.attribute(wire_scep.TRANSACTION_ID, der.printable("1")),
        cms.attribute(wire_scep.SENDER_NONCE, der.octets(b"n" * 16)),
    ]
    message = cms.sign(sealed, [signer], cms.Style(embed=True), more_attributes=attributes)
    answer = await house.service.send("devices", "POST", path + PKI_OPERATION, message)
    sent = wire_scep.Request(message, "1", b"n" * 16, signer, key)
    issued = wire_scep.open_reply(answer.body, sent, authorities).certificate
    extensions = issued.extensions
    assert not extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    usage = extensions.get_extension_for_class(x509.KeyUsage).value
    assert not usage.key_cert_sign
    assert not usage.crl_sign
    purposes = extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(purposes) == [ExtendedKeyUsageOID.CLIENT_AUTH]
    names = extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == []
    assert issued.subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)[0].value != "root"
    known = {e.oid.dotted_string for e in extensions}
    assert "1.2.840.113635.100.8.11.1" not in known
    row = await house.query("SELECT FROM certificate WHERE sha256 = $1", _sha256(issued))
    assert len(row) == 1


def _sha256(certificate: x509.Certificate) -> bytes:
    return hashlib.sha256(encoded(certificate)).digest()


async def test_a_key_that_the_requester_does_not_hold_gets_no_certificate(house: House) -> None:
    """A request is signed by the key it names, or it is somebody else's key."""
    document = await house.profile(await house.credential())
    payload = next(p for p in document["PayloadContent"] if p["PayloadType"].endswith(".scep"))
    path = payload["PayloadContent"]["URL"].removeprefix("https://mdm.example.org")
    authorities = await house.authorities(path)
    theirs, mine = house.new_key(), house.new_key()
    parts = der.read(forge.request(key=theirs)).children()
    csr = forge.signed_by(parts[0].raw, mine)
    signer = wire_scep.self_signed(mine, x509.Name([]))
    sealed = envelope.encrypt(csr, registration_authority(authorities), "aes128")
    attributes = [
        cms.attribute(wire_scep.MESSAGE_TYPE, der.printable(wire_scep.PKCS_REQ)),
        cms.attribute(wire_scep.TRANSACTION_ID, der.printable("1")),
        cms.attribute(wire_scep.SENDER_NONCE, der.octets(b"n" * 16)),
    ]
    message = cms.sign(sealed, [signer], cms.Style(embed=True), more_attributes=attributes)
    answer = await house.service.send("devices", "POST", path + PKI_OPERATION, message)
    sent = wire_scep.Request(message, "1", b"n" * 16, signer, mine)
    with pytest.raises(wire_scep.ScepRefused):
        wire_scep.open_reply(answer.body, sent, authorities)
    assert await house.query("SELECT FROM certificate") == []


async def test_a_renewal_in_the_name_of_a_twin_certificate_is_refused(house: House) -> None:
    """Same issuer, same serial number, another key: the row is found by the hash alone."""
    device = await house.enrolled()
    assert device.identity is not None
    twin = x509.load_der_x509_certificate(
        forge.certificate(like=encoded(device.identity.certificate))
    )
    with pytest.raises(wire_scep.ScepRefused):
        await house.issue("/scep/any", None, signer=cms.Identity(forge.KEY, twin))
    with pytest.raises(wire_scep.ScepRefused):
        # What the victim's certificate encrypts, the attacker cannot read; nor sign as it.
        await house.issue("/scep/any", None, forge.KEY, signer=cms.Identity(forge.KEY, twin))
    assert len(await house.query("SELECT FROM certificate")) == 1
