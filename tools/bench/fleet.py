"""The devices of a bench: keys and certificates from a CA of the bench, kept between runs.

Servers are told of them by import, or trust the CA: no SCEP is measured by accident. Devices share
a few key pairs, because those are slow to make; every certificate is its own.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, cast

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from tools.embedded.home import locked, write_private

_KEYS = 32
_YEAR = timedelta(days=365)
_RENEW_BEFORE = timedelta(days=30)
_PROCESSES = 2


@dataclass(frozen=True, slots=True)
class Device:
    """One device; key and certificate are DER, so that it travels to other processes."""

    udid: str
    serial: str
    key: bytes
    certificate: bytes


@dataclass(frozen=True)
class Fleet:
    """Devices, and the CA (PEM) that issued all their certificates."""

    devices: Sequence[Device]
    authority: bytes


def prepare(folder: Path, count: int, *, keys: int = _KEYS) -> Fleet:
    """The first `count` devices of the fleet in `folder`; made where it has fewer."""
    folder.mkdir(parents=True, exist_ok=True)
    with locked(folder / "lock", wait=True):
        kept = _read(folder / "fleet.json")
        if kept is None or len(kept["devices"]) < count:
            kept = _extended(kept or _begun(keys), count)
            write_private(folder / "fleet.json", json.dumps(kept))
    pairs = [base64.b64decode(key) for key in kept["keys"]]
    devices = [
        Device(udid, serial, pairs[place % len(pairs)], base64.b64decode(certificate))
        for place, (udid, serial, certificate) in enumerate(kept["devices"][:count])
    ]
    return Fleet(devices, str(kept["authority"]).encode())


def _read(path: Path) -> dict[str, Any] | None:
    """What an earlier run kept, unless its certificates end soon."""
    try:
        kept: dict[str, Any] = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError):
        return None
    authority = x509.load_pem_x509_certificate(str(kept["authority"]).encode())
    return kept if authority.not_valid_after_utc > datetime.now(UTC) + _RENEW_BEFORE else None


def _begun(count: int) -> dict[str, Any]:
    """A fleet without devices, and with so many key pairs."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Muster bench devices")])
    now = datetime.now(UTC)
    authority = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + _YEAR)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    with ProcessPoolExecutor(_PROCESSES) as pool:
        keys = list(pool.map(_new_key, range(count)))
    return {
        "authority": authority.public_bytes(serialization.Encoding.PEM).decode(),
        "authority_key": base64.b64encode(_der(key)).decode(),
        "keys": [base64.b64encode(each).decode() for each in keys],
        "devices": [],
    }


def _new_key(_: int) -> bytes:
    return _der(rsa.generate_private_key(public_exponent=65537, key_size=2048))


def _der(key: rsa.RSAPrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.DER, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _extended(kept: dict[str, Any], count: int) -> dict[str, Any]:
    places = range(len(kept["devices"]), count)
    chunks = [places[at : at + 250] for at in range(0, len(places), 250)]
    with ProcessPoolExecutor(_PROCESSES) as pool:
        more = pool.map(
            _certified, chunks, [kept["authority"]] * len(chunks),
            [kept["authority_key"]] * len(chunks), [kept["keys"]] * len(chunks),
        )  # fmt: skip
        made = [device for chunk in more for device in chunk]
    return kept | {"devices": [*kept["devices"], *made]}


def _certified(
    places: Sequence[int], authority: str, authority_key: str, keys: Sequence[str]
) -> list[tuple[str, str, str]]:
    """UDID, serial number and certificate of the devices at these places."""
    issuer = x509.load_pem_x509_certificate(authority.encode())
    signer = _key(authority_key)
    publics = [_key(key).public_key() for key in keys]
    return [_device(place, issuer, signer, publics[place % len(publics)]) for place in places]


def _key(text: str) -> rsa.RSAPrivateKey:
    loaded = serialization.load_der_private_key(base64.b64decode(text), None)
    return cast("rsa.RSAPrivateKey", loaded)


def _device(
    place: int, issuer: x509.Certificate, signer: rsa.RSAPrivateKey, public: rsa.RSAPublicKey
) -> tuple[str, str, str]:
    udid, serial = f"00008140-{place:016X}", f"BN{place:09d}"
    usage = x509.KeyUsage(
        digital_signature=True, content_commitment=False, key_encipherment=False,
        data_encipherment=False, key_agreement=False, key_cert_sign=False, crl_sign=False,
        encipher_only=False, decipher_only=False,
    )  # fmt: skip
    certificate = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, udid)]))
        .issuer_name(issuer.subject)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(issuer.not_valid_before_utc)
        .not_valid_after(issuer.not_valid_after_utc)
        .add_extension(usage, critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False)
        .sign(signer, hashes.SHA256())
    )
    der = certificate.public_bytes(serialization.Encoding.DER)
    return udid, serial, base64.b64encode(der).decode()
