"""From bytes to a SignedData whose signer is known but not yet believed.

On the way of every device request, so it is walked by hand: a third of the time that a schema of
`cryptography.hazmat.asn1` takes, most of which goes into objects for parts that nobody looks at.
tests/apple holds the schema of RFC 5652 against it: what that refuses is refused here.
"""

from __future__ import annotations

import binascii
import hashlib
from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

from cryptography import x509
from cryptography.hazmat import asn1

from shared.apple import der
from shared.apple.certificates import UNREADABLE
from shared.apple.cms import structures
from shared.apple.cms.structures import SignatureError
from shared.apple.der import INTEGER, OCTET_STRING, SEQUENCE, SET, DerError, enter

HEADER_LIMIT: Final = 16 * 1024
MAX_CERTIFICATES: Final = 4
MAX_ATTRIBUTES: Final = 32
_CONTEXT_0: Final = 0xA0
_CONTEXT_1: Final = 0xA1
_SKI: Final = 0x80
_LONG_LENGTH: Final = 0x80
_LONG_TAG: Final = 0x1F
_SET_OCTET: Final = bytes((SET,))
# TBSCertificate's version (RFC 5280 §4.1.2.1), without its last octet.
_VERSION: Final = b"\xa0\x03\x02\x01"
_SIGNED_DATA: Final = der.oid(structures.SIGNED_DATA)
_DATA: Final = der.oid(structures.DATA)
_DETACHED: Final = der.sequence(_DATA)
# Whole AlgorithmIdentifiers: some writers leave NULL parameters out, some do not.
_ALGORITHMS: Final[Mapping[bytes, bytes]] = {
    der.sequence(der.oid(dotted), parameters): der.oid(dotted)
    for dotted in structures.ALGORITHMS
    for parameters in (b"", der.NULL)
}


class Signed(NamedTuple):
    """A decoded SignedData with exactly one signer, nothing of it verified.

    Object identifiers are encoded ones. `attributes` holds the signed attributes, each once, their
    values side by side (see `value_of`); `covered` is their SET in the order sent, None when the
    signature covers the body itself.
    """

    certificate: bytes
    fingerprint: bytes
    certificates: tuple[bytes, ...]
    content_type: bytes
    content: bytes | None
    digest_algorithm: bytes
    signature_algorithm: bytes
    signature: bytes
    attributes: Mapping[bytes, bytes]
    covered: bytes | None

    def value_of(self, attribute: x509.ObjectIdentifier) -> bytes | None:
        """Return the encoded value of a signed attribute (all of them, joined, when several)."""
        return self.attributes.get(der.oid(attribute))


def decode(header: bytes | str) -> Signed:
    """Decode an Mdm-Signature header: base64 of at most 16 KiB; raises SignatureError."""
    if len(header) > HEADER_LIMIT:
        raise SignatureError("signature header too large")
    try:
        data = binascii.a2b_base64(header, strict_mode=True)
    except ValueError:
        raise SignatureError("bad base64") from None
    return decode_der(data)


def decode_der(data: bytes, *, limits: der.Limits = der.DEFAULT_LIMITS) -> Signed:
    """Decode one SignedData from DER, or from BER within `limits`; raises SignatureError."""
    if len(data) > limits.max_bytes:
        raise SignatureError("signature too large")
    try:
        return _read(data)
    except (ValueError, IndexError) as error:
        if isinstance(error, SignatureError):
            raise
    try:
        return _read(der.to_der(data, limits=limits))
    except SignatureError:
        raise
    except (ValueError, IndexError):
        raise SignatureError("malformed signature") from None


def open_signed(data: bytes, *, limits: der.Limits = der.DEFAULT_LIMITS) -> bytes:
    """Return what a SignedData embeds, verifying nothing: to look inside a wrapped profile.

    Raises SignatureError when it is no SignedData or embeds nothing.
    """
    if len(data) > limits.max_bytes:
        raise SignatureError("signed data too large")
    try:
        outer = asn1.decode_der(structures.SignedContent, data)
    except ValueError:
        try:
            outer = asn1.decode_der(structures.SignedContent, der.to_der(data, limits=limits))
        except ValueError:
            raise SignatureError("no signed data") from None
    content = outer.content.encapsulated.content
    if outer.type.dotted_string != structures.SIGNED_DATA or content is None:
        raise SignatureError("no content inside")
    return content


def _read(data: bytes) -> Signed:
    """Walk ContentInfo and SignedData (RFC 5652 §3, §5.1).

    Every element starts where the last one ended, or inside of it: when the ends of all that lie
    around the last one agree, nothing has passed its parent.
    """
    at, end = enter(data, 0, SEQUENCE)
    if not data.startswith(_SIGNED_DATA, at):
        raise SignatureError("not signed data")
    at, wrapped = enter(data, at + len(_SIGNED_DATA), _CONTEXT_0)
    at, body = enter(data, at, SEQUENCE)
    _, at = enter(data, _after_version(data, at), SET)
    content_type, content, at = _content(data, at)
    certificates, at = _certificates(data, at)
    if data[at] == _CONTEXT_1:
        at = _after_unread(data, at)
    at, signers = enter(data, at, SET)
    if not len(data) == end == wrapped == body == signers:
        raise DerError("elements that end elsewhere")
    if at == signers:
        raise SignatureError("exactly one signer is accepted")
    at, signer = enter(data, at, SEQUENCE)
    if signer != signers:
        raise SignatureError("exactly one signer is accepted")
    return _signer(data, at, certificates, content_type, content)


def _after_version(data: bytes, at: int) -> int:
    if data[at] != INTEGER or data[at + 1] != 1:
        raise DerError("unreadable version")
    return at + 3


def _after_unread(data: bytes, at: int) -> int:
    """Pass a [1], revocations or unsigned attributes: whole elements, else not looked at."""
    at, end = enter(data, at, _CONTEXT_1)
    while at < end:
        if data[at] & _LONG_TAG == _LONG_TAG:
            raise DerError("unsupported tag")
        _, at = enter(data, at, data[at])
    if at != end:
        raise DerError("elements that end elsewhere")
    return end


def _content(data: bytes, at: int) -> tuple[bytes, bytes | None, int]:
    """Read EncapsulatedContentInfo: type, content, and where it ends."""
    if data.startswith(_DETACHED, at):
        return _DATA, None, at + len(_DETACHED)
    at, end = enter(data, at, SEQUENCE)
    _, after = enter(data, at, der.OBJECT_IDENTIFIER)
    if after == end:
        return data[at:after], None, end
    start, wrapped = enter(data, after, _CONTEXT_0)
    start, stop = enter(data, start, OCTET_STRING)
    if not stop == wrapped == end:
        raise DerError("elements that end elsewhere")
    return data[at:after], data[start:stop], end


def _certificates(data: bytes, at: int) -> tuple[tuple[bytes, ...], int]:
    if data[at] != _CONTEXT_0:
        raise SignatureError("one to four certificates are accepted")
    at, end = enter(data, at, _CONTEXT_0)
    found: list[bytes] = []
    while at < end:
        if data[at] != SEQUENCE:
            raise SignatureError("not an X.509 certificate")
        _, after = enter(data, at, SEQUENCE)
        found.append(data[at:after])
        at = after
    if at != end:
        raise DerError("elements that end elsewhere")
    if not 1 <= len(found) <= MAX_CERTIFICATES:
        raise SignatureError("one to four certificates are accepted")
    return tuple(found), end


def _signer(
    data: bytes,
    at: int,
    certificates: tuple[bytes, ...],
    content_type: bytes,
    content: bytes | None,
) -> Signed:
    """Read the SignerInfo (RFC 5652 §5.3) whose contents start at `at` and end the data."""
    at = _after_version(data, at)
    kind = data[at]
    start, at = enter(data, at, kind)
    certificate = _find(certificates, kind, data[start:at])
    digest_algorithm, at = _algorithm(data, at)
    attributes: dict[bytes, bytes] = {}
    covered = None
    if data[at] == _CONTEXT_0:
        start, end = enter(data, at, _CONTEXT_0)
        attributes = _attributes(data, start, end)
        # RFC 5652 §5.4: the signature covers the DER of a SET, not the [0] that is sent.
        covered = _SET_OCTET + data[at + 1 : end]
        at = end
    signature_algorithm, at = _algorithm(data, at)
    start, at = enter(data, at, OCTET_STRING)
    signature = data[start:at]
    if at < len(data):
        at = _after_unread(data, at)
    if at != len(data):
        raise DerError("elements that end elsewhere")
    return Signed(
        certificate,
        hashlib.sha256(certificate).digest(),
        certificates,
        content_type,
        content,
        digest_algorithm,
        signature_algorithm,
        signature,
        attributes,
        covered,
    )


def _algorithm(data: bytes, at: int) -> tuple[bytes, int]:
    """Return the object identifier of an AlgorithmIdentifier, and where that ends."""
    end = at + 2 + data[at + 1]
    known = _ALGORITHMS.get(data[at:end])
    if known is not None:
        return known, end
    start, end = enter(data, at, SEQUENCE)
    _, after = enter(data, start, der.OBJECT_IDENTIFIER)
    if after > end:
        raise DerError("element passes its parent")
    return data[start:after], end


def _attributes(data: bytes, at: int, end: int) -> dict[bytes, bytes]:
    found: dict[bytes, bytes] = {}
    count = 0
    while at < end:
        start, after = enter(data, at, SEQUENCE)
        values = start + 2 + data[start + 1]
        first, last = enter(data, values, SET)
        if data[start] != der.OBJECT_IDENTIFIER or data[start + 1] >= _LONG_LENGTH or last != after:
            raise DerError("malformed attribute")
        found[data[start:values]] = data[first:last]
        count += 1
        at = after
    if at != end:
        raise DerError("elements that end elsewhere")
    if not 1 <= count <= MAX_ATTRIBUTES or len(found) != count:
        raise SignatureError("too many signed attributes, or one twice")
    return found


def _find(certificates: Sequence[bytes], kind: int, wanted: bytes) -> bytes:
    """Find the signer's certificate by issuer and serial, or by subject key identifier."""
    if kind == SEQUENCE:
        found = [item for item in certificates if _name(item) == wanted]
    elif kind == _SKI:
        found = [item for item in certificates if _key_identifier(item) == wanted]
    else:
        raise SignatureError("malformed signer identifier")
    if len(found) != 1:
        raise SignatureError("the signer's certificate is not inside")
    return found[0]


def _name(certificate: bytes) -> bytes:
    start, _ = enter(certificate, 0, SEQUENCE)
    return issuer_and_serial(certificate, start)


def issuer_and_serial(data: bytes, position: int) -> bytes:
    """Return issuer and serial side by side, as CMS writes them (RFC 5652 §10.2.4).

    A TBSCertificate lies at `position`. Byte for byte what stands in the certificate: a name
    encoded anew may differ.
    """
    # RFC 5280 §4.1: [0] version (absent in version 1), serial, signature algorithm, issuer.
    at, end = enter(data, position, SEQUENCE)
    if data.startswith(_VERSION, at):
        at += len(_VERSION) + 1
    _, serial = enter(data, at, INTEGER)
    _, issuer = enter(data, serial, SEQUENCE)
    _, after = enter(data, issuer, SEQUENCE)
    if not after <= end <= len(data):
        raise DerError("element passes its parent")
    return data[issuer:after] + data[at:serial]


def _key_identifier(certificate: bytes) -> bytes:
    try:
        extensions = x509.load_der_x509_certificate(certificate).extensions
        return extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value.digest
    except (x509.ExtensionNotFound, *UNREADABLE):
        return b""
