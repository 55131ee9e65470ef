"""Sealing to another service: HPKE (RFC 9180), base mode, X25519 and AES-256-GCM.

A sealed blob is base64 of: version (1), key id (12), encapsulated key (32), sequence number (12),
ciphertext. What it is for (purpose and device) is its associated data: it opens only under the
same. One encapsulation serves many blobs of a process (`contexts.py`); version 1 had one each, no
sequence number, and what it is for in the HPKE `info`. The hybrid post-quantum
suite would add 1.1 KB to each of the two or three secrets of every device-state event; the version
octet leaves room for it.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from uuid import UUID

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hpke, serialization
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey

from shared.sealed.contexts import ENCAPSULATED, SEQUENCE, Context, Sender, opening
from shared.sealed.keys import KEY_ID_SIZE, find

_SUITE: Final = hpke.Suite(hpke.KEM.X25519, hpke.KDF.HKDF_SHA256, hpke.AEAD.AES_256_GCM)
_SINGLE: Final = b"\x01"
_VERSION: Final = b"\x02"
_INFO: Final = b"muster sealed 2"
_HEAD: Final = len(_VERSION) + KEY_ID_SIZE
_CONTEXTS: Final = 1024
_MAX_SEALED: Final = 2 * 1024 * 1024


class SealError(Exception):
    """A secret cannot be sealed or opened; the message says why, never what."""


@dataclass(frozen=True, slots=True)
class PublicKey:
    """The public half of one of a service's sealing keys."""

    key_id: str
    key: X25519PublicKey


class Keyring:
    """A service's private sealing keys; opens what others sealed to it."""

    def __init__(self, keys: Mapping[str, X25519PrivateKey], *, folder: Path | None = None) -> None:
        self._keys = dict(keys)
        self._folder = folder
        self._contexts: dict[bytes, Context] = {}

    @classmethod
    def load(cls, folder: Path) -> Keyring:
        """Read `<id>.sealing.key` files from the service's own folder, which must hold one."""
        keyring = cls(_private_keys(folder), folder=folder)
        if not keyring._keys:
            raise SealError(f"no sealing key in {folder}: create the service's keys first")
        return keyring

    def open(self, sealed: str, *, purpose: str, device_id: UUID) -> bytes:
        """Open a blob sealed to this service for the same purpose and device; raises SealError."""
        if len(sealed) > _MAX_SEALED:
            raise SealError("sealed blob too large")
        try:
            blob = binascii.a2b_base64(sealed, strict_mode=True)
        except ValueError:
            raise SealError("sealed blob is not base64") from None
        if not blob.startswith((_VERSION, _SINGLE)) or len(blob) <= _HEAD:
            raise SealError("not a sealed blob")
        try:
            return self._opened(blob, _bound(purpose, device_id))
        except (InvalidTag, ValueError):
            raise SealError("does not open: other key, purpose or device") from None

    def _opened(self, blob: bytes, bound: bytes) -> bytes:
        if blob.startswith(_SINGLE):
            return _SUITE.decrypt(blob[_HEAD:], self._find(blob[len(_SINGLE) : _HEAD].hex()), bound)
        at = _HEAD + ENCAPSULATED
        context = self._context(blob[len(_VERSION) : at])
        sequence = int.from_bytes(blob[at : at + SEQUENCE])
        return context.open(sequence, blob[at + SEQUENCE :], bound)

    def _context(self, name: bytes) -> Context:
        """The context of a key id and an encapsulated key; the oldest of too many is forgotten."""
        context = self._contexts.get(name)
        if context is None:
            key = self._find(name[:KEY_ID_SIZE].hex())
            context = opening(key, name[KEY_ID_SIZE:], _INFO)
            if len(self._contexts) >= _CONTEXTS:
                self._contexts.pop(next(iter(self._contexts)), None)
            self._contexts[name] = context
        return context

    def _find(self, key_id: str) -> X25519PrivateKey:
        """A key that is not known may be newer than this process: the folder is read again."""
        if key_id not in self._keys and self._folder is not None:
            self._keys = _private_keys(self._folder)
        try:
            return self._keys[key_id]
        except KeyError:
            raise SealError(f"sealed to an unknown key {key_id}") from None


class PublicKeys:
    """The folder of every service's public keys; the newest of a service is sealed to."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._read_at = -1
        self._newest: dict[str, PublicKey] = {}
        self._senders: dict[str, Sender] = {}

    def newest(self, service: str) -> PublicKey:
        """Return the newest sealing key of a service; raises SealError when it has none."""
        try:
            changed = self._folder.stat().st_mtime_ns
        except OSError:
            raise SealError(f"no folder of public keys at {self._folder}") from None
        if changed != self._read_at:
            self._newest, self._read_at = {}, changed
        if service not in self._newest:
            found = find(self._folder, ".sealing.pub", prefix=f"{service}-")
            if not found:
                raise SealError(f"no public sealing key of {service} in {self._folder}")
            self._newest[service] = _public_key(max(found), found[max(found)])
        return self._newest[service]

    def seal(self, service: str, plaintext: bytes, *, purpose: str, device_id: UUID) -> str:
        """Seal to a service, for one purpose and one device; returns base64."""
        public = self.newest(service)
        sender = self._senders.get(public.key_id)
        if sender is None:
            sender = self._senders[public.key_id] = Sender(public.key, _INFO)
        sealed = sender.seal(plaintext, _bound(purpose, device_id))
        return base64.b64encode(_VERSION + bytes.fromhex(public.key_id) + sealed).decode("ascii")


def _bound(purpose: str, device_id: UUID) -> bytes:
    name = purpose.encode()
    return b"muster sealed 1" + len(name).to_bytes(2, "big") + name + device_id.bytes


def _private_keys(folder: Path) -> dict[str, X25519PrivateKey]:
    keys: dict[str, X25519PrivateKey] = {}
    for key_id, path in find(folder, ".sealing.key").items():
        key = serialization.load_pem_private_key(path.read_bytes(), password=None)
        if not isinstance(key, X25519PrivateKey):
            raise SealError(f"{path.name} is no X25519 key")
        keys[key_id] = key
    return keys


def _public_key(key_id: str, path: Path) -> PublicKey:
    try:
        key = serialization.load_pem_public_key(path.read_bytes())
    except (OSError, ValueError):
        raise SealError(f"{path.name} cannot be read") from None
    if not isinstance(key, X25519PublicKey):
        raise SealError(f"{path.name} is no X25519 key")
    return PublicKey(key_id, key)
