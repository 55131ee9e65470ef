"""What lies encrypted in the tables of the console, under its local keys."""

from __future__ import annotations

from typing import Final

from shared.sealed import WEBHOOK_KEYS, EncryptedColumn

ENCRYPTED: Final = (
    EncryptedColumn("totp", "secret", "account_id::text"),
    EncryptedColumn("totp", "offered", "account_id::text", place=("totp", "secret")),
    EncryptedColumn("identity_provider", "client_secret", "provider_id::text"),
    EncryptedColumn("webhook", "secret", "webhook_id::text", keys=WEBHOOK_KEYS),
)
