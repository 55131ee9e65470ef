"""SCEP (RFC 8894), the server's side: queries and messages in, signed answers out.

Two kinds of refusal: a message that nobody provably signed is a ScepError (HTTP 400), for there is
nobody to answer; a signed one that cannot be granted is a ScepRefusal, answered by `failure`, the
same for every reason.
"""

from __future__ import annotations

import binascii
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import unquote_to_bytes

from cryptography import x509
from cryptography.hazmat import asn1
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import AttributeOID

from services.enrollment.apple import envelope
from services.enrollment.apple.envelope import ContentCipher, EnvelopeError
from services.enrollment.pki.authority import KeyPair
from shared.apple import cms, der
from shared.apple.certificates import UNREADABLE
from shared.apple.cms import SignatureError, signing

CAPS_TYPE: Final = "text/plain"
CA_TYPE: Final = "application/x-x509-ca-cert"
CA_RA_TYPE: Final = "application/x-x509-ca-ra-cert"
MESSAGE_TYPE: Final = "application/x-pki-message"

# RFC 8894 §3.5.2.
CAPABILITIES: Final = b"Renewal\nSHA-1\nSHA-256\nAES\nDES3\nSCEPStandard\nPOSTPKIOperation\n"

MAX_MESSAGE: Final = 64 * 1024
MAX_QUERY: Final = 16 * 1024
_MAX_TRANSACTION: Final = 255
_MAX_NONCE: Final = 64
_NONCE_SIZE: Final = 16
_MAX_CHALLENGE: Final = 1024
_LIMITS: Final = der.Limits(max_bytes=MAX_MESSAGE)

# RFC 8894 §3.2.1: the signed attributes, VeriSign's arc.
_MESSAGE_TYPE: Final = x509.ObjectIdentifier("2.16.840.1.113733.1.9.2")
_PKI_STATUS: Final = x509.ObjectIdentifier("2.16.840.1.113733.1.9.3")
_FAIL_INFO: Final = x509.ObjectIdentifier("2.16.840.1.113733.1.9.4")
_SENDER_NONCE: Final = x509.ObjectIdentifier("2.16.840.1.113733.1.9.5")
_RECIPIENT_NONCE: Final = x509.ObjectIdentifier("2.16.840.1.113733.1.9.6")
_TRANSACTION_ID: Final = x509.ObjectIdentifier("2.16.840.1.113733.1.9.7")

CERT_REP: Final = "3"
RENEWAL_REQ: Final = "17"
PKCS_REQ: Final = "19"
_SUCCESS: Final = "0"
_FAILURE: Final = "2"
_BAD_REQUEST: Final = "2"


class ScepError(ValueError):
    """No message of anybody: HTTP 400. `reason` is short and safe to log."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class ScepRefusal(ValueError):  # noqa: N818 (a refusal, not a fault of ours)
    """A signed message that is not granted: `failure`. `reason` is for the log only."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass(frozen=True)
class Query:
    """The query part of a SCEP address; `message` is still encoded."""

    operation: str
    message: bytes = field(repr=False)


@dataclass(frozen=True)
class Message:
    """A pkiMessage whose signature holds. Who the signer is, is for the caller to judge."""

    kind: str
    transaction_id: str
    sender_nonce: bytes
    signer: x509.Certificate
    fingerprint: bytes
    content: bytes


@dataclass(frozen=True)
class Request:
    """What a message asks for: PKCS#10 (DER), and what proves the right to it.

    `renews` is the SHA-256 of the current certificate that signed a RenewalReq: the caller checks
    that it was issued here, is valid and not revoked. It is None for a PKCSReq, whose proof is the
    challenge.
    """

    csr: bytes = field(repr=False)
    challenge: str | None = field(repr=False)
    renews: bytes | None
    cipher: ContentCipher


def parse_query(raw: str) -> Query:
    """Parse the raw (still percent-encoded) query; raises ScepError.

    Clients append `?operation=…` to whatever address they were given, also to one that already
    ends in a question mark (apple.md §1.12, note 4).
    """
    if len(raw) > MAX_QUERY:
        raise ScepError("query too large")
    fields: dict[str, str] = {}
    for part in raw.lstrip("?").split("&"):
        name, _, value = part.partition("=")
        if name in {"operation", "message"}:
            if name in fields:
                raise ScepError("a field twice")
            fields[name] = value
    return Query(
        fields.get("operation", "").rstrip("?"), unquote_to_bytes(fields.get("message", ""))
    )


def message_of(query: Query, body: bytes) -> bytes:
    """Return the message of a PKIOperation: the body, or what stands in the query.

    In the query it is base64; some clients put the bare octets there, percent-encoded.
    """
    if body:
        return body
    if query.message.startswith(b"\x30"):
        return query.message
    try:
        # A plus sign that was not escaped arrives as itself or as a space.
        compact = query.message.replace(b" ", b"+").translate(None, b"\r\n")
        return binascii.a2b_base64(compact, strict_mode=True)
    except ValueError:
        raise ScepError("bad base64") from None


def ca_certificates(ca: x509.Certificate, ra: x509.Certificate | None) -> tuple[str, bytes]:
    """Return content type and body of GetCACert: RSA certificates only."""
    certificates = [ca] if ra is None else [ra, ca]
    if not all(isinstance(item.public_key(), rsa.RSAPublicKey) for item in certificates):
        raise ValueError("SCEP clients read RSA certificates only")
    if ra is None:
        return CA_TYPE, ca.public_bytes(serialization.Encoding.DER)
    return CA_RA_TYPE, cms.degenerate(certificates)


def read_message(data: bytes, *, allow_sha1: bool) -> Message:
    """Decode a pkiMessage and verify its signature; raises ScepError."""
    try:
        signed = cms.decode_der(data, limits=_LIMITS)
        if signed.content is None:
            raise ScepError("no content")
        verified = cms.verify(signed, signed.content, allow_sha1=allow_sha1)
    except SignatureError as error:
        raise ScepError(error.reason) from None
    nonce = _octets(signed.value_of(_SENDER_NONCE))
    transaction = _printable(signed.value_of(_TRANSACTION_ID))
    if not 1 <= len(nonce) <= _MAX_NONCE or not 1 <= len(transaction) <= _MAX_TRANSACTION:
        raise ScepError("transaction or nonce missing")
    return Message(
        kind=_printable(signed.value_of(_MESSAGE_TYPE)),
        transaction_id=transaction,
        sender_nonce=nonce,
        signer=verified.certificate,
        fingerprint=verified.fingerprint,
        content=signed.content,
    )


def open_request(message: Message, ra: KeyPair, *, allow_des: bool) -> Request:
    """Decrypt the certificate request of a message; raises ScepRefusal."""
    if message.kind not in {PKCS_REQ, RENEWAL_REQ}:
        raise ScepRefusal("message type not served")
    if not isinstance(message.signer.public_key(), rsa.RSAPublicKey):
        raise ScepRefusal("the answer can only be encrypted to an RSA certificate")
    if not isinstance(ra.key, rsa.RSAPrivateKey):
        raise TypeError("the registration authority must have an RSA key")
    try:
        opened = envelope.open_envelope(message.content, ra.certificate, ra.key)
    except EnvelopeError:
        raise ScepRefusal("the envelope does not open") from None
    if opened.cipher is envelope.DES and not allow_des:
        raise ScepRefusal("single DES is switched off")
    return Request(
        csr=opened.content,
        challenge=_challenge(opened.content),
        renews=message.fingerprint if message.kind == RENEWAL_REQ else None,
        cipher=opened.cipher,
    )


def success(
    message: Message, request: Request, certificate: x509.Certificate, ra: KeyPair
) -> bytes:
    """Answer with the certificate: only the leaf, encrypted to the signer in its own algorithm."""
    inside = cms.degenerate([certificate])
    sealed = envelope.seal_envelope(inside, message.signer, request.cipher)
    return _answer(message, ra, [_text(_PKI_STATUS, _SUCCESS)], sealed)


def failure(message: Message, ra: KeyPair) -> bytes:
    """Answer no: status 2, failInfo badRequest, whatever the reason was (RFC 8894 §3.2.1.4)."""
    said = [_text(_PKI_STATUS, _FAILURE), _text(_FAIL_INFO, _BAD_REQUEST)]
    return _answer(message, ra, said, None)


def _answer(message: Message, ra: KeyPair, said: Sequence[bytes], content: bytes | None) -> bytes:
    attributes = [
        *said,
        _text(_MESSAGE_TYPE, CERT_REP),
        _text(_TRANSACTION_ID, message.transaction_id),
        signing.attribute(_RECIPIENT_NONCE, der.octets(message.sender_nonce)),
        signing.attribute(_SENDER_NONCE, der.octets(secrets.token_bytes(_NONCE_SIZE))),
    ]
    return cms.sign(
        content or b"",
        ra.certificate,
        ra.key,
        detached=content is None,
        attributes=attributes,
    )


def _text(kind: x509.ObjectIdentifier, value: str) -> bytes:
    return signing.attribute(kind, der.tlv(der.PRINTABLE_STRING, value.encode("ascii")))


def _printable(value: bytes | None) -> str:
    """Read a PrintableString attribute; absent or of another kind reads as empty."""
    try:
        return asn1.decode_der(asn1.PrintableString, value or b"").as_str()
    except ValueError:
        return ""


def _octets(value: bytes | None) -> bytes:
    try:
        return asn1.decode_der(bytes, value or b"")
    except ValueError:
        return b""


def _challenge(csr: bytes) -> str | None:
    """Return the challengePassword (RFC 2985 §5.4.1) of a request; raises ScepRefusal."""
    try:
        attributes = x509.load_der_x509_csr(csr).attributes
        value = attributes.get_attribute_for_oid(AttributeOID.CHALLENGE_PASSWORD).value
        text = value.decode("utf-8")
    except x509.AttributeNotFound:
        return None
    except UNREADABLE:
        raise ScepRefusal("malformed certificate request") from None
    if len(text) > _MAX_CHALLENGE:
        raise ScepRefusal("challenge too long")
    return text
