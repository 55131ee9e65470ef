"""Keys and certificates for the wire tests, made once a session."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID

Key = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey


@dataclass(frozen=True)
class Identity:
    """A key with a self-signed certificate."""

    key: Key
    certificate: x509.Certificate

    @property
    def der(self) -> bytes:
        return self.certificate.public_bytes(serialization.Encoding.DER)


def self_signed(key: Key, name: str = "device", *, ski: bool = True) -> Identity:
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    builder = (
        x509.CertificateBuilder(subject, subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(minutes=5))
        .not_valid_after(now + timedelta(days=1))
    )
    if ski:
        builder = builder.add_extension(
            x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False
        )
    return Identity(key, builder.sign(key, hashes.SHA256()))


@pytest.fixture(scope="session")
def make_identity() -> Callable[[Key], Identity]:
    return self_signed


@pytest.fixture(scope="session")
def rsa_identity() -> Identity:
    return self_signed(rsa.generate_private_key(65537, 2048))


@pytest.fixture(scope="session")
def ec_identity() -> Identity:
    return self_signed(ec.generate_private_key(ec.SECP256R1()))


def run_openssl(folder: Path, arguments: Sequence[str], files: Mapping[str, bytes]) -> list[bytes]:
    for name, content in files.items():
        (folder / name).write_bytes(content)
    paths = {name: str(folder / name) for name in files}
    command = ["openssl", *(argument.format(**paths) for argument in arguments)]
    done = subprocess.run(command, capture_output=True, check=False, timeout=30)
    assert done.returncode == 0, done.stderr.decode(errors="replace")
    return [done.stdout, done.stderr]


@pytest.fixture
def openssl(tmp_path: Path) -> Callable[..., bytes]:
    """Run the openssl command line; keyword arguments become files named in the arguments.

    `openssl("x509", "-in", "{leaf}", leaf=PEM)`; a failing command fails the test.
    """
    return lambda *arguments, **files: run_openssl(tmp_path, arguments, files)[0]


@pytest.fixture
def openssl_says(tmp_path: Path) -> Callable[..., bytes]:
    """As `openssl`, with what it says on its standard error in front."""
    return lambda *arguments, **files: b"".join(reversed(run_openssl(tmp_path, arguments, files)))
