"""What lies encrypted in the tables of enrollment, under its local keys."""

from __future__ import annotations

from typing import Final

from shared.sealed import EncryptedColumn

_CHANNEL: Final = "enrollment_id || ':' || user_kind || ':' || user_key"
ENCRYPTED: Final = (
    EncryptedColumn("authority", "key", "name"),
    EncryptedColumn("channel", "push", _CHANNEL),
    EncryptedColumn("channel", "unlock_token", _CHANNEL),
    EncryptedColumn("enrollment", "bootstrap_token", "enrollment_id::text"),
)
