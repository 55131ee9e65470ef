"""The document a device is sent: {CommandUUID, Command{RequestType, …}}."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final
from uuid import UUID

from services.command_queue.apple.schema import BodyError
from services.command_queue.errors import CommandRefused
from shared.apple import plist

MAX_RAW: Final = 12 * 1024 * 1024
_LIMITS: Final = plist.Limits(max_bytes=MAX_RAW, max_depth=32, max_nodes=100_000)


def render(command: Mapping[str, Any], command_id: UUID) -> bytes:
    """Write the document; the CommandUUID on the wire is the command's own id.

    Raises CommandRefused for texts that XML cannot hold.
    """
    try:
        return plist.dump({"Command": dict(command), "CommandUUID": str(command_id)})
    except plist.PlistError as error:
        detail = f"the command cannot be written: {error.reason}"
        raise CommandRefused("body_invalid", detail) from None


def with_unlock_token(document: bytes, token: bytes) -> bytes:
    """Add the device's UnlockToken to a rendered ClearPasscode."""
    parsed = plist.parse(document)
    parsed["Command"]["UnlockToken"] = token
    return plist.dump(parsed)


def read_raw(payload: bytes) -> dict[str, Any]:
    """Read what a person wants to send as it is: a whole document, or the Command inside it.

    A CommandUUID of theirs is dropped. Raises BodyError.
    """
    try:
        parsed = plist.parse(payload, limits=_LIMITS)
    except plist.PlistError as error:
        raise BodyError(f"payload: {error.reason}") from None
    if "RequestType" in parsed:
        return parsed
    command = parsed.get("Command")
    if not isinstance(command, dict) or parsed.keys() - {"Command", "CommandUUID"}:
        raise BodyError("payload: must hold Command with a RequestType, and nothing beside it")
    return command
