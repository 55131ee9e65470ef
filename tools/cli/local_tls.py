"""The certificate of the embedded device listener: a CA of this checkout and one server leaf.

Devices must be told to trust the CA; simulators are pointed at its file.
"""

from __future__ import annotations

import ipaddress
import os
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

_CA_DAYS = 3650
# Apple devices refuse server certificates of private CAs that are valid for more than 825 days.
_LEAF_DAYS = 397
_RENEW = timedelta(days=30)
_EARLIER = timedelta(hours=1)


@dataclass(frozen=True)
class ServerTls:
    authority: Path
    cert: Path
    key: Path


def ensure(folder: Path, host: str = "localhost") -> ServerTls:
    """Make what is missing, and a new leaf when the old one ends within thirty days."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    tls = ServerTls(folder / "ca.pem", folder / "server.pem", folder / "server.key")
    ca_key = folder / "ca.key"
    if not (tls.authority.exists() and ca_key.exists()):
        _make_authority(tls.authority, ca_key)
        tls.cert.unlink(missing_ok=True)
    if not _serves(tls, host):
        _make_leaf(tls, ca_key, host)
    return tls


def _serves(tls: ServerTls, host: str) -> bool:
    try:
        leaf = x509.load_pem_x509_certificate(tls.cert.read_bytes())
        names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (OSError, ValueError, x509.ExtensionNotFound):
        return False
    current = leaf.not_valid_after_utc - datetime.now(UTC) > _RENEW
    return current and tls.key.exists() and _name_of(host) in list(names)


def _make_authority(cert: Path, key_file: Path) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    name = _subject("Muster local server CA")
    usage = x509.KeyUsage(
        digital_signature=False,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=True,
        crl_sign=True,
        encipher_only=False,
        decipher_only=False,
    )
    signed = (
        _builder(name, name, key.public_key(), _CA_DAYS)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    _write_key(key_file, key)
    cert.write_bytes(signed.public_bytes(Encoding.PEM))


def _make_leaf(tls: ServerTls, ca_key_file: Path, host: str) -> None:
    ca_key = load_pem_private_key(ca_key_file.read_bytes(), None)
    if not isinstance(ca_key, ec.EllipticCurvePrivateKey):
        raise TypeError(f"{ca_key_file} is no EC key")
    authority = x509.load_pem_x509_certificate(tls.authority.read_bytes())
    key = ec.generate_private_key(ec.SECP256R1())
    names = dict.fromkeys([_name_of(host), _name_of("localhost"), _name_of("127.0.0.1")])
    issuer_key = x509.AuthorityKeyIdentifier.from_issuer_public_key(ca_key.public_key())
    signed = (
        _builder(_subject(host), authority.subject, key.public_key(), _LEAF_DAYS)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(issuer_key, critical=False)
        .sign(ca_key, hashes.SHA256())
    )
    _write_key(tls.key, key)
    tls.cert.write_bytes(signed.public_bytes(Encoding.PEM))


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, days: int
) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return x509.CertificateBuilder(
        issuer, subject, key, x509.random_serial_number(), now - _EARLIER, now + timedelta(days)
    )


def _subject(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


def _name_of(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _write_key(path: Path, key: ec.EllipticCurvePrivateKey) -> None:
    text = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
        file.write(text)
