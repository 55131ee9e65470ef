"""Device identities: the request gives only the key, Muster writes everything else."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from services.enrollment.pki.authority import (
    BACKDATE,
    Addresses,
    KeyPair,
    access_extensions,
    key_usage,
    random_serial,
    sign_leaf,
)
from shared.apple.certificates import UNREADABLE
from shared.apple.cms import acceptable_key

MAX_REQUEST: Final = 16 * 1024

LeafKey = rsa.RSAPublicKey | ec.EllipticCurvePublicKey


class RequestError(ValueError):
    """The certificate request cannot be accepted; `reason` is short and safe to log."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass(frozen=True)
class Holder:
    """Whom a leaf names: the enrollment session, and the hardware where it is known."""

    session_id: UUID
    organization: str
    serial_number: str | None = None


def check_request(data: bytes) -> LeafKey:
    """Return the key of a PKCS#10 request (DER) that proves possession of it; else RequestError."""
    if len(data) > MAX_REQUEST:
        raise RequestError("request too large")
    try:
        request = x509.load_der_x509_csr(data)
        key = request.public_key()
    except UNREADABLE:
        raise RequestError("malformed request") from None
    if not isinstance(key, rsa.RSAPublicKey | ec.EllipticCurvePublicKey) or not acceptable_key(key):
        raise RequestError("public key not accepted")
    try:
        proven = request.is_signature_valid
    except (InvalidSignature, *UNREADABLE):
        proven = False
    if not proven:
        raise RequestError("request is not signed by its own key")
    return key


def issue(
    authority: KeyPair,
    key: LeafKey,
    holder: Holder,
    addresses: Addresses,
    *,
    now: datetime,
    lifetime: timedelta,
) -> x509.Certificate:
    """Issue a device identity for client authentication; it ends with its CA at the latest."""
    issuer = authority.certificate
    builder = (
        x509.CertificateBuilder(issuer.subject, _subject(holder), key, random_serial())
        .not_valid_before(now - BACKDATE)
        .not_valid_after(min(now + lifetime, issuer.not_valid_after_utc))
    )
    usage = ["digital_signature"]
    if isinstance(key, rsa.RSAPublicKey):
        # A SCEP client encrypts the answer to a renewal to its current certificate.
        usage.append("key_encipherment")
    san = x509.SubjectAlternativeName([x509.UniformResourceIdentifier(holder.session_id.urn)])
    extensions = (
        x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]),
        san,
        *access_extensions(addresses),
    )
    return sign_leaf(authority, builder, key, key_usage(*usage), extensions)


def _subject(holder: Holder) -> x509.Name:
    parts = [
        x509.NameAttribute(NameOID.ORGANIZATION_NAME, holder.organization),
        x509.NameAttribute(NameOID.COMMON_NAME, f"Muster device {holder.session_id}"),
    ]
    if holder.serial_number:
        parts.append(x509.NameAttribute(NameOID.SERIAL_NUMBER, holder.serial_number))
    return x509.Name(parts)
