"""Signing: enrollment profiles, and the messages of SCEP."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final

from cryptography import x509
from cryptography.hazmat import asn1
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa

from shared.apple import der
from shared.apple.cms import reading, structures

SigningKey = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey

_GENERALIZED_FROM: Final = 2050


def sign(
    content: bytes,
    certificate: x509.Certificate,
    key: SigningKey,
    *,
    detached: bool = False,
    chain: Sequence[x509.Certificate] = (),
    attributes: Sequence[bytes] = (),
    at: datetime | None = None,
) -> bytes:
    """Sign `content` with SHA-256 and return the DER of a SignedData with one signer.

    `chain` is embedded beside the signer's certificate. `attributes` are whole encoded Attributes,
    signed with the three standard ones; see `attribute`.
    """
    digest = _algorithm(structures.SHA256)
    signed_attributes = [
        attribute(structures.CONTENT_TYPE, der.oid(structures.DATA)),
        attribute(structures.SIGNING_TIME, _time(at or datetime.now(UTC))),
        attribute(structures.MESSAGE_DIGEST, der.octets(hashlib.sha256(content).digest())),
        *attributes,
    ]
    covered = der.set_of(signed_attributes)
    signature, scheme = _signature(key, covered)
    signer = der.sequence(
        der.integer(1),
        issuer_and_serial(certificate),
        digest,
        der.tlv(0xA0, der.contents(covered)),
        scheme,
        der.octets(signature),
    )
    body = () if detached else (der.context(0, der.octets(content)),)
    encoded = sorted(
        item.public_bytes(serialization.Encoding.DER) for item in (certificate, *chain)
    )
    return _content_info(
        der.integer(1),
        der.set_of([digest]),
        der.sequence(der.oid(structures.DATA), *body),
        der.context(0, *encoded),
        der.set_of([signer]),
    )


def degenerate(certificates: Sequence[x509.Certificate]) -> bytes:
    """Return a SignedData that only carries certificates (RFC 8894 §3.4), in DER's set order."""
    encoded = sorted(item.public_bytes(serialization.Encoding.DER) for item in certificates)
    return _content_info(
        der.integer(1),
        der.set_of([]),
        der.sequence(der.oid(structures.DATA)),
        der.context(0, *encoded),
        der.set_of([]),
    )


def attribute(kind: str | x509.ObjectIdentifier, value: bytes) -> bytes:
    """Encode one Attribute with one already encoded value."""
    return der.sequence(der.oid(kind), der.set_of([value]))


def issuer_and_serial(certificate: x509.Certificate) -> bytes:
    """Encode how CMS names a certificate (RFC 5652 §10.2.4)."""
    return der.sequence(reading.issuer_and_serial(certificate.tbs_certificate_bytes, 0))


def _content_info(*parts: bytes) -> bytes:
    return der.sequence(der.oid(structures.SIGNED_DATA), der.context(0, der.sequence(*parts)))


def _algorithm(dotted: str) -> bytes:
    return der.sequence(der.oid(dotted), der.NULL)


def _signature(key: SigningKey, covered: bytes) -> tuple[bytes, bytes]:
    if isinstance(key, rsa.RSAPrivateKey):
        signature = key.sign(covered, padding.PKCS1v15(), hashes.SHA256())
        return signature, _algorithm(structures.RSA)
    # RFC 5758 §3.2: no parameters with ECDSA.
    signature = key.sign(covered, ec.ECDSA(hashes.SHA256()))
    return signature, der.sequence(der.oid(structures.ECDSA_SHA256))


def _time(moment: datetime) -> bytes:
    """RFC 5652 §11.3: UTCTime through 2049, GeneralizedTime from then on, whole seconds."""
    moment = moment.astimezone(UTC).replace(microsecond=0)
    if moment.year < _GENERALIZED_FROM:
        return asn1.encode_der(asn1.UTCTime(moment))
    return asn1.encode_der(asn1.GeneralizedTime(moment))
