"""The hand-written reader against the schema of RFC 5652: it reads the same, or refuses more."""

from __future__ import annotations

import hashlib
from typing import Annotated, Protocol

import pytest
from cryptography import x509
from cryptography.hazmat import asn1
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from hypothesis import given
from hypothesis import strategies as st

from shared.apple import cms, der
from shared.apple.cms import reading, signing, structures
from shared.apple.der import DerError

BODY = b"<plist>the body</plist>"


class Identity(Protocol):
    """What tests/apple/conftest.py makes: a key and its self-signed certificate."""

    key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey
    certificate: x509.Certificate
    der: bytes


@asn1.sequence
class EncapsulatedContent:
    type: asn1.TLV
    content: Annotated[bytes | None, asn1.Explicit(0)]


@asn1.sequence
class SignedData:
    version: int
    digest_algorithms: asn1.TLV
    encapsulated: EncapsulatedContent
    certificates: Annotated[list[asn1.TLV] | None, asn1.Implicit(0)]
    revocations: Annotated[list[asn1.TLV] | None, asn1.Implicit(1)]
    signers: asn1.SetOf[asn1.TLV]


@asn1.sequence
class SignedContent:
    type: x509.ObjectIdentifier
    content: Annotated[SignedData, asn1.Explicit(0)]


@asn1.sequence
class Attribute:
    type: asn1.TLV
    values: asn1.TLV


@asn1.sequence
class SignerInfo:
    version: int
    identifier: asn1.TLV
    digest_algorithm: asn1.TLV
    signed_attributes: Annotated[list[Attribute] | None, asn1.Implicit(0)]
    signature_algorithm: asn1.TLV
    signature: bytes
    unsigned_attributes: Annotated[list[asn1.TLV] | None, asn1.Implicit(1)]


@asn1.sequence
class RawSignerInfo:
    """A SignerInfo that has signed attributes, keeping their bytes: the signature covers them."""

    version: int
    identifier: asn1.TLV
    digest_algorithm: asn1.TLV
    signed_attributes: asn1.TLV
    signature_algorithm: asn1.TLV
    signature: bytes
    unsigned_attributes: Annotated[list[asn1.TLV] | None, asn1.Implicit(1)]


def by_schema(data: bytes) -> cms.Signed:
    """Read a SignedData of one signer by the schema alone; raises ValueError."""
    outer = asn1.decode_der(SignedContent, data).content
    (raw,) = outer.signers.as_list()
    signer = raw.parse(SignerInfo)
    covered, attributes = None, {}
    if signer.signed_attributes is not None:
        covered = der.tlv(der.SET, bytes(raw.parse(RawSignerInfo).signed_attributes.data))
        for one in signer.signed_attributes:
            attributes[identifier(one.type)] = bytes(one.values.data)
    certificates = tuple(
        der.tlv(der.SEQUENCE, bytes(item.data)) for item in outer.certificates or ()
    )
    wanted = bytes(signer.identifier.data)
    kind = signer.identifier.tag_bytes
    (certificate,) = (item for item in certificates if name_of(item, kind) == wanted)
    return cms.Signed(
        certificate=certificate,
        fingerprint=hashlib.sha256(certificate).digest(),
        certificates=certificates,
        content_type=identifier(outer.encapsulated.type),
        content=outer.encapsulated.content,
        digest_algorithm=der.element_at(bytes(signer.digest_algorithm.data), 0),
        signature_algorithm=der.element_at(bytes(signer.signature_algorithm.data), 0),
        signature=signer.signature,
        attributes=attributes,
        covered=covered,
    )


def identifier(found: asn1.TLV) -> bytes:
    assert found.tag_bytes == b"\x06"
    return der.tlv(6, bytes(found.data))


def name_of(certificate: bytes, kind: bytes) -> bytes:
    """What a signer identifier of this kind says who means this certificate.

    No more of a certificate is read until its key is needed: then all of it, by `cryptography`.
    """
    if kind != b"\x30":
        extensions = x509.load_der_x509_certificate(certificate).extensions
        return extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value.digest
    rest = der.contents(der.element_at(der.contents(certificate), 0))
    parts: list[bytes] = []
    while len(parts) < 4:
        parts.append(der.element_at(rest, 0))
        rest = rest[len(parts[-1]) :]
    versioned = parts[0].startswith(b"\xa0")
    return parts[3 if versioned else 2] + parts[1 if versioned else 0]


def signer_info(identity: Identity, attributes: list[bytes], *, ski: bool, more: bytes) -> bytes:
    if isinstance(identity.key, rsa.RSAPrivateKey):
        scheme = der.sequence(der.oid(structures.RSA_SHA256), der.NULL)
        signature = identity.key.sign(BODY, padding.PKCS1v15(), hashes.SHA256())
    else:
        scheme = der.sequence(der.oid(structures.ECDSA_SHA256))
        signature = identity.key.sign(BODY, ec.ECDSA(hashes.SHA256()))
    key_id = x509.SubjectKeyIdentifier.from_public_key(identity.key.public_key()).digest
    return der.sequence(
        der.integer(3 if ski else 1),
        der.tlv(0x80, key_id) if ski else signing.issuer_and_serial(identity.certificate),
        der.sequence(der.oid(structures.SHA256)),
        *([der.tlv(0xA0, *attributes)] if attributes else []),
        scheme,
        der.octets(signature),
        more,
    )


@pytest.fixture(scope="session")
def forms(rsa_identity: Identity, ec_identity: Identity) -> list[bytes]:
    """SignedData in every form that the grammar has for one signer."""
    small = [signing.attribute(f"1.2.{n}", der.octets(b"x" * n)) for n in (1, 120, 130, 300)]
    unsigned = der.context(1, signing.attribute("1.2.3", der.NULL))
    found = [
        cms.sign(BODY, rsa_identity.certificate, rsa_identity.key, detached=True),
        cms.sign(BODY, ec_identity.certificate, ec_identity.key, chain=[rsa_identity.certificate]),
    ]
    for identity in (rsa_identity, ec_identity):
        for attributes, ski, more, inside, revoked in (
            ([], False, b"", b"", b""),
            (small, True, unsigned, der.context(0, der.octets(BODY)), b""),
            (small[:1], False, b"", der.context(0, der.octets(b"")), der.context(1, der.NULL)),
        ):
            found.append(
                signing._content_info(
                    der.integer(1),
                    der.set_of([]),
                    der.sequence(der.oid(structures.DATA), inside),
                    der.context(0, identity.der),
                    revoked,
                    der.set_of([signer_info(identity, attributes, ski=ski, more=more)]),
                )
            )
    return found


def test_every_form_reads_as_the_schema_says(forms: list[bytes]) -> None:
    for data in forms:
        assert reading._read(data) == by_schema(data)


@pytest.mark.filterwarnings("ignore::cryptography.utils.CryptographyDeprecationWarning")
@given(st.data())
def test_what_the_schema_refuses_is_refused(forms: list[bytes], draw: st.DataObject) -> None:
    """However a message is damaged."""
    message = bytearray(draw.draw(st.sampled_from(forms)))
    octet = st.integers(0, 255) | st.sampled_from([0x30, 0x31, 0xA0, 0x80, 0x81, 0x82, 0x84])
    for _ in range(draw.draw(st.integers(1, 3))):
        at = draw.draw(st.integers(0, len(message) - 1))
        message[at : at + draw.draw(st.integers(0, 2))] = bytes(
            draw.draw(st.lists(octet, max_size=2))
        )
    try:
        read = reading._read(bytes(message))
    except (ValueError, IndexError):
        return
    assert read == by_schema(bytes(message))


@given(st.sampled_from([0x04, 0x30, 0xA0]), st.binary(max_size=9), st.integers(0, 70_000))
def test_entering_an_element(tag: int, behind: bytes, size: int) -> None:
    element = der.tlv(tag, bytes(size))
    start, end = der.enter(b"\x05\x00" + element + behind, 2, tag)
    assert (end, end - start) == (2 + len(element), size)


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"\x31\x00", id="another tag"),
        pytest.param(b"\x30\x80\x00\x00", id="indefinite"),
        pytest.param(b"\x30\x81\x7f" + bytes(127), id="one octet too many"),
        pytest.param(b"\x30\x82\x00\xff" + bytes(255), id="leading zero"),
        pytest.param(b"\x30\x83\x00\xff\xff" + bytes(65535), id="three for two"),
        pytest.param(b"\x30\x85\x01\x00\x00\x00\x00", id="five octets"),
        pytest.param(b"\x30\xff", id="reserved"),
        pytest.param(b"\x30\x82\x01", id="truncated length"),
        pytest.param(b"\x30", id="tag only"),
        pytest.param(b"", id="nothing"),
    ],
)
def test_elements_that_cannot_be_entered(data: bytes) -> None:
    with pytest.raises((DerError, IndexError)):
        der.enter(data, 0, der.SEQUENCE)
