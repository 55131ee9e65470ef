"""The simulator's wire and the server's: two hands that wrote the same standards must agree."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa

from services.enrollment.apple import profile as enrollment_profile
from services.enrollment.apple import scep as server_scep
from services.enrollment.pki import authority, leaf
from services.enrollment.pki.authority import Addresses, KeyPair
from shared.apple import cms as server_cms
from tools.simulator import signing
from tools.simulator.signing import Signing
from tools.simulator.wire import cms, profile, scep
from tools.simulator.wire.envelope import ALGORITHMS

NOW = datetime.now(UTC).replace(microsecond=0)
ADDRESSES = Addresses.under("https://mdm.example.org", "device")
BODY = b"<plist>a body</plist>" * 50


@pytest.fixture(scope="module")
def ca() -> KeyPair:
    return authority.create_authority("CA", "Example", now=NOW, years=10)


@pytest.fixture(scope="module")
def ra(ca: KeyPair) -> KeyPair:
    return authority.create_registration_authority(ca, "Example", ADDRESSES, now=NOW)


@pytest.fixture(scope="module")
def device_key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(65537, 2048)


@pytest.fixture(scope="module")
def stranger() -> cms.Identity:
    key = rsa.generate_private_key(65537, 2048)
    return scep.self_signed(key, scep.subject_name([[["CN", "stranger"]]]))


@pytest.fixture(scope="module")
def identity(device_key: rsa.RSAPrivateKey) -> cms.Identity:
    return scep.self_signed(device_key, scep.subject_name([[["CN", "device"]]]))


GOOD = {
    "honest": signing.HONEST,
    "sha1": signing.SHA1,
    "sha1 without NULL": signing.SHA1_WITHOUT_NULL,
    "embedded": signing.EMBEDDED,
    "indefinite": signing.INDEFINITE,
    "indefinite and embedded": signing.INDEFINITE_EMBEDDED,
    "combined algorithm": Signing(cms.Style(combined_algorithm=True)),
    "no attributes": Signing(cms.Style(attributes=False)),
    "sha512": Signing(cms.Style(digest="sha512")),
}


@pytest.mark.parametrize("name", GOOD)
def test_the_server_verifies_every_good_signature(name: str, identity: cms.Identity) -> None:
    header = GOOD[name].headers(BODY, identity)["Mdm-Signature"]
    verified = server_cms.verify(server_cms.decode(header), BODY, allow_sha1=True)
    assert verified.certificate == identity.certificate


@pytest.mark.parametrize("how", [signing.swapped(b"another"), signing.swapped_embedded(b"another")])
def test_the_server_refuses_a_swapped_body(how: Signing, identity: cms.Identity) -> None:
    header = how.headers(BODY, identity)["Mdm-Signature"]
    with pytest.raises(server_cms.SignatureError):
        server_cms.verify(server_cms.decode(header), BODY, allow_sha1=True)


def test_the_server_refuses_two_signers(identity: cms.Identity, stranger: cms.Identity) -> None:
    header = signing.by(identity, stranger).headers(BODY, identity)["Mdm-Signature"]
    with pytest.raises(server_cms.SignatureError):
        server_cms.verify(server_cms.decode(header), BODY, allow_sha1=True)


def test_the_server_refuses_a_key_without_its_certificate(
    identity: cms.Identity, stranger: cms.Identity
) -> None:
    mixed = cms.Identity(stranger.key, identity.certificate)
    header = signing.by(mixed).headers(BODY, identity)["Mdm-Signature"]
    with pytest.raises(server_cms.SignatureError):
        server_cms.verify(server_cms.decode(header), BODY, allow_sha1=True)


def ask(
    key: rsa.RSAPrivateKey, signer: cms.Identity, ra: KeyPair, kind: str, cipher: str
) -> scep.Request:
    csr = scep.certificate_request(key, scep.subject_name([[["CN", "device"]]]), "a challenge")
    return scep.request(csr, key, signer, ra.certificate, message_type=kind, cipher=cipher)


def grant(message: server_scep.Message, ca: KeyPair, ra: KeyPair) -> tuple[bytes, str | None]:
    request = server_scep.open_request(message, ra, allow_des=True)
    certificate = leaf.issue(
        ca,
        leaf.check_request(request.csr),
        leaf.Holder(uuid.uuid4(), "Example"),
        ADDRESSES,
        now=NOW,
        lifetime=timedelta(days=1),
    )
    return server_scep.success(message, request, certificate, ra), request.challenge


def authorities(ca: KeyPair, ra: KeyPair) -> list[x509.Certificate]:
    content_type, body = server_scep.ca_certificates(ca.certificate, ra.certificate)
    assert content_type == "application/x-x509-ca-ra-cert"
    return cms.certificates_of(body)


@pytest.mark.parametrize("cipher", ALGORITHMS)
def test_scep_there_and_back(
    cipher: str, device_key: rsa.RSAPrivateKey, identity: cms.Identity, ca: KeyPair, ra: KeyPair
) -> None:
    sent = ask(device_key, identity, ra, scep.PKCS_REQ, cipher)
    message = server_scep.read_message(sent.message, allow_sha1=False)
    answer, challenge = grant(message, ca, ra)
    issued = scep.open_reply(answer, sent, authorities(ca, ra))
    assert challenge == "a challenge"
    assert issued.algorithm == cipher
    issued.certificate.verify_directly_issued_by(ca.certificate)


def test_renewal_there_and_back(
    device_key: rsa.RSAPrivateKey, identity: cms.Identity, ca: KeyPair, ra: KeyPair
) -> None:
    first = ask(device_key, identity, ra, scep.PKCS_REQ, "aes128")
    message = server_scep.read_message(first.message, allow_sha1=False)
    issued = scep.open_reply(grant(message, ca, ra)[0], first, authorities(ca, ra))
    current = cms.Identity(device_key, issued.certificate)
    new_key = rsa.generate_private_key(65537, 2048)
    sent = ask(new_key, current, ra, scep.RENEWAL_REQ, "aes256")
    message = server_scep.read_message(sent.message, allow_sha1=False)
    renewed = scep.open_reply(grant(message, ca, ra)[0], sent, authorities(ca, ra))
    assert message.signer == issued.certificate
    assert renewed.certificate.public_key() == new_key.public_key()


def test_a_refusal_is_understood(
    device_key: rsa.RSAPrivateKey, identity: cms.Identity, ca: KeyPair, ra: KeyPair
) -> None:
    sent = ask(device_key, identity, ra, scep.PKCS_REQ, "aes128")
    message = server_scep.read_message(sent.message, allow_sha1=False)
    with pytest.raises(scep.ScepRefused, match="badRequest"):
        scep.open_reply(server_scep.failure(message, ra), sent, authorities(ca, ra))
    with pytest.raises(scep.ScepError, match="none of the authority"):
        scep.open_reply(server_scep.failure(message, ra), sent, [ca.certificate])


def test_the_enrollment_profile_is_read(ca: KeyPair) -> None:
    signer = authority.create_profile_signer(ca, "Example", ADDRESSES, now=NOW)
    rendered = enrollment_profile.render(
        enrollment_profile.Enrollment(
            session_id=uuid.uuid4(),
            organization="Example",
            topic="com.apple.mgmt.External.1234",
            checkin_url="https://mdm.example.org/mdm/apple/checkin",
            connect_url="https://mdm.example.org/mdm/apple/connect",
            scep_url="https://mdm.example.org/scep/secret",
            challenge="secret",
            roots=[ca.certificate_bytes],
        )
    )
    read = profile.read(server_cms.sign(rendered, signer.certificate, signer.key))
    mdm, identity = profile.mdm_payload(read)
    assert read.signer == signer.certificate
    assert read.roots == [ca.certificate]
    assert (mdm.sign_message, mdm.check_out_when_removed) == (True, True)
    assert (identity.key_size, identity.challenge) == (2048, "secret")
    assert scep.subject_name(identity.subject)
