"""Requests signed beforehand, in processes of their own: the load itself costs no RSA."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from tools.bench.driver import http_request
from tools.simulator.wire import cms
from tools.simulator.wire.messages import CHECK_IN_TYPE, CONNECT_TYPE, xml

CHECK_IN = "/mdm/apple/checkin"
CONNECT = "/mdm/apple/connect"


@dataclass(frozen=True)
class Signer:
    """A device's identity as bytes: it travels to the signing processes."""

    udid: str
    key: bytes
    certificate: bytes

    @classmethod
    def of(cls, udid: str, identity: cms.Identity) -> Signer:
        key = identity.key.private_bytes(
            serialization.Encoding.DER,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        der = identity.certificate.public_bytes(serialization.Encoding.DER)
        return cls(udid, key, der)


@dataclass(frozen=True)
class Message:
    """A body to be signed by a device and sent to a path."""

    signer: Signer
    path: str
    body: dict[str, Any]


def signed(messages: Sequence[Message], host: str, *, processes: int = 2) -> list[bytes]:
    """Whole requests for these messages, in their order."""
    chunk = max(1, len(messages) // (processes * 8))
    with ProcessPoolExecutor(processes) as pool:
        return list(pool.map(_request, messages, [host] * len(messages), chunksize=chunk))


_identities: dict[bytes, cms.Identity] = {}


def _identity(signer: Signer) -> cms.Identity:
    known = _identities.get(signer.certificate)
    if known is None:
        # Checking that its primes are prime takes longer than a hundred signatures.
        key = serialization.load_der_private_key(
            signer.key, None, unsafe_skip_rsa_key_validation=True
        )
        if not isinstance(key, rsa.RSAPrivateKey):
            raise TypeError("devices of the bench have RSA keys")
        known = cms.Identity(key, x509.load_der_x509_certificate(signer.certificate))
        _identities[signer.certificate] = known
    return known


def _request(message: Message, host: str) -> bytes:
    body = xml(message.body)
    signature = base64.b64encode(cms.sign(body, [_identity(message.signer)])).decode()
    kind = CHECK_IN_TYPE if message.path == CHECK_IN else CONNECT_TYPE
    headers = {"Content-Type": kind, "Mdm-Signature": signature}
    return http_request("PUT", message.path, host, body, headers)
