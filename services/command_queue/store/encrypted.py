"""What lies encrypted in the tables of command_queue, under its local keys."""

from __future__ import annotations

from typing import Final

from shared.sealed import EncryptedColumn

_OF_COMMAND: Final = "command_id::text"
# A command's own document, and what each of its targets gets in its place, wherever it waits.
_BODY: Final = ("command", "body")
ENCRYPTED: Final = (
    EncryptedColumn("command", "body", _OF_COMMAND),
    EncryptedColumn("target", "bodies", _OF_COMMAND, place=_BODY, many=True),
    EncryptedColumn("parked", "bodies", _OF_COMMAND, place=_BODY, many=True),
    EncryptedColumn("waiting", "body", _OF_COMMAND, place=_BODY),
    EncryptedColumn("pending", "body", _OF_COMMAND, place=_BODY),
    EncryptedColumn("holding", "salt", _OF_COMMAND),
    EncryptedColumn("request_key", "digest", _OF_COMMAND),
    EncryptedColumn("outcome", "secrets", "command_id || ':' || channel_id"),
    EncryptedColumn("escrow", "sealed", "secret_id::text"),
)
