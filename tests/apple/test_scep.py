"""SCEP, with a client of the test's own and openssl (checklist 21, field note 4)."""

from __future__ import annotations

import base64
import secrets
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Protocol
from urllib.parse import quote
from uuid import UUID

import pytest
from cryptography import x509
from cryptography.hazmat import asn1
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import pkcs7
from cryptography.x509.oid import AttributeOID, NameOID
from hypothesis import given
from hypothesis import strategies as st

from services.enrollment.apple import envelope, scep
from services.enrollment.apple.envelope import EnvelopeError
from services.enrollment.apple.scep import ScepError, ScepRefusal
from services.enrollment.pki import authority, leaf
from services.enrollment.pki.authority import Addresses, KeyPair
from shared.apple import cms, der
from shared.apple.cms import signing

OpenSsl = Callable[..., bytes]
NOW = datetime.now(UTC).replace(microsecond=0)
ADDRESSES = Addresses.under("https://mdm.example.org", "device")
LEGACY = ("-provider", "default", "-provider", "legacy")


class Identity(Protocol):
    key: rsa.RSAPrivateKey
    certificate: x509.Certificate
    der: bytes


@pytest.fixture(scope="session")
def ca() -> KeyPair:
    return authority.create_authority("CA", "Example", now=NOW, years=10)


@pytest.fixture(scope="session")
def ra(ca: KeyPair) -> KeyPair:
    return authority.create_registration_authority(ca, "Example", ADDRESSES, now=NOW)


@dataclass(frozen=True)
class Client:
    """A SCEP client: writes requests, reads answers."""

    identity: Identity
    ra: KeyPair
    transaction: str = "3A1F-transaction"
    nonce: bytes = b"n" * 16

    def csr(self, challenge: str | None = "secret") -> bytes:
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "whatever I like")])
        builder = x509.CertificateSigningRequestBuilder(name)
        if challenge is not None:
            builder = builder.add_attribute(AttributeOID.CHALLENGE_PASSWORD, challenge.encode())
        return builder.sign(self.identity.key, hashes.SHA256()).public_bytes(
            serialization.Encoding.DER
        )

    def message(self, content: bytes, kind: str = scep.PKCS_REQ, **changes: bytes | None) -> bytes:
        attributes = {
            "2.16.840.1.113733.1.9.2": der.tlv(0x13, kind.encode()),
            "2.16.840.1.113733.1.9.5": der.octets(self.nonce),
            "2.16.840.1.113733.1.9.7": der.tlv(0x13, self.transaction.encode()),
        }
        for name, value in changes.items():
            oid = f"2.16.840.1.113733.1.9.{name[-1]}"
            attributes.pop(oid)
            if value is not None:
                attributes[oid] = value
        encoded = [signing.attribute(oid, value) for oid, value in attributes.items()]
        return cms.sign(content, self.identity.certificate, self.identity.key, attributes=encoded)

    def request(self, challenge: str | None = "secret", kind: str = scep.PKCS_REQ) -> bytes:
        builder = pkcs7.PKCS7EnvelopeBuilder().set_data(self.csr(challenge))
        builder = builder.add_recipient(self.ra.certificate)
        sealed = builder.encrypt(serialization.Encoding.DER, [pkcs7.PKCS7Options.Binary])
        return self.message(sealed, kind)


@pytest.fixture
def client(rsa_identity: Identity, ra: KeyPair) -> Client:
    return Client(rsa_identity, ra)


def serve(data: bytes, ra: KeyPair) -> tuple[scep.Message, scep.Request]:
    message = scep.read_message(data, allow_sha1=True)
    return message, scep.open_request(message, ra, allow_des=True)


def issue(ca: KeyPair, csr: bytes) -> x509.Certificate:
    holder = leaf.Holder(UUID(int=7), "Example")
    key = leaf.check_request(csr)
    return leaf.issue(ca, key, holder, ADDRESSES, now=NOW, lifetime=timedelta(days=365))


def attributes_of(answer: bytes, ra: KeyPair) -> dict[str, bytes]:
    """Check an answer's signature and return its SCEP attributes by last arc."""
    signed = cms.decode_der(answer)
    verified = cms.verify(signed, signed.content or b"", allow_sha1=False)
    assert verified.certificate == ra.certificate
    prefix = "2.16.840.1.113733.1.9."
    kinds = {asn1.decode_der(x509.ObjectIdentifier, kind) for kind in signed.attributes}
    return {
        kind.dotted_string.removeprefix(prefix): der.contents(signed.value_of(kind) or b"")
        for kind in kinds
        if kind.dotted_string.startswith(prefix)
    }


def test_enrollment(client: Client, ca: KeyPair, ra: KeyPair, openssl: OpenSsl) -> None:
    message, request = serve(client.request(), ra)
    assert message.transaction_id == client.transaction
    assert request.challenge == "secret"
    assert request.renews is None
    certificate = issue(ca, request.csr)
    answer = scep.success(message, request, certificate, ra)
    said = attributes_of(answer, ra)
    assert (said["2"], said["3"], said["7"]) == (b"3", b"0", client.transaction.encode())
    assert said["6"] == client.nonce
    assert len(said["5"]) == 16
    sealed = cms.open_signed(answer)
    certificates = pkcs7.load_der_pkcs7_certificates(decrypt(sealed, client.identity, openssl))
    assert certificates == [certificate]


def decrypt(sealed: bytes, identity: Identity, openssl: OpenSsl) -> bytes:
    key = identity.key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    return openssl(
        *("cms", "-decrypt", "-binary", "-inform", "DER", "-in", "{sealed}", *LEGACY),
        *("-recip", "{cert}", "-inkey", "{key}"),
        sealed=sealed,
        cert=identity.certificate.public_bytes(serialization.Encoding.PEM),
        key=key,
    )


@pytest.mark.parametrize(
    ("option", "name"),
    [("-des-cbc", "des"), ("-des3", "3des"), ("-aes128", "aes128"), ("-aes256", "aes256")],
)
@pytest.mark.parametrize("form", [(), ("-keyid",), ("-stream", "-indef")])
def test_every_cipher_both_ways(
    client: Client, ra: KeyPair, openssl: OpenSsl, option: str, name: str, form: tuple[str, ...]
) -> None:
    """Encrypted by openssl, answered in the same algorithm, decrypted by openssl."""
    sealed = openssl(
        *("cms", "-encrypt", "-binary", "-in", "{csr}", option, *LEGACY, *form),
        *("-outform", "DER", "-recip", "{ra}"),
        csr=client.csr(),
        ra=ra.certificate.public_bytes(serialization.Encoding.PEM),
    )
    message, request = serve(client.message(sealed), ra)
    assert request.cipher.name == name
    assert request.csr == client.csr()
    answer = scep.success(message, request, ra.certificate, ra)
    opened = decrypt(cms.open_signed(answer), client.identity, openssl)
    assert pkcs7.load_der_pkcs7_certificates(opened) == [ra.certificate]


def test_des_by_setting(client: Client, ra: KeyPair) -> None:
    sealed = envelope.seal_envelope(client.csr(), ra.certificate, envelope.DES)
    message = scep.read_message(client.message(sealed), allow_sha1=True)
    assert scep.open_request(message, ra, allow_des=True).cipher is envelope.DES
    with pytest.raises(ScepRefusal, match="DES"):
        scep.open_request(message, ra, allow_des=False)


def test_renewal_is_signed_by_the_current_certificate(
    client: Client, ca: KeyPair, ra: KeyPair
) -> None:
    current = issue(ca, client.csr())
    identity = replace_identity(client.identity, current)
    renewing = replace(client, identity=identity)
    message, request = serve(renewing.request(challenge=None, kind=scep.RENEWAL_REQ), ra)
    assert message.signer == current
    assert request.challenge is None
    assert request.renews == current.fingerprint(hashes.SHA256())


def replace_identity(identity: Identity, certificate: x509.Certificate) -> Identity:
    return replace(identity, certificate=certificate)  # type: ignore[type-var]


def test_a_failure_looks_the_same_whatever_the_reason(client: Client, ra: KeyPair) -> None:
    messages = [
        client.request("wrong"),
        client.message(b"no envelope"),
        client.request(kind="20"),
        client.message(envelope.seal_envelope(b"no csr", ra.certificate, envelope.AES_128)),
    ]
    shapes = []
    for data in messages:
        message = scep.read_message(data, allow_sha1=True)
        answer = scep.failure(message, ra)
        said = attributes_of(answer, ra)
        assert (said["3"], said["4"], said["6"]) == (b"2", b"2", client.nonce)
        assert cms.decode_der(answer).content is None
        said.pop("5")
        shapes.append((said, len(answer)))
    assert all(shape == shapes[0] for shape in shapes)


def test_what_is_refused(client: Client, ra: KeyPair, ca: KeyPair) -> None:
    def refused(data: bytes, reason: str) -> None:
        message = scep.read_message(data, allow_sha1=True)
        with pytest.raises(ScepRefusal, match=reason):
            scep.open_request(message, ra, allow_des=True)

    refused(client.request(kind="20"), "type")
    refused(client.message(b""), "does not open")
    refused(replace(client, ra=ca).request(), "does not open")
    junk = envelope.seal_envelope(b"no csr", ra.certificate, envelope.AES_128)
    refused(client.message(junk), "malformed certificate request")
    refused(client.request("x" * 1025), "challenge too long")


def test_who_signs_with_ec_cannot_be_answered(
    client: Client, ra: KeyPair, make_identity: Callable[[object], Identity]
) -> None:
    elliptic = replace(client, identity=make_identity(ec.generate_private_key(ec.SECP256R1())))
    message = scep.read_message(elliptic.request(), allow_sha1=True)
    with pytest.raises(ScepRefusal, match="RSA"):
        scep.open_request(message, ra, allow_des=True)


def test_messages_of_nobody(client: Client) -> None:
    whole = client.request()
    signed_nothing = cms.sign(b"", client.identity.certificate, client.identity.key, detached=True)
    bad = [
        (b"", "malformed"),
        (whole[:-1], "malformed"),
        (bytes(70_000), "too large"),
        (signed_nothing, "no content"),
        (whole[:-1] + bytes([whole[-1] ^ 1]), "does not match"),
        (client.message(b"x", nonce5=None), "nonce missing"),
        (client.message(b"x", nonce5=der.octets(b"")), "nonce missing"),
        (client.message(b"x", nonce5=der.octets(b"n" * 65)), "nonce missing"),
        (client.message(b"x", transaction7=None), "nonce missing"),
        (client.message(b"x", transaction7=der.tlv(0x13, b"t" * 256)), "nonce missing"),
        (client.message(b"x", transaction7=der.octets(b"t")), "nonce missing"),
    ]
    for data, reason in bad:
        with pytest.raises(ScepError, match=reason):
            scep.read_message(data, allow_sha1=True)


def test_two_signers_are_refused(client: Client) -> None:
    data = client.request()
    info = der.elements(der.contents(der.elements(der.contents(data))[1]))[0]
    parts = der.elements(der.contents(info))
    signer = der.contents(parts[-1])
    twice = der.sequence(
        der.oid("1.2.840.113549.1.7.2"),
        der.context(0, der.sequence(*parts[:-1], der.tlv(der.SET, signer, signer))),
    )
    with pytest.raises(ScepError, match="one signer"):
        scep.read_message(twice, allow_sha1=True)


def test_the_message_in_the_query(client: Client) -> None:
    data = client.request()
    text = base64.b64encode(data).decode()
    for raw in (
        f"operation=PKIOperation&message={quote(text, safe='')}",
        f"?operation=PKIOperation&message={text}",
        f"operation=PKIOperation&message={quote(data)}",
        f"message={quote(text)}%0A&operation=PKIOperation?",
        f"operation=PKIOperation&message={text.replace('+', '%20')}",
    ):
        query = scep.parse_query(raw)
        assert query.operation == "PKIOperation"
        assert scep.message_of(query, b"") == data
    assert scep.message_of(scep.parse_query("operation=PKIOperation"), data) == data


def test_queries_out_of_bounds() -> None:
    assert scep.parse_query("").operation == ""
    assert scep.parse_query("operation=GetCACaps&message=device").operation == "GetCACaps"
    for raw in ("x" * 20_000, "operation=a&operation=b"):
        with pytest.raises(ScepError):
            scep.parse_query(raw)
    with pytest.raises(ScepError, match="base64"):
        scep.message_of(scep.parse_query("message=***"), b"")


def test_capabilities_and_certificates(ca: KeyPair, ra: KeyPair) -> None:
    assert set(scep.CAPABILITIES.decode().split()) == {
        *("Renewal", "SHA-1", "SHA-256", "AES", "DES3", "SCEPStandard", "POSTPKIOperation")
    }
    kind, body = scep.ca_certificates(ca.certificate, ra.certificate)
    assert kind == "application/x-x509-ca-ra-cert"
    assert set(pkcs7.load_der_pkcs7_certificates(body)) == {ra.certificate, ca.certificate}
    kind, body = scep.ca_certificates(ca.certificate, None)
    assert kind == "application/x-x509-ca-cert"
    assert x509.load_der_x509_certificate(body) == ca.certificate
    server = authority.create_server(ca, ["localhost"], now=NOW)
    with pytest.raises(ValueError, match="RSA"):
        scep.ca_certificates(ca.certificate, server.certificate)


def test_a_wrong_content_key_looks_like_wrong_content(ra: KeyPair, client: Client) -> None:
    """No oracle: a key that does not unwrap and content that does not unpad end alike."""
    good = bytearray(envelope.seal_envelope(client.csr(), ra.certificate, envelope.AES_256))
    assert isinstance(ra.key, rsa.RSAPrivateKey)
    parts = bytes(good)
    wrapped = secrets.token_bytes(256)
    at = parts.index(der.tlv(0x04, b"x" * 256)[:4]) + 4
    swapped = parts[:at] + bytes([0]) + wrapped[1:] + parts[at + 256 :]
    for damaged in (swapped, parts[:-1] + bytes([parts[-1] ^ 1]), parts[:-16]):
        with pytest.raises(EnvelopeError, match=r"^cannot be opened$"):
            envelope.open_envelope(damaged, ra.certificate, ra.key)


def test_envelopes_out_of_bounds(ra: KeyPair, ca: KeyPair) -> None:
    assert isinstance(ra.key, rsa.RSAPrivateKey)
    builder = pkcs7.PKCS7EnvelopeBuilder().set_data(b"content")
    for _ in range(4):
        builder = builder.add_recipient(ca.certificate)
    options = [pkcs7.PKCS7Options.Binary]
    with_ra = builder.add_recipient(ra.certificate)
    five = with_ra.encrypt(serialization.Encoding.DER, options)
    with pytest.raises(EnvelopeError):
        envelope.open_envelope(five, ra.certificate, ra.key)
    both = pkcs7.PKCS7EnvelopeBuilder().set_data(b"content").add_recipient(ca.certificate)
    sealed = both.add_recipient(ra.certificate).encrypt(serialization.Encoding.DER, options)
    assert envelope.open_envelope(sealed, ra.certificate, ra.key).content == b"content"


@given(st.binary(max_size=200))
def test_any_bytes(data: bytes) -> None:
    with pytest.raises(ScepError):
        scep.read_message(data, allow_sha1=True)


@given(st.data())
def test_damaged_envelopes(ra: KeyPair, data: st.DataObject) -> None:
    assert isinstance(ra.key, rsa.RSAPrivateKey)
    sealed = bytearray(envelope.seal_envelope(b"content", ra.certificate, envelope.TRIPLE_DES))
    sealed[data.draw(st.integers(0, len(sealed) - 1))] = data.draw(st.integers(0, 255))
    try:
        opened = envelope.open_envelope(bytes(sealed), ra.certificate, ra.key)
    except EnvelopeError:
        return
    assert len(opened.content) <= 16


def test_no_deprecation_is_hidden(ra: KeyPair) -> None:
    """Single DES must not lean on a form of the library that is going away."""
    assert isinstance(ra.key, rsa.RSAPrivateKey)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        sealed = envelope.seal_envelope(b"x", ra.certificate, envelope.DES)
        assert envelope.open_envelope(sealed, ra.certificate, ra.key).content == b"x"
