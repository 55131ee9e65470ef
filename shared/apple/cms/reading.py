"""From bytes to a SignedData whose signer is known but not yet believed."""

from __future__ import annotations

import binascii
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from cryptography import x509
from cryptography.hazmat import asn1

from shared.apple import der
from shared.apple.certificates import UNREADABLE
from shared.apple.cms import structures
from shared.apple.cms.structures import SignatureError

HEADER_LIMIT: Final = 16 * 1024
MAX_CERTIFICATES: Final = 4
MAX_ATTRIBUTES: Final = 32
_SKI_TAG: Final = b"\x80"
_SEQUENCE_TAG: Final = b"\x30"
_VERSION_TAG: Final = b"\xa0"
_SIGNED_DATA: Final = x509.ObjectIdentifier(structures.SIGNED_DATA)


@dataclass(frozen=True, slots=True)
class Signed:
    """A decoded SignedData with exactly one signer, nothing of it verified.

    `attributes` holds the signed attributes, each once, their value sets unread (see `value_of`);
    `covered` is their SET in the order sent, None when the signature covers the body itself.
    """

    certificate: bytes
    fingerprint: bytes
    certificates: tuple[bytes, ...]
    content_type: x509.ObjectIdentifier
    content: bytes | None
    digest_algorithm: bytes
    signature_algorithm: bytes
    signature: bytes
    attributes: Mapping[x509.ObjectIdentifier, asn1.TLV]
    covered: bytes | None

    def value_of(self, attribute: x509.ObjectIdentifier) -> bytes | None:
        """Return the encoded value of a signed attribute (all of them, joined, when several)."""
        values = self.attributes.get(attribute)
        return None if values is None else bytes(values.data)


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
    except (ValueError, OverflowError) as error:
        if isinstance(error, SignatureError):
            raise
    try:
        return _read(der.to_der(data, limits=limits))
    except SignatureError:
        raise
    except (ValueError, OverflowError):
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
    if outer.type != _SIGNED_DATA or content is None:
        raise SignatureError("no content inside")
    return content


def _read(data: bytes) -> Signed:
    outer = asn1.decode_der(structures.SignedContent, data)
    if outer.type != _SIGNED_DATA:
        raise SignatureError("not signed data")
    signed = outer.content
    signers = signed.signers.as_list()
    if len(signers) != 1:
        raise SignatureError("exactly one signer is accepted")
    certificates = signed.certificates or []
    if not 1 <= len(certificates) <= MAX_CERTIFICATES:
        raise SignatureError("one to four certificates are accepted")
    signer = signers[0].parse(structures.SignerInfo)
    attributes, covered = _attributes(signer, signers[0])
    encoded = tuple([_whole(item) for item in certificates])
    certificate = _find(certificates, encoded, signer.identifier)
    return Signed(
        certificate=certificate,
        fingerprint=hashlib.sha256(certificate).digest(),
        certificates=encoded,
        content_type=signed.encapsulated.type,
        content=signed.encapsulated.content,
        digest_algorithm=_algorithm(signer.digest_algorithm),
        signature_algorithm=_algorithm(signer.signature_algorithm),
        signature=signer.signature,
        attributes=attributes,
        covered=covered,
    )


def _whole(certificate: asn1.TLV) -> bytes:
    if certificate.tag_bytes != _SEQUENCE_TAG:
        raise SignatureError("not an X.509 certificate")
    return der.tlv(der.SEQUENCE, bytes(certificate.data))


def _algorithm(identifier: asn1.TLV) -> bytes:
    """Return the encoded object identifier: some writers leave NULL parameters out, some do not."""
    return der.element_at(bytes(identifier.data), 0)


def _attributes(
    signer: structures.SignerInfo, raw: asn1.TLV
) -> tuple[dict[x509.ObjectIdentifier, asn1.TLV], bytes | None]:
    """Return the signed attributes, and their encoding as the SET that the signature covers."""
    listed = signer.signed_attributes
    if listed is None:
        return {}, None
    attributes = {attribute.type: attribute.values for attribute in listed}
    if not 1 <= len(listed) <= MAX_ATTRIBUTES or len(attributes) != len(listed):
        raise SignatureError("too many signed attributes, or one twice")
    # RFC 5652 §5.4: the signature covers the DER of a SET, not the [0] that is sent.
    sent = raw.parse(structures.RawSignerInfo).signed_attributes
    return attributes, der.tlv(der.SET, bytes(sent.data))


def _find(
    certificates: Sequence[asn1.TLV], encoded: Sequence[bytes], identifier: asn1.TLV
) -> bytes:
    """Find the signer's certificate by issuer and serial, or by subject key identifier."""
    wanted = bytes(identifier.data)
    if identifier.tag_bytes == _SEQUENCE_TAG:
        names = [_issuer_and_serial(item) for item in certificates]
    elif identifier.tag_bytes == _SKI_TAG:
        names = [_key_identifier(item) for item in encoded]
    else:
        raise SignatureError("malformed signer identifier")
    if names.count(wanted) != 1:
        raise SignatureError("the signer's certificate is not inside")
    return encoded[names.index(wanted)]


def _issuer_and_serial(certificate: asn1.TLV) -> bytes:
    return issuer_and_serial(bytes(certificate.parse(structures.Certificate).tbs.data))


def issuer_and_serial(tbs: bytes) -> bytes:
    """Return issuer and serial side by side, as CMS writes them (RFC 5652 §10.2.4).

    `tbs` is the contents of a TBSCertificate. Byte for byte what stands in the certificate: a name
    encoded anew may differ.
    """
    # RFC 5280 §4.1: [0] version (absent in version 1), serial, signature algorithm, issuer.
    position = len(der.element_at(tbs, 0)) if tbs.startswith(_VERSION_TAG) else 0
    serial = der.element_at(tbs, position)
    position += len(serial)
    position += len(der.element_at(tbs, position))
    return der.element_at(tbs, position) + serial


def _key_identifier(certificate: bytes) -> bytes:
    try:
        extensions = x509.load_der_x509_certificate(certificate).extensions
        return extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value.digest
    except (x509.ExtensionNotFound, *UNREADABLE):
        return b""
