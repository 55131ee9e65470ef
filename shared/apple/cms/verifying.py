"""Does this signature cover this body?"""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import Final, NamedTuple

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat import asn1
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa

from shared.apple import der
from shared.apple.certificates import UNREADABLE
from shared.apple.cms import structures
from shared.apple.cms.reading import Signed
from shared.apple.cms.structures import SignatureError

RSA_BITS: Final = range(2048, 4097)
RSA_EXPONENT: Final = 65537

_HASHES: Final[dict[bytes, hashes.HashAlgorithm]] = {
    der.oid(structures.SHA1): hashes.SHA1(),  # noqa: S303 - by setting only, apple.md §1.12 note 3
    der.oid(structures.SHA256): hashes.SHA256(),
    der.oid(structures.SHA384): hashes.SHA384(),
    der.oid(structures.SHA512): hashes.SHA512(),
}
# Signature algorithm -> (key family, the hash it names or None where it names none).
_SCHEMES: Final[dict[bytes, tuple[str, str | None]]] = {
    der.oid(dotted): scheme
    for dotted, scheme in {
        structures.RSA: ("rsa", None),
        structures.RSA_SHA1: ("rsa", "sha1"),
        structures.RSA_SHA1_OIW: ("rsa", "sha1"),
        structures.RSA_SHA256: ("rsa", "sha256"),
        structures.RSA_SHA384: ("rsa", "sha384"),
        structures.RSA_SHA512: ("rsa", "sha512"),
        structures.RSA_PSS: ("pss", None),
        structures.EC: ("ec", None),
        structures.ECDSA_SHA1: ("ec", "sha1"),
        structures.ECDSA_SHA256: ("ec", "sha256"),
        structures.ECDSA_SHA384: ("ec", "sha384"),
        structures.ECDSA_SHA512: ("ec", "sha512"),
    }.items()
}
_PKCS1: Final = padding.PKCS1v15()
_UTC_TIME: Final = b"\x17"
_SET: Final = bytes((der.SET,))
_DATA: Final = x509.ObjectIdentifier(structures.DATA)


@dataclass(frozen=True, slots=True)
class Verified:
    """A signature that holds: whose, made when (by the signer's clock, if told), by which hash."""

    certificate: x509.Certificate
    fingerprint: bytes
    signed_at: datetime | None
    digest: str


def verify(signed: Signed, body: bytes, *, allow_sha1: bool) -> Verified:
    """Verify the signature over `body`, whatever the message embeds; raises SignatureError.

    Says nothing about trust: the caller compares the fingerprint and checks chain and validity.
    """
    algorithm = _HASHES.get(signed.digest_algorithm)
    if algorithm is None or (algorithm.name == "sha1" and not allow_sha1):
        raise SignatureError("digest algorithm not accepted")
    signed_at = None
    if signed.covered is not None:
        signed_at = _check_attributes(signed, body, algorithm)
    elif signed.content_type != _DATA:
        raise SignatureError("signed attributes missing")  # RFC 5652 §5.3
    elif body[:1] == _SET:
        # What a signature over attributes covers is itself a SET: sent as a body, without its
        # attributes, it would pass for signed, and at any later time (RFC 5652 §11, as attacked by
        # Strenzke, 2023). No message of ours begins so.
        raise SignatureError("signed attributes taken for a body")
    signer = _load(signed.certificate)
    if not _covers(signer, signed, body, algorithm):
        raise SignatureError("signature does not match")
    return Verified(signer.certificate, signed.fingerprint, signed_at, algorithm.name)


class _Signer(NamedTuple):
    """A certificate and its key, where the key is one that Muster accepts."""

    certificate: x509.Certificate
    rsa: rsa.RSAPublicKey | None
    ec: ec.EllipticCurvePublicKey | None


@lru_cache(maxsize=2048)
def _load(encoded: bytes) -> _Signer:
    """Read a certificate; kept, because a key's first use costs as much as half a verification."""
    try:
        certificate = x509.load_der_x509_certificate(encoded)
        key = certificate.public_key()
    except UNREADABLE:
        raise SignatureError("unreadable certificate") from None
    if not acceptable_key(key):
        raise SignatureError("public key not accepted")
    if isinstance(key, rsa.RSAPublicKey):
        return _Signer(certificate, key, None)
    return _Signer(certificate, None, key if isinstance(key, ec.EllipticCurvePublicKey) else None)


def acceptable_key(key: object) -> bool:
    """Whether Muster accepts this public key: RSA 2048–4096 with e=65537, or P-256, or P-384."""
    if isinstance(key, rsa.RSAPublicKey):
        return key.key_size in RSA_BITS and key.public_numbers().e == RSA_EXPONENT
    if isinstance(key, ec.EllipticCurvePublicKey):
        return isinstance(key.curve, ec.SECP256R1 | ec.SECP384R1)
    return False


def _check_attributes(
    signed: Signed, body: bytes, algorithm: hashes.HashAlgorithm
) -> datetime | None:
    """Compare messageDigest and contentType (RFC 5652 §11.1, §11.2); return the signing time."""
    digest = hashlib.new(algorithm.name, body).digest()
    stated = signed.value_of(structures.MESSAGE_DIGEST)
    if stated is None:
        raise SignatureError("message digest missing")
    if not hmac.compare_digest(stated, der.octets(digest)):
        raise SignatureError("the body is not what was signed")
    if signed.value_of(structures.CONTENT_TYPE) != der.oid(signed.content_type):
        raise SignatureError("content type does not match")
    return _signing_time(signed)


def _signing_time(signed: Signed) -> datetime | None:
    value = signed.value_of(structures.SIGNING_TIME)
    if value is None:
        return None
    try:
        if value.startswith(_UTC_TIME):
            return asn1.decode_der(asn1.UTCTime, value).as_datetime()
        return asn1.decode_der(asn1.GeneralizedTime, value).as_datetime()
    except ValueError:
        raise SignatureError("bad signing time") from None


def _covers(signer: _Signer, signed: Signed, body: bytes, algorithm: hashes.HashAlgorithm) -> bool:
    """Check what was sent; failing that, its attributes in DER order: some writers sort late."""
    if signed.covered is None:
        return _holds(signer, signed, body, algorithm)
    if _holds(signer, signed, signed.covered, algorithm):
        return True
    in_order = der.set_of(der.elements(der.contents(signed.covered)))
    return in_order != signed.covered and _holds(signer, signed, in_order, algorithm)


def _holds(
    signer: _Signer, signed: Signed, covered: bytes, algorithm: hashes.HashAlgorithm
) -> bool:
    family, named = _SCHEMES.get(signed.signature_algorithm, ("", None))
    if named is not None and named != algorithm.name:
        raise SignatureError("digest and signature algorithms disagree")
    try:
        if family == "rsa" and signer.rsa is not None:
            signer.rsa.verify(signed.signature, covered, _PKCS1, algorithm)
        elif family == "pss" and signer.rsa is not None:
            # Parameters other than the ones implied here do not verify, and are so refused.
            scheme = padding.PSS(mgf=padding.MGF1(algorithm), salt_length=padding.PSS.AUTO)
            signer.rsa.verify(signed.signature, covered, scheme, algorithm)
        elif family == "ec" and signer.ec is not None:
            signer.ec.verify(signed.signature, covered, ec.ECDSA(algorithm))
        else:
            raise SignatureError("signature algorithm not accepted")
    except InvalidSignature:
        return False
    return True
