"""Bodies signed beforehand, in processes of their own: the load itself costs no RSA.

Signatures are kept on disk for half a day (servers refuse those that are a day old), so that a
second run begins at once.
"""

from __future__ import annotations

import base64
import hashlib
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any, cast

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from tools.bench.driver import http_request
from tools.bench.fleet import Device
from tools.embedded.home import write_private
from tools.simulator.wire import cms
from tools.simulator.wire.messages import CHECK_IN_TYPE, CONNECT_TYPE, xml

Message = tuple[Device, dict[str, Any]]
Signed = tuple[bytes, str]
"""A body, and the Mdm-Signature over it."""

_KEPT_SECONDS = 12 * 3600
_PROCESSES = 2


def signed(messages: Sequence[Message], kept: Path | None = None) -> list[Signed]:
    """Bodies and signatures of these messages, in their order; `kept`: the folder to keep them."""
    bodies = [(device, xml(body)) for device, body in messages]
    path = kept / f"{_name(bodies)}.txt" if kept else None
    signatures = _kept(path) if path else None
    if signatures is None:
        chunk = max(1, len(bodies) // (_PROCESSES * 8))
        with ProcessPoolExecutor(_PROCESSES) as pool:
            signatures = list(pool.map(_sign, bodies, chunksize=chunk))
        if path:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_private(path, "\n".join(signatures))
    return [(body, signature) for (_, body), signature in zip(bodies, signatures, strict=True)]


def check_ins(path: str, host: str, messages: Sequence[Signed]) -> list[bytes]:
    """Whole requests to a check-in address."""
    return [_request(path, host, CHECK_IN_TYPE, *message) for message in messages]


def connects(path: str, host: str, messages: Sequence[Signed]) -> list[bytes]:
    """Whole requests to a server address."""
    return [_request(path, host, CONNECT_TYPE, *message) for message in messages]


def _request(path: str, host: str, kind: str, body: bytes, signature: str) -> bytes:
    headers = {"Content-Type": kind, "Mdm-Signature": signature}
    return http_request("PUT", path, host, body, headers)


def _name(bodies: Sequence[tuple[Device, bytes]]) -> str:
    digest = hashlib.sha256()
    for device, body in bodies:
        digest.update(hashlib.sha256(device.certificate + body).digest())
    return digest.hexdigest()[:32]


def _kept(path: Path) -> list[str] | None:
    try:
        if path.stat().st_mtime < time.time() - _KEPT_SECONDS:
            return None
        return path.read_text("ascii").split("\n")
    except OSError:
        return None


def forget_old(kept: Path) -> None:
    """Remove signatures that are too old to be used."""
    if kept.is_dir():
        for path in kept.glob("*.txt"):
            if path.stat().st_mtime < time.time() - _KEPT_SECONDS:
                path.unlink(missing_ok=True)


_identities: dict[bytes, cms.Identity] = {}
_keys: dict[bytes, rsa.RSAPrivateKey] = {}


def _identity(device: Device) -> cms.Identity:
    known = _identities.get(device.certificate)
    if known is None:
        key = _keys.get(device.key)
        if key is None:
            # Checking that its primes are prime takes longer than a hundred signatures.
            loaded = serialization.load_der_private_key(
                device.key, None, unsafe_skip_rsa_key_validation=True
            )
            key = _keys[device.key] = cast("rsa.RSAPrivateKey", loaded)
        known = cms.Identity(key, x509.load_der_x509_certificate(device.certificate))
        _identities[device.certificate] = known
    return known


def _sign(message: tuple[Device, bytes]) -> str:
    device, body = message
    return base64.b64encode(cms.sign(body, [_identity(device)])).decode()
