"""CMS SignedData (RFC 5652 §5), written in every form that devices in the field use, and verified.

Written are: detached or with embedded content, one signer or several, any digest, with or without
signed attributes, signing time, certificates and NULL parameters, DER or BER.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa

from tools.simulator.wire import der

DATA = "1.2.840.113549.1.7.1"
SIGNED_DATA = "1.2.840.113549.1.7.2"
CONTENT_TYPE = "1.2.840.113549.1.9.3"
MESSAGE_DIGEST = "1.2.840.113549.1.9.4"
SIGNING_TIME = "1.2.840.113549.1.9.5"
RSA_ENCRYPTION = "1.2.840.113549.1.1.1"

HASHES: Mapping[str, hashes.HashAlgorithm] = {
    "sha1": hashes.SHA1(),  # noqa: S303 - devices in the field sign with it (apple.md 1.12, note 3)
    "sha256": hashes.SHA256(),
    "sha384": hashes.SHA384(),
    "sha512": hashes.SHA512(),
}
DIGEST_OIDS = {
    "sha1": "1.3.14.3.2.26",
    "sha256": "2.16.840.1.101.3.4.2.1",
    "sha384": "2.16.840.1.101.3.4.2.2",
    "sha512": "2.16.840.1.101.3.4.2.3",
}
RSA_WITH = {
    "sha1": "1.2.840.113549.1.1.5",
    "sha256": "1.2.840.113549.1.1.11",
    "sha384": "1.2.840.113549.1.1.12",
    "sha512": "1.2.840.113549.1.1.13",
}
ECDSA_WITH = {
    "sha1": "1.2.840.10045.4.1",
    "sha256": "1.2.840.10045.4.3.2",
    "sha384": "1.2.840.10045.4.3.3",
    "sha512": "1.2.840.10045.4.3.4",
}
_DIGEST_NAMES = {dotted: name for name, dotted in DIGEST_OIDS.items()}
_SEGMENT = 1000
_KEY_IDENTIFIER = 0x80

PrivateKey = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey


class CmsError(ValueError):
    """A CMS message that is malformed or whose signature does not hold."""


@dataclass(frozen=True, slots=True)
class Identity:
    """A private key and the certificate that goes with it (or, in attacks, does not)."""

    key: PrivateKey
    certificate: x509.Certificate


@dataclass(frozen=True, slots=True)
class Style:
    """How a SignedData is written; the defaults are what Apple devices send."""

    digest: str = "sha256"
    embed: bool = False
    attributes: bool = True
    signing_time: datetime | None = None
    """UTC; None is the present moment."""
    with_signing_time: bool = True
    with_certificate: bool = True
    null_parameters: bool = True
    combined_algorithm: bool = False
    """Name sha256WithRSAEncryption as the signature algorithm instead of rsaEncryption."""
    indefinite: bool = False
    extra_certificates: tuple[x509.Certificate, ...] = ()


DEVICE_STYLE = Style()


@dataclass(frozen=True, slots=True)
class Signed:
    """A SignedData whose signature held; `attributes` are the signed ones, by dotted id."""

    content: bytes
    signer: x509.Certificate
    attributes: Mapping[str, der.Node] = field(default_factory=dict)
    certificates: Sequence[x509.Certificate] = ()


def digest(name: str, data: bytes) -> bytes:
    hasher = hashes.Hash(HASHES[name])
    hasher.update(data)
    return hasher.finalize()


def issuer_and_serial(certificate: x509.Certificate) -> bytes:
    """The signer's or recipient's name as CMS wants it, byte for byte from the certificate."""
    members = der.read(certificate.tbs_certificate_bytes).children()
    offset = 1 if members[0].tag == der.CONTEXT_0 else 0
    return der.sequence(members[offset + 2].raw, members[offset].raw)


def sign(
    content: bytes,
    signers: Sequence[Identity],
    style: Style = DEVICE_STYLE,
    *,
    more_attributes: Sequence[bytes] = (),
) -> bytes:
    """A SignedData over `content` by all `signers`; `more_attributes` are encoded (`attribute`)."""
    wrap = der.indefinite if style.indefinite else der.tlv
    algorithms = der.set_of(_algorithm(DIGEST_OIDS[style.digest], null=style.null_parameters))
    parts = [der.integer(1), algorithms, _encapsulated(content, style)]
    certificates = [signer.certificate for signer in signers] if style.with_certificate else []
    encoded = {
        certificate.public_bytes(serialization.Encoding.DER)
        for certificate in (*certificates, *style.extra_certificates)
    }
    if encoded:
        parts.append(wrap(0xA0, *sorted(encoded)))
    infos = [_signer_info(content, signer, style, more_attributes) for signer in signers]
    parts.append(der.set_of(*infos))
    return wrap(der.SEQUENCE, der.oid(SIGNED_DATA), wrap(0xA0, wrap(der.SEQUENCE, *parts)))


def _encapsulated(content: bytes, style: Style) -> bytes:
    if not style.embed:
        return der.sequence(der.oid(DATA))
    if not style.indefinite:
        return der.sequence(der.oid(DATA), der.explicit(0, der.octets(content)))
    segments = [content[at : at + _SEGMENT] for at in range(0, len(content), _SEGMENT)]
    string = der.indefinite(der.OCTET_STRING | der.CONSTRUCTED, *map(der.octets, segments))
    return der.indefinite(der.SEQUENCE, der.oid(DATA), der.indefinite(0xA0, string))


def _signer_info(
    content: bytes, signer: Identity, style: Style, more_attributes: Sequence[bytes]
) -> bytes:
    signed_bytes, attributes = content, b""
    if style.attributes:
        members = b"".join(sorted([*_attributes(content, style), *more_attributes]))
        # The signature covers the SET's encoding, the message carries it as [0] (RFC 5652 5.4).
        signed_bytes, attributes = der.tlv(der.SET, members), der.tlv(0xA0, members)
    return der.sequence(
        der.integer(1),
        issuer_and_serial(signer.certificate),
        _algorithm(DIGEST_OIDS[style.digest], null=style.null_parameters),
        attributes,
        _signature_algorithm(signer.key, style),
        der.octets(_raw_signature(signer.key, signed_bytes, style.digest)),
    )


def _attributes(content: bytes, style: Style) -> list[bytes]:
    found = [
        attribute(CONTENT_TYPE, der.oid(DATA)),
        attribute(MESSAGE_DIGEST, der.octets(digest(style.digest, content))),
    ]
    if style.with_signing_time:
        found.append(attribute(SIGNING_TIME, der.time(style.signing_time or datetime.now(UTC))))
    return found


def attribute(dotted: str, value: bytes) -> bytes:
    return der.sequence(der.oid(dotted), der.set_of(value))


def _algorithm(dotted: str, *, null: bool) -> bytes:
    return der.sequence(der.oid(dotted), der.null() if null else b"")


def _signature_algorithm(key: PrivateKey, style: Style) -> bytes:
    if isinstance(key, ec.EllipticCurvePrivateKey):
        return _algorithm(ECDSA_WITH[style.digest], null=False)
    name = RSA_WITH[style.digest] if style.combined_algorithm else RSA_ENCRYPTION
    return _algorithm(name, null=style.null_parameters)


def _raw_signature(key: PrivateKey, data: bytes, digest_name: str) -> bytes:
    if isinstance(key, ec.EllipticCurvePrivateKey):
        return key.sign(data, ec.ECDSA(HASHES[digest_name]))
    return key.sign(data, padding.PKCS1v15(), HASHES[digest_name])


def open_signed(data: bytes, detached: bytes | None = None) -> Signed:
    """Verify a SignedData of one signer against the certificate it carries.

    `detached` is the content when the message holds none. Raises CmsError.
    """
    try:
        return _open(data, detached)
    except (der.DerError, IndexError, ValueError) as error:
        raise CmsError(f"CMS message refused: {error}") from error


def certificates_of(data: bytes) -> list[x509.Certificate]:
    """The certificates of a degenerate SignedData, which has no signer (RFC 8894 4.2.1.2)."""
    try:
        return _certificates(_signed_data(data))
    except (der.DerError, IndexError, ValueError) as error:
        raise CmsError(f"certificate list refused: {error}") from error


def _signed_data(data: bytes) -> list[der.Node]:
    info = der.read(data)
    if info.child(0).oid() != SIGNED_DATA:
        raise CmsError(f"content type {info.child(0).oid()} is no SignedData")
    return info.child(1, 0xA0).child(0, der.SEQUENCE).children()


def _certificates(members: Sequence[der.Node]) -> list[x509.Certificate]:
    found = [node for node in members if node.tag == der.CONTEXT_0]
    if not found:
        return []
    return [x509.load_der_x509_certificate(node.raw) for node in found[0].children()]


def _open(data: bytes, detached: bytes | None) -> Signed:
    members = _signed_data(data)
    holder = members[2].children()
    content = holder[1].child(0).octets() if len(holder) > 1 else detached
    if content is None:
        raise CmsError("the message holds no content")
    infos = members[-1].expect(der.SET).children()
    if len(infos) != 1:
        raise CmsError(f"{len(infos)} signers where one was expected")
    certificates = _certificates(members)
    fields = infos[0].children()
    signer = _signer(fields[1], certificates)
    name = _DIGEST_NAMES[fields[2].child(0).oid()]
    attributes: dict[str, der.Node] = {}
    signed_bytes = content
    if fields[3].tag == der.CONTEXT_0:
        attributes = {node.child(0).oid(): node.child(1).child(0) for node in fields[3].children()}
        _check_digest(attributes, digest(name, content))
        signed_bytes = bytes((der.SET,)) + fields[3].raw[1:]
    _check_signature(
        signer, fields[-1 if fields[-1].tag == der.OCTET_STRING else -2], signed_bytes, name
    )
    return Signed(content, signer, attributes, certificates)


def _signer(name: der.Node, certificates: Sequence[x509.Certificate]) -> x509.Certificate:
    for certificate in certificates:
        if name.tag == der.SEQUENCE and issuer_and_serial(certificate) == name.raw:
            return certificate
        if name.tag == _KEY_IDENTIFIER and _key_identifier(certificate) == name.content:
            return certificate
    raise CmsError("the signer's certificate is not in the message")


def _key_identifier(certificate: x509.Certificate) -> bytes | None:
    try:
        extension = certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier)
    except x509.ExtensionNotFound:
        return None
    return extension.value.digest


def _check_digest(attributes: Mapping[str, der.Node], expected: bytes) -> None:
    if MESSAGE_DIGEST not in attributes or CONTENT_TYPE not in attributes:
        raise CmsError("signed attributes lack content type or message digest (RFC 5652 5.3)")
    if attributes[MESSAGE_DIGEST].octets() != expected:
        raise CmsError("the message digest is not that of the content")


def _check_signature(
    signer: x509.Certificate, signature: der.Node, data: bytes, digest_name: str
) -> None:
    key = signer.public_key()
    try:
        if isinstance(key, rsa.RSAPublicKey):
            key.verify(signature.octets(), data, padding.PKCS1v15(), HASHES[digest_name])
        elif isinstance(key, ec.EllipticCurvePublicKey):
            key.verify(signature.octets(), data, ec.ECDSA(HASHES[digest_name]))
        else:
            raise CmsError(f"a {type(key).__name__} cannot sign here")
    except InvalidSignature as error:
        raise CmsError("the signature does not hold") from error
