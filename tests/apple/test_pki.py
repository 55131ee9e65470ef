"""Our PKI, judged by the openssl command line (acceptance 2)."""

from __future__ import annotations

import base64
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from urllib.parse import quote
from uuid import UUID

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.x509 import ocsp
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from hypothesis import given
from hypothesis import strategies as st

from services.enrollment.pki import authority, leaf, revocation
from services.enrollment.pki.authority import Addresses, KeyPair
from services.enrollment.pki.leaf import Holder, RequestError
from services.enrollment.pki.revocation import Good, OcspError, Revoked
from shared.apple import cms
from shared.apple.certificates import Issuers

OpenSsl = Callable[..., bytes]

NOW = datetime.now(UTC).replace(microsecond=0)
ADDRESSES = Addresses.under("https://mdm.example.org/", "device")
SESSION = UUID("0197b3a0-0000-7000-8000-000000000007")
HOLDER = Holder(SESSION, "Example", "C02XK1ABCDEF")
YEAR = timedelta(days=365)


@pytest.fixture(scope="session")
def ca() -> KeyPair:
    return authority.create_authority("Device Identity CA", "Example", now=NOW, years=15)


@pytest.fixture(scope="session")
def responder(ca: KeyPair) -> KeyPair:
    return authority.create_ocsp_responder(ca, "Example", now=NOW)


@pytest.fixture(scope="session")
def device_key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(65537, 2048)


@pytest.fixture(scope="session")
def device(ca: KeyPair, device_key: rsa.RSAPrivateKey) -> x509.Certificate:
    return issue(ca, device_key.public_key())


def issue(ca: KeyPair, key: leaf.LeafKey) -> x509.Certificate:
    return leaf.issue(ca, key, HOLDER, ADDRESSES, now=NOW, lifetime=YEAR)


def pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def request(key: object, common_name: str = "anything", **kwargs: object) -> bytes:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])
    builder = x509.CertificateSigningRequestBuilder(name)
    algorithm = None if isinstance(key, ed25519.Ed25519PrivateKey) else hashes.SHA256()
    signed = builder.sign(key, algorithm)  # type: ignore[arg-type]
    return signed.public_bytes(serialization.Encoding.DER)


def test_openssl_verifies_the_chain(
    ca: KeyPair, responder: KeyPair, device: x509.Certificate, openssl: OpenSsl
) -> None:
    def verify(certificate: x509.Certificate, purpose: str) -> None:
        arguments = ("verify", "-x509_strict", "-purpose", purpose, "-CAfile", "{ca}", "{leaf}")
        assert b": OK" in openssl(*arguments, ca=pem(ca.certificate), leaf=pem(certificate))

    verify(device, "sslclient")
    verify(responder.certificate, "ocsphelper")
    ra = authority.create_registration_authority(ca, "Example", ADDRESSES, now=NOW)
    verify(ra.certificate, "any")
    signer = authority.create_profile_signer(ca, "Example", ADDRESSES, now=NOW)
    verify(signer.certificate, "smimesign")
    server = authority.create_server(ca, ["localhost", "127.0.0.1", "::1"], now=NOW)
    verify(server.certificate, "sslserver")
    openssl(
        *("verify", "-CAfile", "{ca}", "-verify_ip", "127.0.0.1", "{leaf}"),
        ca=pem(ca.certificate),
        leaf=pem(server.certificate),
    )


def test_openssl_verifies_a_signed_profile(ca: KeyPair, openssl: OpenSsl) -> None:
    signer = authority.create_profile_signer(ca, "Example", ADDRESSES, now=NOW)
    signed = cms.sign(b"<plist/>", signer.certificate, signer.key, chain=[ca.certificate])
    arguments = ("cms", "-verify", "-binary", "-inform", "DER", "-in", "{p7}", "-CAfile", "{ca}")
    assert openssl(*arguments, p7=signed, ca=pem(ca.certificate)) == b"<plist/>"


def test_what_stands_in_a_device_identity(ca: KeyPair, device: x509.Certificate) -> None:
    extensions = device.extensions

    def value(kind: type[x509.ExtensionType]) -> x509.ExtensionType:
        return extensions.get_extension_for_class(kind).value

    assert value(x509.ExtendedKeyUsage) == x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH])
    assert value(x509.KeyUsage) == authority.key_usage("digital_signature", "key_encipherment")
    assert value(x509.BasicConstraints) == x509.BasicConstraints(ca=False, path_length=None)
    names = extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.UniformResourceIdentifier) == [SESSION.urn]
    text = str(extensions)
    assert "https://mdm.example.org/pki/crl/device.crl" in text
    assert "https://mdm.example.org/pki/ocsp" in text
    assert "https://mdm.example.org/pki/ca/device.cer" in text
    assert device.not_valid_before_utc == NOW - timedelta(minutes=5)
    assert device.not_valid_after_utc == NOW + YEAR
    assert 0 < device.serial_number < 2**128
    assert Issuers([ca.certificate]).issued_by(device.public_bytes(serialization.Encoding.DER))


def test_a_leaf_ends_with_its_ca(device_key: rsa.RSAPrivateKey) -> None:
    short = authority.create_authority("Short", "Example", now=NOW, years=1)
    long = leaf.issue(short, device_key.public_key(), HOLDER, ADDRESSES, now=NOW, lifetime=3 * YEAR)
    assert long.not_valid_after_utc == short.certificate.not_valid_after_utc


def test_an_ec_identity_does_not_encrypt(ca: KeyPair) -> None:
    certificate = issue(ca, ec.generate_private_key(ec.SECP384R1()).public_key())
    usage = certificate.extensions.get_extension_for_class(x509.KeyUsage).value
    assert usage == authority.key_usage("digital_signature")


def test_keys_survive_storing(ca: KeyPair) -> None:
    loaded = KeyPair.load(ca.certificate_bytes, ca.key_bytes)
    assert loaded.certificate == ca.certificate
    assert loaded.key.public_key() == ca.certificate.public_key()


def test_a_request_gives_its_key(device_key: rsa.RSAPrivateKey) -> None:
    assert leaf.check_request(request(device_key)) == device_key.public_key()
    elliptic = ec.generate_private_key(ec.SECP256R1())
    assert leaf.check_request(request(elliptic)) == elliptic.public_key()


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        pytest.param(lambda: b"", "malformed", id="empty"),
        pytest.param(lambda: b"x" * 20000, "too large", id="large"),
        pytest.param(
            lambda: request(rsa.generate_private_key(65537, 1024)),  # noqa: S505
            "not accepted",
            id="RSA 1024",
        ),
        pytest.param(lambda: request(rsa.generate_private_key(3, 2048)), "not accepted", id="e=3"),
        pytest.param(
            lambda: request(ec.generate_private_key(ec.SECP521R1())), "not accepted", id="P-521"
        ),
        pytest.param(
            lambda: request(ed25519.Ed25519PrivateKey.generate()), "not accepted", id="Ed25519"
        ),
    ],
)
def test_requests_that_are_refused(data: Callable[[], bytes], reason: str) -> None:
    with pytest.raises(RequestError, match=reason):
        leaf.check_request(data())


def test_a_request_must_prove_its_key(device_key: rsa.RSAPrivateKey) -> None:
    data = bytearray(request(device_key))
    data[-1] ^= 1
    with pytest.raises(RequestError, match="own key"):
        leaf.check_request(bytes(data))


@given(st.binary(max_size=100))
def test_any_bytes_are_refused(data: bytes) -> None:
    with pytest.raises(RequestError):
        leaf.check_request(data)
    with pytest.raises(OcspError):
        revocation.read_request(data)


def test_openssl_reads_the_crl(
    ca: KeyPair, device: x509.Certificate, openssl_says: OpenSsl
) -> None:
    entries = [Revoked(device.serial_number, NOW, "superseded"), Revoked(7, NOW)]
    crl = revocation.build_crl(ca, entries, number=42, now=NOW)
    arguments = ("crl", "-inform", "DER", "-in", "{crl}", "-CAfile", "{ca}", "-noout", "-text")
    text = openssl_says(*arguments, crl=crl, ca=pem(ca.certificate)).decode()
    assert "verify OK" in text
    assert f"{device.serial_number:X}" in text.replace(":", "")
    assert "Superseded" in text
    loaded = x509.load_der_x509_crl(crl)
    assert loaded.is_signature_valid(ca.certificate.public_key())  # type: ignore[arg-type]
    assert loaded.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number == 42
    assert loaded.next_update_utc == NOW + timedelta(hours=24)


def test_openssl_refuses_a_revoked_chain(
    ca: KeyPair, device: x509.Certificate, openssl: OpenSsl
) -> None:
    arguments = ("verify", "-crl_check", "-CAfile", "{ca}", "-CRLfile", "{crl}", "{leaf}")
    files = {"ca": pem(ca.certificate), "leaf": pem(device)}

    def crl(*entries: Revoked) -> bytes:
        data = revocation.build_crl(ca, entries, number=1, now=NOW)
        return x509.load_der_x509_crl(data).public_bytes(serialization.Encoding.PEM)

    assert b": OK" in openssl(*arguments, **files, crl=crl())
    with pytest.raises(AssertionError, match="certificate revoked"):
        openssl(*arguments, **files, crl=crl(Revoked(device.serial_number, NOW)))


@pytest.mark.parametrize("digest", ["sha1", "sha256"])
@pytest.mark.parametrize("nonce", [True, False])
@pytest.mark.parametrize(
    ("status", "said"),
    [
        (Good(), b": good"),
        (Revoked(1, NOW, "keyCompromise"), b": revoked"),
        (None, b": unknown"),
    ],
    ids=["good", "revoked", "unknown"],
)
def test_openssl_believes_the_ocsp_answer(
    ca: KeyPair,
    responder: KeyPair,
    device: x509.Certificate,
    openssl_says: OpenSsl,
    digest: str,
    nonce: bool,
    status: Good | Revoked | None,
    said: bytes,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    out = tmp_path_factory.mktemp("ocsp") / "request"
    asking = ("-issuer", "{ca}", f"-{digest}", "-cert", "{leaf}")
    files = {"ca": pem(ca.certificate), "leaf": pem(device)}
    flag = "-nonce" if nonce else "-no_nonce"
    openssl_says("ocsp", *asking, flag, "-reqout", str(out), **files)
    asked = revocation.read_request(out.read_bytes())
    assert asked.serial_number == device.serial_number
    assert revocation.asks_about(asked, ca.certificate)
    response = revocation.answer(asked, status, responder, now=NOW, validity=timedelta(hours=1))
    checked = openssl_says(
        *(
            "ocsp",
            *asking,
            "-no_nonce",
            "-reqin",
            "{request}",
            "-respin",
            "{response}",
            "-CAfile",
            "{ca}",
        ),
        **files,
        request=out.read_bytes(),
        response=response,
    )
    assert said in checked
    assert b"Response verify OK" in checked
    loaded = ocsp.load_der_ocsp_response(response)
    assert bool(len(loaded.extensions)) == nonce


def test_other_authorities_are_not_ours(ca: KeyPair, device_key: rsa.RSAPrivateKey) -> None:
    """Neither one of another name nor one of the same name with another key."""
    for name in ("Other CA", "Device Identity CA"):
        other = authority.create_authority(name, "Example", now=NOW, years=1)
        theirs = issue(other, device_key.public_key())
        asked = ask(theirs, other.certificate)
        assert not revocation.asks_about(asked, ca.certificate)
        assert revocation.asks_about(asked, other.certificate)


def test_an_ec_authority_is_recognised(device_key: rsa.RSAPrivateKey) -> None:
    ca = authority.create_server(
        authority.create_authority("CA", "Example", now=NOW, years=1), ["localhost"], now=NOW
    )
    asked = ask(issue(ca, device_key.public_key()), ca.certificate)
    assert revocation.asks_about(asked, ca.certificate)


def ask(certificate: x509.Certificate, issuer: x509.Certificate) -> ocsp.OCSPRequest:
    builder = ocsp.OCSPRequestBuilder().add_certificate(certificate, issuer, hashes.SHA256())
    return revocation.read_request(builder.build().public_bytes(serialization.Encoding.DER))


def test_ocsp_by_get(ca: KeyPair, device: x509.Certificate) -> None:
    built = ocsp.OCSPRequestBuilder().add_certificate(device, ca.certificate, hashes.SHA256())
    data = built.build().public_bytes(serialization.Encoding.DER)
    plain = base64.b64encode(data).decode()
    for path in (plain, quote(plain, safe=""), plain.rstrip("="), plain.replace("+", " ")):
        assert revocation.read_get(path) == data
    for path in ("***", "A" * 10000, "é"):
        with pytest.raises(OcspError) as caught:
            revocation.read_get(path)
        status = ocsp.load_der_ocsp_response(caught.value.response).response_status
        assert status == ocsp.OCSPResponseStatus.MALFORMED_REQUEST


def test_ocsp_requests_out_of_bounds(ca: KeyPair, device: x509.Certificate) -> None:
    builder = ocsp.OCSPRequestBuilder()
    sha512 = builder.add_certificate(device, ca.certificate, hashes.SHA512()).build()
    long = (
        builder.add_certificate(device, ca.certificate, hashes.SHA256())
        .add_extension(x509.OCSPNonce(b"n" * 129), critical=False)
        .build()
    )
    for asked in (sha512, long):
        with pytest.raises(OcspError):
            revocation.read_request(asked.public_bytes(serialization.Encoding.DER))
    with pytest.raises(OcspError):
        revocation.read_request(bytes(5000))
