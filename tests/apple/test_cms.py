"""Mdm-Signature: what verifies, and every way in which it must not (checklist 8, field note 3)."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Protocol

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from hypothesis import given
from hypothesis import strategies as st

from shared.apple import cms, der
from shared.apple.cms import SignatureError, signing, structures


class Identity(Protocol):
    """What tests/apple/conftest.py makes: a key and its self-signed certificate."""

    key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey
    certificate: x509.Certificate
    der: bytes


BODY = b"<plist>the body</plist>"
OTHER = b"<plist>another body</plist>"
AT = datetime(2026, 5, 1, 12, tzinfo=UTC)


def make(
    identity: Identity,
    *,
    body: bytes = BODY,
    embedded: bytes | None = None,
    sha1: bool = False,
    null: bool = True,
    attributes: Sequence[bytes] | None = None,
    sort: bool = True,
    scheme: str | None = None,
    signers: int = 1,
    extra: Sequence[bytes] = (),
    content_type: str = structures.DATA,
    ski: bytes | None = None,
) -> bytes:
    """Write a SignedData by hand; each argument is one way to be unusual or wrong."""
    key, certificate = identity.key, identity.certificate
    digest_oid = structures.SHA1 if sha1 else structures.SHA256
    algorithm = hashes.SHA1() if sha1 else hashes.SHA256()  # noqa: S303 - that is the test
    if attributes is None:
        attributes = standard(hashlib.new(algorithm.name, body).digest())
    ordered = sorted(attributes) if sort else list(attributes)
    covered = der.tlv(der.SET, *ordered) if ordered else body
    if isinstance(key, rsa.RSAPrivateKey):
        signature = key.sign(covered, padding.PKCS1v15(), algorithm)
        scheme = scheme or (structures.RSA_SHA1 if sha1 else structures.RSA_SHA256)
    else:
        signature = key.sign(covered, ec.ECDSA(algorithm))
        scheme = scheme or structures.ECDSA_SHA256
    parameters = der.NULL if null else b""
    name = signing.issuer_and_serial(certificate) if ski is None else der.tlv(0x80, ski)
    info = der.sequence(
        der.integer(1 if ski is None else 3),
        name,
        der.sequence(der.oid(digest_oid), parameters),
        *([der.tlv(0xA0, *ordered)] if ordered else []),
        der.sequence(der.oid(scheme), parameters),
        der.octets(signature),
    )
    inside = () if embedded is None else (der.context(0, der.octets(embedded)),)
    return signing._content_info(
        der.integer(1),
        der.set_of([der.sequence(der.oid(digest_oid), parameters)]),
        der.sequence(der.oid(content_type), *inside),
        der.context(0, certificate.public_bytes(serialization.Encoding.DER), *extra),
        der.tlv(der.SET, *[info] * signers),
    )


def standard(digest: bytes) -> list[bytes]:
    return [
        signing.attribute(structures.CONTENT_TYPE, der.oid(structures.DATA)),
        signing.attribute(structures.SIGNING_TIME, signing._time(AT)),
        signing.attribute(structures.MESSAGE_DIGEST, der.octets(digest)),
    ]


def check(message: bytes, body: bytes = BODY, *, allow_sha1: bool = False) -> cms.Verified:
    return cms.verify(cms.decode(base64.b64encode(message)), body, allow_sha1=allow_sha1)


@pytest.fixture(params=["rsa", "ec"])
def identity(request: pytest.FixtureRequest) -> Identity:
    found: Identity = request.getfixturevalue(f"{request.param}_identity")
    return found


def test_our_own_signature(identity: Identity) -> None:
    message = cms.sign(BODY, identity.certificate, identity.key, detached=True, at=AT)
    verified = check(message)
    assert verified.certificate == identity.certificate
    assert verified.fingerprint == hashlib.sha256(identity.der).digest()
    assert verified.signed_at == AT
    assert verified.digest == "sha256"


def test_the_signer_is_known_before_any_public_key_work(rsa_identity: Identity) -> None:
    """A wrong signature decodes: the pin can be compared before it is verified."""
    message = make(rsa_identity)
    signed = cms.decode(base64.b64encode(message[:-1] + bytes([message[-1] ^ 1])).decode())
    assert signed.fingerprint == hashlib.sha256(rsa_identity.der).digest()
    assert signed.certificate == rsa_identity.der
    with pytest.raises(SignatureError, match="does not match"):
        cms.verify(signed, BODY, allow_sha1=False)


@pytest.mark.parametrize("detached", [True, False])
@pytest.mark.parametrize("attributes", [True, False])
@pytest.mark.parametrize("streamed", [True, False])
@pytest.mark.parametrize("by_key_id", [True, False])
def test_what_openssl_signs(
    identity: Identity,
    openssl: Callable[..., bytes],
    detached: bool,
    attributes: bool,
    streamed: bool,
    by_key_id: bool,
) -> None:
    """Golden vectors by another hand; `-stream -indef` writes indefinite lengths."""
    options = [
        *([] if detached else ["-nodetach"]),
        *([] if attributes else ["-noattr"]),
        *(["-stream", "-indef"] if streamed else []),
        *(["-keyid"] if by_key_id else []),
    ]
    key = identity.key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    message = openssl(
        *("cms", "-sign", "-binary", "-outform", "DER", "-in", "{body}"),
        *("-signer", "{cert}", "-inkey", "{key}", *options),
        body=BODY,
        cert=identity.certificate.public_bytes(serialization.Encoding.PEM),
        key=key,
    )
    verified = check(message)
    assert (verified.signed_at is not None) == attributes
    with pytest.raises(SignatureError):
        check(message, OTHER)
    if not detached:
        assert cms.open_signed(message) == BODY


def test_openssl_verifies_what_we_sign(identity: Identity, openssl: Callable[..., bytes]) -> None:
    certificate = identity.certificate
    message = cms.sign(BODY, certificate, identity.key)
    pem = certificate.public_bytes(serialization.Encoding.PEM)
    arguments = ("cms", "-verify", "-binary", "-inform", "DER", "-CAfile", "{ca}")
    purpose = ("-purpose", "any")
    assert openssl(*arguments, *purpose, "-in", "{cms}", cms=message, ca=pem) == BODY
    detached = cms.sign(BODY, certificate, identity.key, detached=True)
    files = {"cms": detached, "ca": pem, "body": BODY}
    assert openssl(*arguments, *purpose, "-in", "{cms}", "-content", "{body}", **files) == BODY


def test_embedded_content_is_ignored(rsa_identity: Identity) -> None:
    """Clients exist that embed the body: accepted, and only the HTTP body counts."""
    assert check(make(rsa_identity, embedded=BODY)).digest == "sha256"
    assert check(make(rsa_identity, embedded=OTHER)).digest == "sha256"
    with pytest.raises(SignatureError, match="not what was signed"):
        check(make(rsa_identity, embedded=OTHER), OTHER)


def test_swapped_body_with_a_valid_signature(identity: Identity) -> None:
    with pytest.raises(SignatureError, match="not what was signed"):
        check(make(identity), OTHER)


def test_swapped_digest_with_a_matching_body(rsa_identity: Identity) -> None:
    """The attacker repairs messageDigest for his body: then the signature no longer covers it."""
    message = make(rsa_identity)
    ours, theirs = hashlib.sha256(BODY).digest(), hashlib.sha256(OTHER).digest()
    with pytest.raises(SignatureError, match="does not match"):
        check(message.replace(ours, theirs), OTHER)


def test_sha1_by_setting(rsa_identity: Identity) -> None:
    for null in (True, False):
        message = make(rsa_identity, sha1=True, null=null)
        assert check(message, allow_sha1=True).digest == "sha1"
        with pytest.raises(SignatureError, match="digest"):
            check(message)


def test_attributes_may_be_signed_unsorted(rsa_identity: Identity) -> None:
    attributes = sorted(standard(hashlib.sha256(BODY).digest()), reverse=True)
    assert check(make(rsa_identity, attributes=attributes, sort=False)).signed_at == AT


def test_attributes_may_be_sent_unsorted_but_signed_sorted(rsa_identity: Identity) -> None:
    attributes = sorted(standard(hashlib.sha256(BODY).digest()))
    message = make(rsa_identity, attributes=attributes)
    sent = message.replace(b"".join(attributes), b"".join(reversed(attributes)))
    assert sent != message
    assert check(sent).signed_at == AT


def test_rsa_pss(rsa_identity: Identity, openssl: Callable[..., bytes]) -> None:
    message = openssl(
        *("cms", "-sign", "-binary", "-outform", "DER", "-in", "{body}", "-signer", "{cert}"),
        *("-inkey", "{key}", "-keyopt", "rsa_padding_mode:pss"),
        body=BODY,
        cert=rsa_identity.certificate.public_bytes(serialization.Encoding.PEM),
        key=rsa_identity.key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        ),
    )
    assert check(message).digest == "sha256"
    with pytest.raises(SignatureError):
        check(message, OTHER)


def test_missing_and_foreign_attributes(rsa_identity: Identity) -> None:
    kind, time, digest = standard(hashlib.sha256(BODY).digest())
    elsewhere = signing.attribute(structures.CONTENT_TYPE, der.oid(structures.SIGNED_DATA))
    short = signing.attribute(structures.MESSAGE_DIGEST, der.octets(b""))
    twice = der.sequence(
        der.oid(structures.MESSAGE_DIGEST),
        der.set_of([der.octets(hashlib.sha256(item).digest()) for item in (BODY, OTHER)]),
    )
    late = signing.attribute(structures.SIGNING_TIME, der.octets(b"noon"))
    for attributes, reason in (
        ([kind, time], "digest missing"),
        ([digest, time], "content type"),
        ([elsewhere, digest], "content type"),
        ([kind, short], "not what was signed"),
        ([kind, twice], "not what was signed"),
        ([kind, digest, digest], "twice"),
        ([kind, digest, late], "signing time"),
        ([kind, digest, *(signing.attribute(f"1.2.3.{n}", der.NULL) for n in range(40))], "many"),
    ):
        with pytest.raises(SignatureError, match=reason):
            check(make(rsa_identity, attributes=attributes))
    assert check(make(rsa_identity, attributes=[kind, digest])).signed_at is None


def test_without_attributes_only_data_is_accepted(rsa_identity: Identity) -> None:
    assert check(make(rsa_identity, attributes=[])).signed_at is None
    with pytest.raises(SignatureError, match="attributes missing"):
        check(make(rsa_identity, attributes=[], content_type=structures.SIGNED_DATA))
    with pytest.raises(SignatureError, match="does not match"):
        check(make(rsa_identity, attributes=[]), OTHER)


def test_number_of_signers_and_certificates(rsa_identity: Identity, ec_identity: Identity) -> None:
    for signers in (0, 2):
        with pytest.raises(SignatureError, match="one signer"):
            check(make(rsa_identity, signers=signers))
    other = ec_identity.der
    assert check(make(rsa_identity, extra=[other] * 3)).digest == "sha256"
    with pytest.raises(SignatureError, match="four certificates"):
        check(make(rsa_identity, extra=[other] * 4))
    with pytest.raises(SignatureError, match="not inside"):
        check(make(rsa_identity, extra=[rsa_identity.der]))
    with pytest.raises(SignatureError, match=r"X\.509"):
        check(make(rsa_identity, extra=[der.tlv(0xA1, other)]))


def test_signer_by_key_identifier(rsa_identity: Identity, ec_identity: Identity) -> None:
    key = rsa_identity.key.public_key()
    wanted = x509.SubjectKeyIdentifier.from_public_key(key).digest
    assert check(make(rsa_identity, ski=wanted, extra=[ec_identity.der])).digest == "sha256"
    with pytest.raises(SignatureError, match="not inside"):
        check(make(rsa_identity, ski=b"x" * 20))


def test_foreign_certificate_under_the_signature(
    rsa_identity: Identity, make_identity: Callable[[object], Identity]
) -> None:
    """A signer who names another device's certificate does not become that device."""
    victim = make_identity(rsa.generate_private_key(65537, 2048))
    message = make(rsa_identity).replace(rsa_identity.der, victim.der)
    with pytest.raises(SignatureError):
        check(message)


@pytest.mark.parametrize(
    "key",
    [
        pytest.param(lambda: rsa.generate_private_key(65537, 1024), id="short"),  # noqa: S505
        pytest.param(lambda: rsa.generate_private_key(3, 2048), id="e=3"),
        pytest.param(lambda: ec.generate_private_key(ec.SECP521R1()), id="P-521"),
        pytest.param(lambda: ec.generate_private_key(ec.SECP256K1()), id="K-256"),
    ],
)
def test_weak_or_unusual_keys(
    key: Callable[[], object], make_identity: Callable[[object], Identity]
) -> None:
    with pytest.raises(SignatureError, match="public key not accepted"):
        check(make(make_identity(key())))


def test_p384(make_identity: Callable[[object], Identity]) -> None:
    assert check(make(make_identity(ec.generate_private_key(ec.SECP384R1())))).digest == "sha256"


def test_algorithms_that_disagree(rsa_identity: Identity, ec_identity: Identity) -> None:
    for who, scheme, reason in (
        (rsa_identity, structures.RSA_SHA512, "disagree"),
        (rsa_identity, structures.ECDSA_SHA256, "not accepted"),
        (ec_identity, structures.RSA, "not accepted"),
        (rsa_identity, structures.DATA, "not accepted"),
    ):
        with pytest.raises(SignatureError, match=reason):
            check(make(who, scheme=scheme))


@pytest.mark.parametrize(
    "header",
    [
        pytest.param("", id="empty"),
        pytest.param("not base64!", id="not base64"),
        pytest.param("é" * 8, id="not ascii"),
        pytest.param("AAAA", id="not ASN.1"),
        pytest.param("A" * (16 * 1024 + 1), id="large"),
        pytest.param(base64.b64encode(b"\x30\x80" * 3000), id="deep"),
        pytest.param(base64.b64encode(der.sequence(der.oid("1.2.3"), der.context(0))), id="kind"),
    ],
)
def test_headers_that_are_no_signature(header: str | bytes) -> None:
    with pytest.raises(SignatureError) as caught:
        cms.decode(header)
    assert len(caught.value.reason) < 80


def test_truncated_everywhere(rsa_identity: Identity) -> None:
    message = make(rsa_identity)
    for size in range(0, len(message), 7):
        with pytest.raises(SignatureError):
            check(message[:size])


@pytest.mark.filterwarnings("ignore::cryptography.utils.CryptographyDeprecationWarning")
@given(st.data())
def test_damaged_messages(rsa_identity: Identity, data: st.DataObject) -> None:
    """Any damage is a SignatureError, or leaves what the signature covers alone."""
    message = bytearray(make(rsa_identity))
    for _ in range(data.draw(st.integers(1, 3))):
        message[data.draw(st.integers(0, len(message) - 1))] = data.draw(st.integers(0, 255))
    try:
        verified = check(bytes(message), allow_sha1=True)
    except SignatureError:
        return
    public = verified.certificate.public_key()
    assert public == rsa_identity.key.public_key()


@given(st.binary(max_size=200))
def test_any_bytes(data: bytes) -> None:
    with pytest.raises(SignatureError):
        cms.decode(base64.b64encode(data))
    with pytest.raises(SignatureError):
        cms.open_signed(data)


def test_looking_into_signed_content(rsa_identity: Identity) -> None:
    assert cms.open_signed(make(rsa_identity, embedded=OTHER, signers=2)) == OTHER
    with pytest.raises(SignatureError, match="no content"):
        cms.open_signed(make(rsa_identity))
    with pytest.raises(SignatureError, match="too large"):
        cms.open_signed(make(rsa_identity, embedded=OTHER), limits=der.Limits(max_bytes=100))


def test_degenerate_holds_certificates(
    rsa_identity: Identity, ec_identity: Identity, openssl: Callable[..., bytes]
) -> None:
    both = [rsa_identity.certificate, ec_identity.certificate]
    printed = openssl(
        "pkcs7", "-inform", "DER", "-in", "{p7}", "-print_certs", p7=cms.degenerate(both)
    )
    assert printed.count(b"BEGIN CERTIFICATE") == 2
