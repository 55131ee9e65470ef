"""Secrets: sealed to one service for travel (HPKE), or encrypted by a service for itself.

A sealed secret names the key, the purpose and the device it was sealed for; it opens only under the
same. Keys are files: private ones in a service's own folder, public halves in one folder for all.
"""

from __future__ import annotations

from shared.sealed.columns import EncryptedColumn
from shared.sealed.keys import (
    WEBHOOK_KEYS,
    audit_key,
    ensure_service_keys,
    rotate_service_keys,
    token_key,
)
from shared.sealed.local import LocalCipher
from shared.sealed.sealing import Keyring, PublicKey, PublicKeys, SealError

__all__ = [
    "WEBHOOK_KEYS",
    "EncryptedColumn",
    "Keyring",
    "LocalCipher",
    "PublicKey",
    "PublicKeys",
    "SealError",
    "audit_key",
    "ensure_service_keys",
    "rotate_service_keys",
    "token_key",
]
