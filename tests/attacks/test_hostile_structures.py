"""ASN.1 that parses and then surprises: bounded refusals, never our fault (security.md, Edge)."""

from __future__ import annotations

import plistlib

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509 import ocsp

from services.enrollment.apple import scep
from services.enrollment.pki import leaf
from shared.apple import cms as our_cms
from shared.apple.certificates import Issuers
from tests.attacks import forge
from tests.command_queue.fleet import CONNECT, Fleet
from tests.enrollment.conftest import PKI_OPERATION, House, registration_authority
from tools.simulator.wire import cms, der, envelope
from tools.simulator.wire import scep as wire_scep

ODD = forge.odd_certificates()
BODY = plistlib.dumps({"MessageType": "CheckOut", "UDID": "A", "Topic": "t", "Status": "Idle"})


@pytest.mark.parametrize("named", ["by name", "by key"])
@pytest.mark.parametrize("odd", ODD)
async def test_an_odd_certificate_is_refused_at_check_in(
    house: House, odd: str, named: str
) -> None:
    signer = forge.by_key() if named == "by key" else None
    header = forge.forged(BODY, [ODD[odd]], signer=signer).header()
    answer = await house.service.send(
        "devices", "PUT", "/mdm/apple/checkin", BODY, {"Mdm-Signature": header}
    )
    assert (answer.status, len(answer.body) < 100) == (400, True)


@pytest.mark.parametrize("named", ["by name", "by key"])
@pytest.mark.parametrize("odd", ODD)
async def test_an_odd_certificate_is_refused_at_connect(fleet: Fleet, odd: str, named: str) -> None:
    signer = forge.by_key() if named == "by key" else None
    header = forge.forged(BODY, [ODD[odd]], signer=signer).header()
    answer = await fleet.trial.send("devices", "PUT", CONNECT, BODY, {"Mdm-Signature": header})
    assert (answer.status, len(answer.body) < 100) == (400, True)


@pytest.mark.parametrize("odd", ODD)
def test_nobody_is_the_issuer_of_an_odd_certificate(odd: str) -> None:
    issuers = Issuers([x509.load_der_x509_certificate(forge.certificate())])
    assert issuers.issued_by(ODD[odd]) is None


@pytest.mark.parametrize("odd", ["version 2", "version 4", "version 200"])
async def test_a_scep_message_signed_with_an_odd_certificate_is_a_short_400(
    house: House, odd: str
) -> None:
    attributes = [
        cms.attribute(wire_scep.MESSAGE_TYPE, der.printable("19")),
        cms.attribute(wire_scep.TRANSACTION_ID, der.printable("1")),
        cms.attribute(wire_scep.SENDER_NONCE, der.octets(b"n" * 16)),
    ]
    message = forge.forged(b"content", [ODD[odd]], more=attributes)
    whole = forge.Forgery(
        message.certificates,
        message.attributes,
        message.signature,
        message.signer,
        content=b"content",
    )
    answer = await house.service.send("devices", "POST", f"/scep/x{PKI_OPERATION}", whole.encode())
    assert (answer.status, answer.text) == (400, "scep_malformed\n")


ODD_REQUESTS = {
    "version 2": {"version": 1},
    "version 200": {"version": 199},
    "two challenges": {"attributes": [forge.challenge(der.printable("a"), der.printable("b"))]},
    "no challenge value": {"attributes": [forge.challenge()]},
    "no text": {"attributes": [forge.challenge(der.tlv(0x0C, b"\xff\xfe"))]},
}


@pytest.mark.parametrize("odd", ODD_REQUESTS)
async def test_an_odd_certificate_request_gets_the_signed_failure(house: House, odd: str) -> None:
    path = await house.credential()
    document = await house.profile(path)
    payload = next(p for p in document["PayloadContent"] if p["PayloadType"].endswith(".scep"))
    address = payload["PayloadContent"]["URL"].removeprefix("https://mdm.example.org")
    authorities = await house.authorities(address)
    csr = forge.request(**ODD_REQUESTS[odd])  # type: ignore[arg-type]
    sent = _message(csr, registration_authority(authorities))
    answer = await house.service.send("devices", "POST", address + PKI_OPERATION, sent.message)
    assert answer.status == 200
    with pytest.raises(wire_scep.ScepRefused):
        wire_scep.open_reply(answer.body, sent, authorities)
    [session] = await house.query("SELECT certificate_sha256 FROM session")
    assert session["certificate_sha256"] is None


def _message(csr: bytes, recipient: x509.Certificate) -> wire_scep.Request:
    """A PKCSReq around any bytes."""
    signer = wire_scep.self_signed(forge.KEY, x509.Name([]))
    attributes = [
        cms.attribute(wire_scep.MESSAGE_TYPE, der.printable(wire_scep.PKCS_REQ)),
        cms.attribute(wire_scep.TRANSACTION_ID, der.printable("1")),
        cms.attribute(wire_scep.SENDER_NONCE, der.octets(b"n" * 16)),
    ]
    sealed = envelope.encrypt(csr, recipient, "aes128")
    message = cms.sign(sealed, [signer], cms.Style(embed=True), more_attributes=attributes)
    return wire_scep.Request(message, "1", b"n" * 16, signer, forge.KEY)


@pytest.mark.parametrize("version", [1, 2, 199])
def test_a_request_of_another_version_is_refused_by_the_authority_too(version: int) -> None:
    with pytest.raises(leaf.RequestError):
        leaf.check_request(forge.request(version=version))


@pytest.mark.parametrize("odd", ODD)
def test_looking_for_a_challenge_in_anything_else_is_a_refusal(odd: str) -> None:
    with pytest.raises(scep.ScepRefusal):
        scep._challenge(ODD[odd])


def _ocsp(parts: bytes, *extensions: bytes) -> bytes:
    more = der.explicit(2, der.sequence(*extensions)) if extensions else b""
    return der.sequence(der.sequence(parts, more))


def _asked_about(serial: int, algorithm: str = "1.3.14.3.2.26") -> bytes:
    hashed = der.sequence(der.oid(algorithm), der.null())
    named = der.sequence(hashed, der.octets(b"n" * 20), der.octets(b"k" * 20), der.integer(serial))
    return der.sequence(der.sequence(named))


_NONCE = forge.extension(forge.NONCE, der.octets(b"n" * 16))
ODD_OCSP = {
    "a nonce twice": _ocsp(_asked_about(5), _NONCE, _NONCE),
    "a negative serial": _ocsp(_asked_about(-5)),
    "an unknown hash": _ocsp(_asked_about(5, "1.2.3.4")),
    "MD5": _ocsp(_asked_about(5, "1.2.840.113549.2.5")),
    "nobody asked about": _ocsp(der.sequence()),
}


@pytest.mark.parametrize("odd", ODD_OCSP)
async def test_an_odd_ocsp_request_is_told_that_it_is_malformed(house: House, odd: str) -> None:
    answer = await house.service.send("devices", "POST", "/pki/ocsp", ODD_OCSP[odd])
    assert answer.status == 200
    said = ocsp.load_der_ocsp_response(answer.body)
    assert said.response_status is ocsp.OCSPResponseStatus.MALFORMED_REQUEST


async def test_a_serial_of_four_thousand_bits_is_only_unknown(house: House) -> None:
    answer = await house.service.send(
        "devices", "POST", "/pki/ocsp", _ocsp(_asked_about(1 << 3999))
    )
    said = ocsp.load_der_ocsp_response(answer.body)
    assert said.certificate_status is ocsp.OCSPCertStatus.UNKNOWN


async def test_signed_attributes_sent_as_a_body_are_no_signed_body(fleet: Fleet) -> None:
    """What covers attributes covers, byte for byte, a SET: it must not count as a body of its own.

    Without attributes there is no signing time either, so an old signature would count for ever.
    """
    phone = await fleet.enroll()
    await fleet.ask(phone)
    assert await phone.idle()
    captured = our_cms.decode(phone.identity.header(b"once signed", fleet.clock.now()))
    assert captured.covered is not None
    # The attack is real: by itself the signature holds over these bytes.
    key = phone.identity.key.public_key()
    key.verify(captured.signature, captured.covered, ec.ECDSA(hashes.SHA256()))
    stripped = forge.Forgery(
        certificates=[captured.certificate],
        attributes=None,
        signature=captured.signature,
        signer=forge.by_name(captured.certificate),
        algorithm=der.sequence(der.oid(cms.ECDSA_WITH["sha256"])),
    )
    answer = await fleet.trial.send(
        "devices", "PUT", CONNECT, captured.covered, {"Mdm-Signature": stripped.header()}
    )
    assert (answer.status, answer.text) == (400, "signature: signed attributes taken for a body\n")
    assert await fleet.finished() == []
