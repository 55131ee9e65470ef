"""What lies encrypted in the tables of push_notifier, under its local keys."""

from __future__ import annotations

from typing import Final

from shared.sealed import EncryptedColumn

ENCRYPTED: Final = (
    EncryptedColumn("certificate_request", "key", "request_id::text"),
    EncryptedColumn("push_certificate", "key", "topic"),
    EncryptedColumn("former_push_certificate", "key", "fingerprint"),
)
