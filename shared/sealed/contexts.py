"""HPKE contexts that seal many messages (RFC 9180 §5.2): base mode, X25519, AES-256-GCM.

The library seals one message a context, and a context costs two X25519 multiplications: fifty times
what is left of a seal. This is the same for sequence number 0 (a test compares them). Other numbers
are drawn by chance and travel along, so that neither a fork nor a machine that is resumed twice
from one snapshot repeats a nonce (docs/decisions/0028-one-hpke-context-for-many-tokens.md).
"""

from __future__ import annotations

import hmac
import secrets
import time
from dataclasses import dataclass
from typing import Final

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

ENCAPSULATED: Final = 32
SEQUENCE: Final = 12

_VERSION: Final = b"HPKE-v1"
_KEM: Final = b"KEM\x00\x20"
_SUITE: Final = b"HPKE\x00\x20\x00\x01\x00\x02"
_KEY, _NONCE, _SECRET = 32, 12, 32
_BASE_MODE: Final = b"\x00"

_SECONDS: Final = 600.0
"""How long a sender keeps a context: at 100,000 messages a second two sequence numbers would meet
with a chance of 2^-45."""


class Context:
    """Key and first nonce of one encapsulation; the same on both sides."""

    def __init__(self, shared: bytes, encapsulated: bytes, recipient: bytes, info: bytes) -> None:
        """`shared`: the result of X25519; `recipient`: its public key."""
        found = _extract(b"", _KEM, b"eae_prk", shared)
        secret = _expand(found, _KEM, b"shared_secret", encapsulated + recipient, _SECRET)
        bound = (
            _BASE_MODE
            + _extract(b"", _SUITE, b"psk_id_hash", b"")
            + _extract(b"", _SUITE, b"info_hash", info)
        )
        secret = _extract(secret, _SUITE, b"secret", b"")
        self._cipher = AESGCM(_expand(secret, _SUITE, b"key", bound, _KEY))
        self._nonce = int.from_bytes(_expand(secret, _SUITE, b"base_nonce", bound, _NONCE))

    def seal(self, sequence: int, plaintext: bytes, associated: bytes) -> bytes:
        """Each sequence number seals one message only."""
        return self._cipher.encrypt(self._at(sequence), plaintext, associated)

    def open(self, sequence: int, ciphertext: bytes, associated: bytes) -> bytes:
        """Raises InvalidTag."""
        return self._cipher.decrypt(self._at(sequence), ciphertext, associated)

    def _at(self, sequence: int) -> bytes:
        return (self._nonce ^ sequence).to_bytes(_NONCE)


def opening(key: X25519PrivateKey, encapsulated: bytes, info: bytes) -> Context:
    """The recipient's side; raises ValueError for what is no point."""
    shared = key.exchange(X25519PublicKey.from_public_bytes(encapsulated))
    return Context(shared, encapsulated, key.public_key().public_bytes_raw(), info)


@dataclass(frozen=True, slots=True)
class _Sending:
    encapsulated: bytes
    context: Context
    until: float


class Sender:
    """Seals to one key; a context lasts ten minutes. Several threads may share it."""

    def __init__(self, key: X25519PublicKey, info: bytes) -> None:
        self._key, self._info = key, info
        self._sending = self._begun()

    def _begun(self) -> _Sending:
        ephemeral = X25519PrivateKey.generate()
        encapsulated = ephemeral.public_key().public_bytes_raw()
        shared, recipient = ephemeral.exchange(self._key), self._key.public_bytes_raw()
        context = Context(shared, encapsulated, recipient, self._info)
        return _Sending(encapsulated, context, time.monotonic() + _SECONDS)

    def seal(self, plaintext: bytes, associated: bytes) -> bytes:
        """Encapsulated key, sequence number and ciphertext."""
        sending = self._sending
        if time.monotonic() > sending.until:
            sending = self._sending = self._begun()
        sequence = secrets.token_bytes(SEQUENCE)
        sealed = sending.context.seal(int.from_bytes(sequence), plaintext, associated)
        return sending.encapsulated + sequence + sealed


def _extract(salt: bytes, suite: bytes, label: bytes, material: bytes) -> bytes:
    return hmac.digest(salt or bytes(_SECRET), _VERSION + suite + label + material, "sha256")


def _expand(secret: bytes, suite: bytes, label: bytes, info: bytes, length: int) -> bytes:
    labelled = length.to_bytes(2) + _VERSION + suite + label + info
    return HKDFExpand(hashes.SHA256(), length, labelled).derive(secret)
