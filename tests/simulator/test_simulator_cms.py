"""The simulator's CMS and OpenSSL's: each verifies and opens what the other writes."""

from __future__ import annotations

import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from tools.simulator.wire import cms, der, envelope

BODY = b"<?xml version='1.0'?><plist><dict/></plist>" * 60


def make_identity(key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey, name: str) -> cms.Identity:
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    return cms.Identity(key, certificate)


@pytest.fixture(scope="module")
def rsa_identity() -> cms.Identity:
    return make_identity(rsa.generate_private_key(65537, 2048), "device one")


@pytest.fixture(scope="module")
def ec_identity() -> cms.Identity:
    return make_identity(ec.generate_private_key(ec.SECP256R1()), "device two")


def write_pem(folder: Path, identity: cms.Identity) -> tuple[Path, Path]:
    certificate, key = folder / "certificate.pem", folder / "key.pem"
    certificate.write_bytes(identity.certificate.public_bytes(serialization.Encoding.PEM))
    key.write_bytes(
        identity.key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return certificate, key


def openssl(*arguments: str | Path) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        ["openssl", *map(str, arguments)], capture_output=True, check=False, timeout=30
    )


def openssl_verifies(folder: Path, message: bytes, body: bytes | None, *extra: str | Path) -> bool:
    """Whether `openssl cms -verify` accepts; trust in the certificate is not the question here."""
    (folder / "message.der").write_bytes(message)
    arguments: list[str | Path] = ["cms", "-verify", "-noverify", "-binary", "-inform", "DER"]
    arguments += ["-in", folder / "message.der", "-out", folder / "out", *extra]
    if body is not None:
        (folder / "body").write_bytes(body)
        arguments += ["-content", folder / "body"]
    return openssl(*arguments).returncode == 0


STYLES = {
    "as devices send": cms.Style(),
    "sha384": cms.Style(digest="sha384"),
    "sha512": cms.Style(digest="sha512"),
    "sha1": cms.Style(digest="sha1"),
    "sha1WithRSA without NULL": cms.Style(
        digest="sha1", combined_algorithm=True, null_parameters=False
    ),
    "no signing time": cms.Style(with_signing_time=False),
    "no attributes": cms.Style(attributes=False),
    "indefinite": cms.Style(indefinite=True),
    "signed in 2055": cms.Style(signing_time=datetime(2055, 1, 2, tzinfo=UTC)),
}


@pytest.mark.parametrize("style", STYLES.values(), ids=STYLES.keys())
@pytest.mark.parametrize("kind", ["rsa", "ec"])
def test_openssl_verifies_our_detached_signature(
    style: cms.Style,
    kind: str,
    rsa_identity: cms.Identity,
    ec_identity: cms.Identity,
    tmp_path: Path,
) -> None:
    identity = rsa_identity if kind == "rsa" else ec_identity
    message = cms.sign(BODY, [identity], style)
    assert openssl_verifies(tmp_path, message, BODY)
    assert not openssl_verifies(tmp_path, message, BODY + b" ")


@pytest.mark.parametrize("indefinite", [False, True])
def test_openssl_verifies_embedded_content(
    indefinite: bool, rsa_identity: cms.Identity, tmp_path: Path
) -> None:
    message = cms.sign(BODY, [rsa_identity], cms.Style(embed=True, indefinite=indefinite))
    assert openssl_verifies(tmp_path, message, None)
    assert (tmp_path / "out").read_bytes() == BODY


def test_two_signers_are_both_there(
    rsa_identity: cms.Identity, ec_identity: cms.Identity, tmp_path: Path
) -> None:
    message = cms.sign(BODY, [rsa_identity, ec_identity])
    assert openssl_verifies(tmp_path, message, BODY)
    with pytest.raises(cms.CmsError, match="2 signers"):
        cms.open_signed(message, detached=BODY)


def test_without_certificate_openssl_needs_it_apart(
    rsa_identity: cms.Identity, tmp_path: Path
) -> None:
    certificate, _ = write_pem(tmp_path, rsa_identity)
    message = cms.sign(BODY, [rsa_identity], cms.Style(with_certificate=False))
    assert not openssl_verifies(tmp_path, message, BODY)
    assert openssl_verifies(tmp_path, message, BODY, "-certfile", certificate)


def test_plain_message_is_strict_der(rsa_identity: cms.Identity) -> None:
    message = cms.sign(BODY, [rsa_identity])
    assert der.read(message).raw == message
    assert b"\x30\x80" not in message[:4]
    assert cms.sign(BODY, [rsa_identity], cms.Style(indefinite=True))[:2] == b"\x30\x80"


@pytest.mark.parametrize("extra", [[], ["-md", "sha384"], ["-noattr"], ["-keyid"], ["-stream"]])
def test_we_verify_what_openssl_signs(
    extra: list[str], rsa_identity: cms.Identity, tmp_path: Path
) -> None:
    certificate, key = write_pem(tmp_path, rsa_identity)
    (tmp_path / "body").write_bytes(BODY)
    out = tmp_path / "signed.der"
    signing: list[str | Path] = [
        "cms",
        "-sign",
        "-binary",
        "-nodetach",
        "-outform",
        "DER",
        "-signer",
        certificate,
    ]
    made = openssl(*signing, "-inkey", key, "-in", tmp_path / "body", "-out", out, *extra)
    assert made.returncode == 0, made.stderr
    signed = cms.open_signed(out.read_bytes())
    assert signed.content == BODY
    assert signed.signer == rsa_identity.certificate


def test_a_changed_byte_is_noticed(rsa_identity: cms.Identity) -> None:
    message = bytearray(cms.sign(BODY, [rsa_identity], cms.Style(embed=True)))
    message[message.index(b"<plist>") + 1] ^= 1
    with pytest.raises(cms.CmsError, match="digest"):
        cms.open_signed(bytes(message))
    message = bytearray(cms.sign(BODY, [rsa_identity]))
    message[-1] ^= 1
    with pytest.raises(cms.CmsError, match="signature"):
        cms.open_signed(bytes(message), detached=BODY)


@pytest.mark.parametrize("algorithm", envelope.ALGORITHMS)
def test_openssl_decrypts_our_envelope(
    algorithm: str, rsa_identity: cms.Identity, tmp_path: Path
) -> None:
    certificate, key = write_pem(tmp_path, rsa_identity)
    (tmp_path / "envelope").write_bytes(envelope.encrypt(BODY, rsa_identity.certificate, algorithm))
    opened = openssl(
        *("cms", "-decrypt", "-binary", "-inform", "DER", "-in", tmp_path / "envelope"),
        *("-recip", certificate, "-inkey", key, "-provider", "default", "-provider", "legacy"),
    )
    assert opened.returncode == 0, opened.stderr
    assert opened.stdout == BODY


@pytest.mark.parametrize(
    ("option", "name"),
    [("-des", "des"), ("-des3", "3des"), ("-aes128", "aes128"), ("-aes256", "aes256")],
)
def test_we_decrypt_openssl_s_envelope(
    option: str, name: str, rsa_identity: cms.Identity, tmp_path: Path
) -> None:
    certificate, _ = write_pem(tmp_path, rsa_identity)
    (tmp_path / "body").write_bytes(BODY)
    out = tmp_path / "envelope"
    made = openssl(
        *("cms", "-encrypt", "-binary", "-outform", "DER", option, "-in", tmp_path / "body"),
        *("-out", out, "-provider", "default", "-provider", "legacy", certificate),
    )
    assert made.returncode == 0, made.stderr
    assert isinstance(rsa_identity.key, rsa.RSAPrivateKey)
    opened = envelope.decrypt(out.read_bytes(), rsa_identity.certificate, rsa_identity.key)
    assert opened == envelope.Opened(BODY, name)


def test_envelope_for_another_is_refused(rsa_identity: cms.Identity) -> None:
    other = make_identity(rsa.generate_private_key(65537, 2048), "other")
    assert isinstance(other.key, rsa.RSAPrivateKey)
    sealed = envelope.encrypt(BODY, rsa_identity.certificate, "aes128")
    with pytest.raises(cms.CmsError, match="somebody else"):
        envelope.decrypt(sealed, other.certificate, other.key)


@pytest.mark.parametrize("value", [0, 1, 127, 128, 255, 256, -1, -128, -129, 2**64, 65537])
def test_integers_survive(value: int) -> None:
    assert der.read(der.integer(value)).integer() == value


def test_small_integers_are_minimal() -> None:
    assert der.integer(127) == b"\x02\x01\x7f"
    assert der.integer(128) == b"\x02\x02\x00\x80"
    assert der.integer(-128) == b"\x02\x01\x80"


@pytest.mark.parametrize("dotted", ["1.2.840.113549.1.7.2", "2.5.4.3", "2.16.840.1.101.3.4.1.42"])
def test_object_identifiers_survive(dotted: str) -> None:
    assert der.read(der.oid(dotted)).oid() == dotted


def test_rubbish_is_refused_within_limits() -> None:
    for rubbish in (
        b"",
        b"\x30",
        b"\x30\x05\x01",
        b"\x30\x80" * 200,
        b"\x3f\x01\x00",
        b"\x30\x84" + b"\xff" * 4,
    ):
        with pytest.raises(der.DerError):
            der.read(rubbish)
        with pytest.raises(cms.CmsError):
            cms.open_signed(rubbish)
