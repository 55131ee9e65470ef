"""SCEP messages (RFC 8894): requests written, CertReps verified and opened. No network here."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import AttributeOID, NameOID

from tools.simulator.wire import cms, der, envelope

_VERISIGN = "2.16.840.1.113733.1.9."
MESSAGE_TYPE, PKI_STATUS, FAIL_INFO = _VERISIGN + "2", _VERISIGN + "3", _VERISIGN + "4"
SENDER_NONCE, RECIPIENT_NONCE, TRANSACTION_ID = _VERISIGN + "5", _VERISIGN + "6", _VERISIGN + "7"
CERT_REP, RENEWAL_REQ, PKCS_REQ = "3", "17", "19"
SUCCESS, FAILURE, PENDING = "0", "2", "3"
FAIL_REASONS = {
    "0": "badAlg", "1": "badMessageCheck", "2": "badRequest", "3": "badTime", "4": "badCertId",
}  # fmt: skip
_SHORT_NAMES = {
    "C": NameOID.COUNTRY_NAME,
    "CN": NameOID.COMMON_NAME,
    "L": NameOID.LOCALITY_NAME,
    "O": NameOID.ORGANIZATION_NAME,
    "OU": NameOID.ORGANIZATIONAL_UNIT_NAME,
    "ST": NameOID.STATE_OR_PROVINCE_NAME,
}


class ScepError(Exception):
    """The certificate authority refused, or its answer breaks a rule of RFC 8894."""


class ScepRefused(ScepError):  # noqa: N818 - an answer of the authority, not a fault
    """A well-formed CertRep with status 2; `reason` is the failInfo's name."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"the authority refused the request: {reason}")
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Request:
    """A pkiMessage to send, with what is needed to check the answer."""

    message: bytes
    transaction_id: str
    nonce: bytes
    identity: cms.Identity
    """Who signed the request: the answer's envelope is addressed to this certificate."""
    key: rsa.RSAPrivateKey
    """The key that asks for a certificate."""


@dataclass(frozen=True, slots=True)
class Issued:
    certificate: x509.Certificate
    algorithm: str
    """The cipher the authority answered in."""
    certificates: Sequence[x509.Certificate]
    """All that came in the CertRep, the leaf included."""


def subject_name(subject: Sequence[Sequence[Sequence[str]]]) -> x509.Name:
    """The SCEP payload's Subject: a list of RDNs, each a list of (object identifier, value)."""
    rdns = []
    for rdn in subject:
        pairs = [
            x509.NameAttribute(_SHORT_NAMES.get(key) or x509.ObjectIdentifier(key), value)
            for key, value in rdn
        ]
        rdns.append(x509.RelativeDistinguishedName(pairs))
    return x509.Name(rdns)


def certificate_request(
    key: rsa.RSAPrivateKey, subject: x509.Name, challenge: str | None
) -> x509.CertificateSigningRequest:
    builder = x509.CertificateSigningRequestBuilder().subject_name(subject)
    if challenge is not None:
        builder = builder.add_attribute(AttributeOID.CHALLENGE_PASSWORD, challenge.encode())
    return builder.sign(key, hashes.SHA256())


def self_signed(key: rsa.RSAPrivateKey, subject: x509.Name) -> cms.Identity:
    """The throw-away certificate that signs a first request (RFC 8894 2.3)."""
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=2))
        .sign(key, hashes.SHA256())
    )
    return cms.Identity(key, certificate)


def request(
    csr: x509.CertificateSigningRequest,
    key: rsa.RSAPrivateKey,
    signer: cms.Identity,
    recipient: x509.Certificate,
    *,
    message_type: str = PKCS_REQ,
    cipher: str = "aes128",
    digest: str = "sha256",
) -> Request:
    """A PKCSReq or RenewalReq for `csr`, encrypted to `recipient`, signed by `signer`."""
    encrypted = envelope.encrypt(csr.public_bytes(serialization.Encoding.DER), recipient, cipher)
    public = key.public_key().public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    transaction_id, nonce = cms.digest("sha256", public).hex().upper(), os.urandom(16)
    attributes = [
        cms.attribute(MESSAGE_TYPE, der.printable(message_type)),
        cms.attribute(TRANSACTION_ID, der.printable(transaction_id)),
        cms.attribute(SENDER_NONCE, der.octets(nonce)),
    ]
    style = cms.Style(digest=digest, embed=True)
    message = cms.sign(encrypted, [signer], style, more_attributes=attributes)
    return Request(message, transaction_id, nonce, signer, key)


def open_reply(data: bytes, sent: Request, authorities: Sequence[x509.Certificate]) -> Issued:
    """Verify a CertRep against the request and `authorities`; return the certificate.

    Raises ScepRefused for a signed failure, ScepError for anything RFC 8894 3.3.2 forbids.
    """
    try:
        reply = cms.open_signed(data, detached=b"")
        if reply.signer not in authorities:
            raise ScepError("the CertRep is signed by none of the authority's certificates")
        _check_status(reply.attributes, sent)
        return _issued(envelope.decrypt(reply.content, sent.identity.certificate, _rsa(sent)), sent)
    except (cms.CmsError, der.DerError) as error:
        raise ScepError(f"the CertRep cannot be read: {error}") from error


def _rsa(sent: Request) -> rsa.RSAPrivateKey:
    if not isinstance(sent.identity.key, rsa.RSAPrivateKey):
        raise ScepError("SCEP needs RSA: an EC key cannot open the answer")
    return sent.identity.key


def _text(attributes: Mapping[str, der.Node], dotted: str) -> str:
    if dotted not in attributes:
        raise ScepError(f"the CertRep lacks attribute {dotted}")
    return attributes[dotted].expect(der.PRINTABLE_STRING).content.decode("ascii")


def _check_status(attributes: Mapping[str, der.Node], sent: Request) -> None:
    if _text(attributes, MESSAGE_TYPE) != CERT_REP:
        raise ScepError("the answer is no CertRep")
    if _text(attributes, TRANSACTION_ID) != sent.transaction_id:
        raise ScepError("the CertRep belongs to another transaction")
    if RECIPIENT_NONCE not in attributes or attributes[RECIPIENT_NONCE].octets() != sent.nonce:
        raise ScepError("the CertRep does not return our nonce")
    status = _text(attributes, PKI_STATUS)
    if status == FAILURE:
        code = _text(attributes, FAIL_INFO)
        raise ScepRefused(FAIL_REASONS.get(code, f"failInfo {code}"))
    if status != SUCCESS:
        raise ScepError(f"the CertRep has status {status}")


def _issued(opened: envelope.Opened, sent: Request) -> Issued:
    certificates = cms.certificates_of(opened.content)
    wanted = sent.key.public_key().public_numbers()
    for certificate in certificates:
        public = certificate.public_key()
        if isinstance(public, rsa.RSAPublicKey) and public.public_numbers() == wanted:
            return Issued(certificate, opened.algorithm, certificates)
    raise ScepError("the CertRep holds no certificate for our key")
