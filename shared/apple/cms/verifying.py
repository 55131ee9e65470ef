"""Does this signature cover this body?"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
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

# Certificates whose keys are kept ready: about 2.5 KB each.
_CAPACITY: Final = 16_384


class _Digest(NamedTuple):
    """A hash: its name, its quickest constructor, and what the signature primitives call it."""

    name: str
    new: Callable[[bytes], hashlib._Hash]
    algorithm: hashes.HashAlgorithm


_ALGORITHMS: Final[Mapping[str, tuple[Callable[[bytes], hashlib._Hash], hashes.HashAlgorithm]]] = {
    "sha1": (hashlib.sha1, hashes.SHA1()),  # noqa: S303 - by setting only, apple.md §1.12 note 3
    "sha256": (hashlib.sha256, hashes.SHA256()),
    "sha384": (hashlib.sha384, hashes.SHA384()),
    "sha512": (hashlib.sha512, hashes.SHA512()),
}
_DIGESTS: Final[Mapping[bytes, _Digest]] = {
    der.oid(dotted): _Digest(name, *_ALGORITHMS[name])
    for dotted, name in structures.DIGESTS.items()
}
_SCHEMES: Final[Mapping[bytes, tuple[str, str | None]]] = {
    der.oid(dotted): scheme for dotted, scheme in structures.SCHEMES.items()
}
_PKCS1: Final = padding.PKCS1v15()
_UTC_TIME: Final = b"\x17"
_SET: Final = bytes((der.SET,))
_DATA: Final = der.oid(structures.DATA)
_CONTENT_TYPE: Final = der.oid(structures.CONTENT_TYPE)
_MESSAGE_DIGEST: Final = der.oid(structures.MESSAGE_DIGEST)
_SIGNING_TIME: Final = der.oid(structures.SIGNING_TIME)


class Verified(NamedTuple):
    """A signature that holds: whose, made when (by the signer's clock, if told), by which hash."""

    encoded: bytes
    """The certificate's DER."""
    fingerprint: bytes
    signed_at: datetime | None
    digest: str
    not_before: datetime
    not_after: datetime

    @property
    def certificate(self) -> x509.Certificate:
        """Read anew each time: for its validity alone ask `is_valid_at`."""
        return x509.load_der_x509_certificate(self.encoded)

    def is_valid_at(self, moment: datetime) -> bool:
        """Whether `moment` (aware) lies within the certificate's validity, both ends included."""
        return self.not_before <= moment <= self.not_after


def verify(signed: Signed, body: bytes, *, allow_sha1: bool) -> Verified:
    """Verify the signature over `body`, whatever the message embeds; raises SignatureError.

    Says nothing about trust: the caller compares the fingerprint and checks chain and validity.
    """
    digest = _DIGESTS.get(signed.digest_algorithm)
    if digest is None or (digest.name == "sha1" and not allow_sha1):
        raise SignatureError("digest algorithm not accepted")
    signed_at = None
    if signed.covered is not None:
        signed_at = _check_attributes(signed, digest.new(body).digest())
    elif signed.content_type != _DATA:
        raise SignatureError("signed attributes missing")  # RFC 5652 §5.3
    elif body[:1] == _SET:
        # What a signature over attributes covers is itself a SET: sent as a body, without its
        # attributes, it would pass for signed, and at any later time (RFC 5652 §11, as attacked by
        # Strenzke, 2023). No message of ours begins so.
        raise SignatureError("signed attributes taken for a body")
    signer = _known.get(signed.fingerprint) or _load(signed)
    if not _covers(signer, signed, body, digest):
        raise SignatureError("signature does not match")
    return Verified(
        signed.certificate,
        signed.fingerprint,
        signed_at,
        digest.name,
        signer.not_before,
        signer.not_after,
    )


class _Signer(NamedTuple):
    """A certificate's validity and its key, which is one that Muster accepts."""

    not_before: datetime
    not_after: datetime
    rsa: rsa.RSAPublicKey | None
    ec: ec.EllipticCurvePublicKey | None


class _Known:
    """Signers by their certificate's fingerprint: a key's first use costs half a verification.

    Two halves: when the younger one is full, it becomes the older one, which is forgotten. Reading
    is one look-up and safe between threads, unlike the bookkeeping of a strict LRU.
    """

    __slots__ = ("_half", "_older", "_younger")

    def __init__(self, capacity: int) -> None:
        self._half = capacity // 2
        self._younger: dict[bytes, _Signer] = {}
        self._older: dict[bytes, _Signer] = {}

    def get(self, fingerprint: bytes) -> _Signer | None:
        found = self._younger.get(fingerprint)
        if found is None:
            found = self._older.get(fingerprint)
            if found is not None:
                self.put(fingerprint, found)
        return found

    def put(self, fingerprint: bytes, signer: _Signer) -> None:
        if len(self._younger) >= self._half:
            self._older, self._younger = self._younger, {}
        self._younger[fingerprint] = signer


_known: Final = _Known(_CAPACITY)


def _load(signed: Signed) -> _Signer:
    try:
        certificate = x509.load_der_x509_certificate(signed.certificate)
        key = certificate.public_key()
        validity = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    except UNREADABLE:
        raise SignatureError("unreadable certificate") from None
    if not acceptable_key(key):
        raise SignatureError("public key not accepted")
    signer = _Signer(
        *validity,
        key if isinstance(key, rsa.RSAPublicKey) else None,
        key if isinstance(key, ec.EllipticCurvePublicKey) else None,
    )
    _known.put(signed.fingerprint, signer)
    return signer


def acceptable_key(key: object) -> bool:
    """Whether Muster accepts this public key: RSA 2048–4096 with e=65537, or P-256, or P-384."""
    if isinstance(key, rsa.RSAPublicKey):
        return key.key_size in RSA_BITS and key.public_numbers().e == RSA_EXPONENT
    if isinstance(key, ec.EllipticCurvePublicKey):
        return isinstance(key.curve, ec.SECP256R1 | ec.SECP384R1)
    return False


def _check_attributes(signed: Signed, digest: bytes) -> datetime | None:
    """Compare messageDigest and contentType (RFC 5652 §11.1, §11.2); return the signing time."""
    attributes = signed.attributes
    stated = attributes.get(_MESSAGE_DIGEST)
    if stated is None:
        raise SignatureError("message digest missing")
    # Both are public: nothing is learnt from the time that comparing takes.
    if stated != bytes((der.OCTET_STRING, len(digest))) + digest:
        raise SignatureError("the body is not what was signed")
    if attributes.get(_CONTENT_TYPE) != signed.content_type:
        raise SignatureError("content type does not match")
    time = attributes.get(_SIGNING_TIME)
    return None if time is None else _signing_time(time)


@lru_cache(maxsize=256)
def _signing_time(value: bytes) -> datetime:
    """Read a signing time; kept, because many devices sign in the same second."""
    try:
        if value.startswith(_UTC_TIME):
            return asn1.decode_der(asn1.UTCTime, value).as_datetime()
        return asn1.decode_der(asn1.GeneralizedTime, value).as_datetime()
    except ValueError:
        raise SignatureError("bad signing time") from None


def _covers(signer: _Signer, signed: Signed, body: bytes, digest: _Digest) -> bool:
    """Check what was sent; failing that, its attributes in DER order: some writers sort late."""
    if signed.covered is None:
        return _holds(signer, signed, body, digest)
    if _holds(signer, signed, signed.covered, digest):
        return True
    in_order = der.set_of(der.elements(der.contents(signed.covered)))
    return in_order != signed.covered and _holds(signer, signed, in_order, digest)


def _holds(signer: _Signer, signed: Signed, covered: bytes, digest: _Digest) -> bool:
    family, named = _SCHEMES.get(signed.signature_algorithm, ("", None))
    if named is not None and named != digest.name:
        raise SignatureError("digest and signature algorithms disagree")
    algorithm = digest.algorithm
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
