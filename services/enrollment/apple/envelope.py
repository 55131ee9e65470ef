"""CMS EnvelopedData (RFC 5652 §6) as SCEP uses it: one RSA recipient, CBC content encryption.

Go's SCEP clients encrypt with single DES (apple.md §1.6). The library only has triple DES: one key
three times over is the same cipher.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Final

from cryptography import x509
from cryptography.hazmat import asn1
from cryptography.hazmat.decrepit.ciphers.algorithms import TripleDES
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.padding import PKCS7

from shared.apple import der
from shared.apple.cms import structures
from shared.apple.cms.signing import issuer_and_serial

ENVELOPED_DATA: Final = "1.2.840.113549.1.7.3"
MAX_RECIPIENTS: Final = 4
_SKI_TAG: Final = b"\x80"
_SEQUENCE_TAG: Final = b"\x30"


class EnvelopeError(ValueError):
    """The envelope cannot be opened; deliberately without saying which step failed."""


@dataclass(frozen=True)
class ContentCipher:
    """A content encryption algorithm; sizes in octets."""

    name: str
    oid: str
    key_size: int
    block_size: int

    def cipher(self, key: bytes, vector: bytes) -> Cipher[modes.CBC]:
        if self.block_size == TripleDES.block_size // 8:
            expanded = key * 3 if self is DES else key
            return Cipher(TripleDES(expanded), modes.CBC(vector))
        return Cipher(algorithms.AES(key), modes.CBC(vector))


DES: Final = ContentCipher("des", "1.3.14.3.2.7", 8, 8)
TRIPLE_DES: Final = ContentCipher("3des", "1.2.840.113549.3.7", 24, 8)
AES_128: Final = ContentCipher("aes128", "2.16.840.1.101.3.4.1.2", 16, 16)
AES_256: Final = ContentCipher("aes256", "2.16.840.1.101.3.4.1.42", 32, 16)
_CIPHERS: Final = {der.oid(item.oid): item for item in (DES, TRIPLE_DES, AES_128, AES_256)}


@dataclass(frozen=True)
class Opened:
    """What was inside, and how it was encrypted: the answer uses the same."""

    content: bytes
    cipher: ContentCipher


@asn1.sequence
class _EncryptedContent:
    type: x509.ObjectIdentifier
    algorithm: asn1.TLV
    content: Annotated[bytes | None, asn1.Implicit(0)]


@asn1.sequence
class _EncryptedPieces:
    """As above, the content written in pieces (only BER does that)."""

    type: x509.ObjectIdentifier
    algorithm: asn1.TLV
    content: Annotated[list[bytes], asn1.Implicit(0)]


@asn1.sequence
class _EnvelopedData:
    version: int
    originator: Annotated[list[asn1.TLV] | None, asn1.Implicit(0)]
    recipients: asn1.TLV
    encrypted: asn1.TLV
    attributes: Annotated[list[asn1.TLV] | None, asn1.Implicit(1)]


@asn1.sequence
class _ContentInfo:
    type: x509.ObjectIdentifier
    content: Annotated[_EnvelopedData, asn1.Explicit(0)]


@asn1.sequence
class _Recipient:
    """KeyTransRecipientInfo."""

    version: int
    identifier: asn1.TLV
    algorithm: asn1.TLV
    key: bytes


def open_envelope(data: bytes, certificate: x509.Certificate, key: rsa.RSAPrivateKey) -> Opened:
    """Decrypt an EnvelopedData (DER, or BER within limits) for this recipient."""
    try:
        return _open(data, certificate, key)
    except ValueError:
        pass
    try:
        return _open(der.to_der(data), certificate, key)
    except ValueError:
        raise EnvelopeError("cannot be opened") from None


def seal_envelope(content: bytes, recipient: x509.Certificate, cipher: ContentCipher) -> bytes:
    """Encrypt to an RSA certificate and return the DER of an EnvelopedData."""
    public = recipient.public_key()
    if not isinstance(public, rsa.RSAPublicKey):
        raise EnvelopeError("only RSA certificates can receive an envelope")
    key, vector = secrets.token_bytes(cipher.key_size), secrets.token_bytes(cipher.block_size)
    info = der.sequence(
        der.integer(0),
        issuer_and_serial(recipient),
        der.sequence(der.oid(structures.RSA), der.NULL),
        der.octets(public.encrypt(key, padding.PKCS1v15())),
    )
    padder = PKCS7(cipher.block_size * 8).padder()
    encryptor = cipher.cipher(key, vector).encryptor()
    padded = padder.update(content) + padder.finalize()
    encrypted = der.sequence(
        der.oid(structures.DATA),
        der.sequence(der.oid(cipher.oid), der.octets(vector)),
        der.tlv(0x80, encryptor.update(padded) + encryptor.finalize()),
    )
    enveloped = der.sequence(der.integer(0), der.set_of([info]), encrypted)
    return der.sequence(der.oid(ENVELOPED_DATA), der.context(0, enveloped))


def _open(data: bytes, certificate: x509.Certificate, key: rsa.RSAPrivateKey) -> Opened:
    outer = asn1.decode_der(_ContentInfo, data)
    if outer.type.dotted_string != ENVELOPED_DATA:
        raise EnvelopeError("not an envelope")
    cipher, vector, encrypted = _encrypted(outer.content.encrypted)
    recipients = der.elements(bytes(outer.content.recipients.data))
    content_key = _content_key(recipients, certificate, key, cipher)
    decryptor = cipher.cipher(content_key, vector).decryptor()
    unpadder = PKCS7(cipher.block_size * 8).unpadder()
    padded = decryptor.update(encrypted) + decryptor.finalize()
    return Opened(unpadder.update(padded) + unpadder.finalize(), cipher)


def _encrypted(part: asn1.TLV) -> tuple[ContentCipher, bytes, bytes]:
    """Return cipher, initialisation vector and ciphertext."""
    try:
        whole = part.parse(_EncryptedContent)
        algorithm, content = whole.algorithm, whole.content
    except ValueError:
        pieces = part.parse(_EncryptedPieces)
        algorithm, content = pieces.algorithm, b"".join(pieces.content)
    encoded = bytes(algorithm.data)
    name = der.element_at(encoded, 0)
    vector = asn1.decode_der(bytes, encoded[len(name) :])
    cipher = _CIPHERS.get(name)
    if cipher is None or content is None or len(vector) != cipher.block_size:
        raise EnvelopeError("content encryption not accepted")
    return cipher, vector, content


def _content_key(
    recipients: Sequence[bytes],
    certificate: x509.Certificate,
    key: rsa.RSAPrivateKey,
    cipher: ContentCipher,
) -> bytes:
    if len(recipients) > MAX_RECIPIENTS:
        raise EnvelopeError("too many recipients")
    names = _names(certificate)
    for encoded in recipients:
        recipient = asn1.decode_der(_Recipient, encoded)
        if (recipient.identifier.tag_bytes, bytes(recipient.identifier.data)) not in names:
            continue
        if der.element_at(bytes(recipient.algorithm.data), 0) != der.oid(structures.RSA):
            break
        return _unwrap(recipient.key, key, cipher)
    raise EnvelopeError("not for this recipient")


def _unwrap(wrapped: bytes, key: rsa.RSAPrivateKey, cipher: ContentCipher) -> bytes:
    """RFC 3218: a key that does not unwrap is replaced by a random one, so that bad padding here
    looks like bad content later (Bleichenbacher's oracle).
    """
    substitute = secrets.token_bytes(cipher.key_size)
    try:
        unwrapped = key.decrypt(wrapped, padding.PKCS1v15())
    except ValueError:
        return substitute
    return unwrapped if len(unwrapped) == cipher.key_size else substitute


def _names(certificate: x509.Certificate) -> set[tuple[bytes, bytes]]:
    """Return the two ways to name a recipient: tag and contents."""
    names = {(_SEQUENCE_TAG, der.contents(issuer_and_serial(certificate)))}
    try:
        ski = certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier)
        names.add((_SKI_TAG, ski.value.digest))
    except x509.ExtensionNotFound:
        pass
    return names
