"""Who speaks: the identifiers of a check-in or connect body, as columns.

Rules of Apple's "Check-in" and "User Enrollment" pages (reference/apple.md §1.2): UDID wins over
EnrollmentID, and a Shared iPad names its user by UserShortName behind an all-F UserID. The columns
are never joined into one string: a crafted UserID must not be able to name another channel.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

SHARED_IPAD_USER_ID: Final = "FFFFFFFF-FFFF-FFFF-FFFF-FFFFFFFFFFFF"

_MACHINE_ID: Final = re.compile(r"[0-9A-Za-z][0-9A-Za-z._:-]{0,127}")
_NAME_LENGTH: Final = 255

DeviceKind = Literal["udid", "enrollment_id"]
UserKind = Literal["user_id", "short_name", "enrollment_user_id"]


class IdentifierError(ValueError):
    """The body names no channel, or names it with something that cannot be an identifier."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Channel:
    """One channel of one device: the device itself, or a user on it (both user columns set)."""

    device_kind: DeviceKind
    device_key: str
    user_kind: UserKind | None = None
    user_key: str | None = None

    @property
    def is_user(self) -> bool:
        return self.user_key is not None

    @property
    def device(self) -> Channel:
        """The device channel this channel belongs to."""
        return Channel(self.device_kind, self.device_key) if self.is_user else self


def channel_of(body: Mapping[str, Any]) -> Channel:
    """Read the channel from a parsed body, an empty value being an absent one.

    Raises IdentifierError.
    """
    udid = _machine_id(body, "UDID")
    if udid is not None:
        user_id = _machine_id(body, "UserID")
        if user_id is None:
            return Channel("udid", udid)
        if user_id.upper() == SHARED_IPAD_USER_ID:
            return Channel("udid", udid, "short_name", _short_name(body))
        return Channel("udid", udid, "user_id", user_id)
    enrollment_id = _machine_id(body, "EnrollmentID")
    if enrollment_id is None:
        raise IdentifierError("neither UDID nor EnrollmentID")
    user = _machine_id(body, "EnrollmentUserID")
    if user is None:
        return Channel("enrollment_id", enrollment_id)
    return Channel("enrollment_id", enrollment_id, "enrollment_user_id", user)


def _short_name(body: Mapping[str, Any]) -> str:
    """Return a Shared iPad user's Managed Apple Account: printable, at most 255 long."""
    value = body.get("UserShortName")
    if not isinstance(value, str) or not 1 <= len(value) <= _NAME_LENGTH or not value.isprintable():
        raise IdentifierError("a Shared iPad user needs a UserShortName")
    return value


def _machine_id(body: Mapping[str, Any], key: str) -> str | None:
    value = body.get(key)
    if value is None or value == "":
        return None
    if not isinstance(value, str) or _MACHINE_ID.fullmatch(value) is None:
        raise IdentifierError(f"bad {key}")
    return value
