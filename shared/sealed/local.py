"""What a service encrypts for itself: AES-256-GCM, bound to the row it stands in.

A blob is: version (1), key id (12), nonce (12), ciphertext with tag. Table, column and row id are
the associated data, so a blob copied to another place does not open there.
"""

from __future__ import annotations

import base64
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from shared.sealed.keys import KEY_ID_SIZE, LOCAL_KEY_SIZE, find
from shared.sealed.sealing import SealError

_VERSION: Final = b"\x01"
_NONCE: Final = 12
_HEAD: Final = len(_VERSION) + KEY_ID_SIZE


class LocalCipher:
    """Encrypts with the newest of its keys (the greatest id) and opens with any."""

    def __init__(self, keys: Mapping[str, bytes], *, folder: Path | None = None) -> None:
        """`keys`: 32 octets by key id (24 hex digits)."""
        self._folder = folder
        if not keys:
            raise SealError("no local key: create the service's keys first")
        if any(len(key) != LOCAL_KEY_SIZE for key in keys.values()):
            raise SealError("a local key must have 32 octets")
        self._ciphers = {bytes.fromhex(key_id): AESGCM(key) for key_id, key in keys.items()}
        if any(len(key_id) != KEY_ID_SIZE for key_id in self._ciphers):
            raise SealError("a key id must have 24 hex digits")
        self._newest = max(self._ciphers)

    @classmethod
    def load(cls, folder: Path) -> LocalCipher:
        """Read the `<id>.local.key` files of a service's own folder."""
        return cls(_local_keys(folder), folder=folder)

    @property
    def newest(self) -> str:
        """The id of the key that encrypts, from this process's start to its end."""
        return self._newest.hex()

    @property
    def older(self) -> list[str]:
        """The ids of the other keys that it opens with."""
        return [key_id.hex() for key_id in self._ciphers if key_id != self._newest]

    def encrypt(self, plaintext: bytes, *, table: str, column: str, row: str) -> bytes:
        """Encrypt for one place; at most 2^32 times a key, by the random nonce's bound."""
        nonce = secrets.token_bytes(_NONCE)
        sealed = self._ciphers[self._newest].encrypt(nonce, plaintext, _place(table, column, row))
        return _VERSION + self._newest + nonce + sealed

    def decrypt(self, blob: bytes, *, table: str, column: str, row: str) -> bytes:
        """Decrypt what was encrypted for the same place; raises SealError."""
        cipher = self._find(_key_id(blob))
        nonce, sealed = blob[_HEAD : _HEAD + _NONCE], blob[_HEAD + _NONCE :]
        try:
            return cipher.decrypt(nonce, sealed, _place(table, column, row))
        except (InvalidTag, ValueError):
            raise SealError("does not open: damaged, or from another row") from None

    def _find(self, key_id: bytes) -> AESGCM:
        """A key that is not known may be newer than this process: the folder is read again."""
        if key_id not in self._ciphers and self._folder is not None:
            for found, key in _local_keys(self._folder).items():
                self._ciphers.setdefault(bytes.fromhex(found), AESGCM(key))
        try:
            return self._ciphers[key_id]
        except KeyError:
            raise SealError(f"encrypted with an unknown key {key_id.hex()}") from None

    def reencrypt(self, blob: bytes, *, table: str, column: str, row: str) -> bytes:
        """Return the same secret under the newest key."""
        plaintext = self.decrypt(blob, table=table, column=column, row=row)
        return self.encrypt(plaintext, table=table, column=column, row=row)


def _local_keys(folder: Path) -> dict[str, bytes]:
    found = find(folder, ".local.key")
    return {key_id: base64.b64decode(path.read_bytes()) for key_id, path in found.items()}


def _key_id(blob: bytes) -> bytes:
    if not blob.startswith(_VERSION) or len(blob) < _HEAD + _NONCE:
        raise SealError("not an encrypted blob")
    return blob[len(_VERSION) : _HEAD]


def _place(table: str, column: str, row: str) -> bytes:
    parts = [part.encode() for part in (table, column, row)]
    return b"muster local 1" + b"".join(len(part).to_bytes(2, "big") + part for part in parts)
