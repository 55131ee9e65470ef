"""Saying who is revoked: CRLs (RFC 5280 §5) and OCSP answers (RFC 6960)."""

from __future__ import annotations

import binascii
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final
from urllib.parse import unquote_to_bytes

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509 import ocsp

from services.enrollment.pki.authority import KeyPair
from shared.apple.certificates import UNREADABLE

MAX_OCSP_REQUEST: Final = 4096
_MAX_NONCE: Final = 128  # RFC 9654 §2.1
_CERT_ID_HASHES: Final = (hashes.SHA1, hashes.SHA256)


class OcspError(ValueError):
    """The request cannot be answered; `response` is the DER to send instead (with HTTP 200)."""

    def __init__(self, status: ocsp.OCSPResponseStatus) -> None:
        super().__init__(status.name)
        built = ocsp.OCSPResponseBuilder.build_unsuccessful(status)
        self.response = built.public_bytes(serialization.Encoding.DER)


@dataclass(frozen=True)
class Revoked:
    """One revoked certificate; `reason` as RFC 5280 spells it (`superseded`), or None."""

    serial_number: int
    at: datetime
    reason: str | None = None


@dataclass(frozen=True)
class Good:
    """The certificate was issued by this authority and is not revoked."""


def build_crl(
    authority: KeyPair,
    revoked: Iterable[Revoked],
    *,
    number: int,
    now: datetime,
    validity: timedelta = timedelta(hours=24),
) -> bytes:
    """Return a signed CRL (DER); `number` must rise with every CRL of the authority."""
    builder = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(authority.certificate.subject)
        .last_update(now)
        .next_update(now + validity)
        .add_extension(x509.CRLNumber(number), critical=False)
        .add_extension(_authority_key(authority.certificate), critical=False)
    )
    for entry in revoked:
        builder = builder.add_revoked_certificate(_crl_entry(entry))
    return builder.sign(authority.key, hashes.SHA256()).public_bytes(serialization.Encoding.DER)


def read_get(path: str) -> bytes:
    """Decode the request in the path of a GET (RFC 6960 §A.1); raises OcspError."""
    if len(path) > 2 * MAX_OCSP_REQUEST:
        raise OcspError(ocsp.OCSPResponseStatus.MALFORMED_REQUEST)
    text = unquote_to_bytes(path).replace(b" ", b"+")  # a plus sign that was taken for a space
    text += b"=" * (-len(text) % 4)
    try:
        return binascii.a2b_base64(text, strict_mode=True)
    except ValueError:
        raise OcspError(ocsp.OCSPResponseStatus.MALFORMED_REQUEST) from None


def read_request(data: bytes) -> ocsp.OCSPRequest:
    """Parse a DER request for exactly one certificate; raises OcspError."""
    malformed = OcspError(ocsp.OCSPResponseStatus.MALFORMED_REQUEST)
    if len(data) > MAX_OCSP_REQUEST:
        raise malformed
    try:
        request = ocsp.load_der_ocsp_request(data)
        _nonce(request)
        algorithm = request.hash_algorithm
        if len(request.issuer_key_hash) != algorithm.digest_size:
            raise malformed
        serial = request.serial_number
    except (TypeError, NotImplementedError, *UNREADABLE):
        raise malformed from None
    # No certificate of ours has a serial number that is not positive, and none can be answered.
    if serial < 0 or not isinstance(algorithm, _CERT_ID_HASHES):
        raise malformed
    return request


def asks_about(request: ocsp.OCSPRequest, authority: x509.Certificate) -> bool:
    """Whether the request names a certificate of this authority."""
    algorithm = request.hash_algorithm
    return request.issuer_name_hash == _digest(
        algorithm, authority.subject.public_bytes()
    ) and request.issuer_key_hash == _digest(algorithm, _key_bits(authority))


def answer(
    request: ocsp.OCSPRequest,
    status: Good | Revoked | None,
    responder: KeyPair,
    *,
    now: datetime,
    validity: timedelta,
) -> bytes:
    """Sign an answer (DER); `status` None means unknown: no such certificate was issued here."""
    revoked = status if isinstance(status, Revoked) else None
    kinds = {Good: ocsp.OCSPCertStatus.GOOD, Revoked: ocsp.OCSPCertStatus.REVOKED}
    builder = (
        ocsp.OCSPResponseBuilder()
        .add_response_by_hash(
            issuer_name_hash=request.issuer_name_hash,
            issuer_key_hash=request.issuer_key_hash,
            serial_number=request.serial_number,
            algorithm=request.hash_algorithm,
            cert_status=kinds.get(type(status), ocsp.OCSPCertStatus.UNKNOWN),
            this_update=now,
            next_update=now + validity,
            revocation_time=revoked.at if revoked else None,
            revocation_reason=_reason(revoked.reason) if revoked else None,
        )
        .responder_id(ocsp.OCSPResponderEncoding.HASH, responder.certificate)
        .certificates([responder.certificate])
    )
    nonce = _nonce(request)
    if nonce is not None:
        builder = builder.add_extension(nonce, critical=False)
    signed = builder.sign(responder.key, hashes.SHA256())
    return signed.public_bytes(serialization.Encoding.DER)


def _nonce(request: ocsp.OCSPRequest) -> x509.OCSPNonce | None:
    try:
        nonce = request.extensions.get_extension_for_class(x509.OCSPNonce).value
    except x509.ExtensionNotFound:
        return None
    if not 1 <= len(nonce.nonce) <= _MAX_NONCE:
        raise ValueError("nonce of a wrong size")
    return nonce


def _crl_entry(entry: Revoked) -> x509.RevokedCertificate:
    builder = (
        x509.RevokedCertificateBuilder()
        .serial_number(entry.serial_number)
        .revocation_date(entry.at)
    )
    reason = _reason(entry.reason)
    if reason is not None:
        builder = builder.add_extension(x509.CRLReason(reason), critical=False)
    return builder.build()


def _reason(reason: str | None) -> x509.ReasonFlags | None:
    """RFC 5280 §5.3.1: no reason is better written as an absent extension than as unspecified."""
    if reason is None or reason == x509.ReasonFlags.unspecified.value:
        return None
    return x509.ReasonFlags(reason)


def _authority_key(certificate: x509.Certificate) -> x509.AuthorityKeyIdentifier:
    ski = certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    return x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(ski)


def _digest(algorithm: hashes.HashAlgorithm, data: bytes) -> bytes:
    digest = hashes.Hash(algorithm)
    digest.update(data)
    return digest.finalize()


def _key_bits(certificate: x509.Certificate) -> bytes:
    """Return what an issuerKeyHash covers: the key's BIT STRING without tag and length."""
    key = certificate.public_key()
    if isinstance(key, rsa.RSAPublicKey):
        return key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.PKCS1)
    if isinstance(key, ec.EllipticCurvePublicKey):
        return key.public_bytes(
            serialization.Encoding.X962, serialization.PublicFormat.UncompressedPoint
        )
    raise TypeError("neither an RSA nor an EC key")
