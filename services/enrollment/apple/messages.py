"""Check-in messages (Apple's "Check-in" schema; reference/apple.md §1.2): from plist to values.

Identifiers and secrets are checked and refused; names that people chose are cleaned instead, for a
long or odd device name must not keep a device out. Secrets stay out of every repr.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from shared.apple import plist
from shared.apple.identifiers import Channel, IdentifierError, channel_of

LIMITS: Final = plist.Limits(max_bytes=4 * 1024 * 1024, max_depth=8, max_nodes=500)
"""A status report travels as data in a check-in, so these bodies may be long, but never deep."""

_TEXT_LENGTH: Final = 255
_PUSH_TOKEN: Final = 256
_BOOTSTRAP_TOKEN: Final = 64 * 1024
_UNLOCK_TOKEN: Final = 64 * 1024
_DIGEST: Final = 4096
_SECURITY_TOKEN: Final = 16 * 1024
_STATUS: Final = 3 * 1024 * 1024
_TOPIC: Final = re.compile(r"[A-Za-z0-9.\-]{1,255}")
_SERVICE_TYPE: Final = re.compile(r"[a-z0-9.\-]{1,100}")
_ENDPOINT: Final = re.compile(r"[A-Za-z0-9._~:@%/\-]{1,300}")


class MessageError(ValueError):
    """The body is no check-in message that Muster knows; `reason` is short and safe to log."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass(frozen=True)
class Authenticate:
    channel: Channel
    topic: str
    device_name: str | None
    model_name: str | None
    model: str | None
    os_version: str | None
    build_version: str | None
    product_name: str | None
    serial_number: str | None
    imei: str | None
    meid: str | None


@dataclass(frozen=True)
class TokenUpdate:
    """`unlock_token` None: the device said nothing of it, a stored one stays."""

    channel: Channel
    topic: str
    token: bytes = field(repr=False)
    push_magic: str = field(repr=False)
    unlock_token: bytes | None = field(repr=False)
    awaiting_configuration: bool
    user_short_name: str | None
    user_long_name: str | None


@dataclass(frozen=True)
class CheckOut:
    channel: Channel
    topic: str


@dataclass(frozen=True)
class SetBootstrapToken:
    """`token` None: the stored one is to be deleted (absent and empty mean the same)."""

    channel: Channel
    token: bytes | None = field(repr=False)
    awaiting_configuration: bool


@dataclass(frozen=True)
class GetBootstrapToken:
    channel: Channel
    awaiting_configuration: bool


@dataclass(frozen=True)
class UserAuthenticate:
    """The first call has no digest response, the second one has."""

    channel: Channel
    user_short_name: str | None
    user_long_name: str | None
    digest_response: str | None = field(repr=False)


@dataclass(frozen=True)
class GetToken:
    channel: Channel
    service_type: str
    security_token: str | None = field(repr=False)
    phone_udid: str | None
    watch_udid: str | None


@dataclass(frozen=True)
class ReturnToService:
    channel: Channel


@dataclass(frozen=True)
class DeclarativeManagement:
    """`data` is the JSON of a status report, unread."""

    channel: Channel
    endpoint: str
    data: bytes | None


Message = (
    Authenticate
    | TokenUpdate
    | CheckOut
    | SetBootstrapToken
    | GetBootstrapToken
    | UserAuthenticate
    | GetToken
    | ReturnToService
    | DeclarativeManagement
)


def parse(body: Mapping[str, Any]) -> Message:
    """Read a parsed property list as a check-in message; raises MessageError."""
    kind = body.get("MessageType")
    reader = _READERS.get(kind) if isinstance(kind, str) else None
    if reader is None:
        raise MessageError("no known MessageType")
    try:
        channel = channel_of(body)
    except IdentifierError as error:
        raise MessageError(error.reason) from None
    if channel.is_user and kind in _DEVICE_ONLY:
        raise MessageError(f"{kind} comes from the device channel only")
    return reader(body, channel)


def bootstrap_token(token: bytes | None) -> bytes:
    """Answer GetBootstrapToken; none stored is no error, and an empty body."""
    return plist.dump({"BootstrapToken": token}) if token else b""


def no_return_to_service() -> bytes:
    """Answer ReturnToService: a server that is not set up for it must say so."""
    return plist.dump({"ReturnToService": {"Enabled": False}})


def _authenticate(body: Mapping[str, Any], channel: Channel) -> Authenticate:
    return Authenticate(
        channel=channel,
        topic=_topic(body),
        device_name=_text(body, "DeviceName"),
        model_name=_text(body, "ModelName"),
        model=_text(body, "Model"),
        os_version=_text(body, "OSVersion"),
        build_version=_text(body, "BuildVersion"),
        product_name=_text(body, "ProductName"),
        serial_number=_text(body, "SerialNumber"),
        imei=_text(body, "IMEI"),
        meid=_text(body, "MEID"),
    )


def _token_update(body: Mapping[str, Any], channel: Channel) -> TokenUpdate:
    magic = body.get("PushMagic")
    if not isinstance(magic, str) or not magic.isprintable() or not 1 <= len(magic) <= _TEXT_LENGTH:
        raise MessageError("bad PushMagic")
    unlock = _data(body, "UnlockToken", _UNLOCK_TOKEN)
    return TokenUpdate(
        channel=channel,
        topic=_topic(body),
        token=_required(_data(body, "Token", _PUSH_TOKEN), "Token"),
        push_magic=magic,
        # A user has none: an unlock token of theirs would overwrite the device's.
        unlock_token=None if channel.is_user else unlock,
        awaiting_configuration=_flag(body, "AwaitingConfiguration"),
        user_short_name=_text(body, "UserShortName"),
        user_long_name=_text(body, "UserLongName"),
    )


def _check_out(body: Mapping[str, Any], channel: Channel) -> CheckOut:
    return CheckOut(channel, _topic(body))


def _set_bootstrap_token(body: Mapping[str, Any], channel: Channel) -> SetBootstrapToken:
    token = _data(body, "BootstrapToken", _BOOTSTRAP_TOKEN)
    return SetBootstrapToken(channel, token, _flag(body, "AwaitingConfiguration"))


def _get_bootstrap_token(body: Mapping[str, Any], channel: Channel) -> GetBootstrapToken:
    return GetBootstrapToken(channel, _flag(body, "AwaitingConfiguration"))


def _user_authenticate(body: Mapping[str, Any], channel: Channel) -> UserAuthenticate:
    if not channel.is_user:
        raise MessageError("UserAuthenticate names no user")
    return UserAuthenticate(
        channel=channel,
        user_short_name=_text(body, "UserShortName"),
        user_long_name=_text(body, "UserLongName"),
        digest_response=_bounded(body, "DigestResponse", _DIGEST),
    )


def _get_token(body: Mapping[str, Any], channel: Channel) -> GetToken:
    parameters = body.get("TokenParameters", {})
    if not isinstance(parameters, Mapping):
        raise MessageError("bad TokenParameters")
    return GetToken(
        channel=channel,
        service_type=_matching(body, "TokenServiceType", _SERVICE_TYPE),
        security_token=_bounded(parameters, "SecurityToken", _SECURITY_TOKEN),
        phone_udid=_bounded(parameters, "PhoneUDID", _TEXT_LENGTH),
        watch_udid=_bounded(parameters, "WatchUDID", _TEXT_LENGTH),
    )


def _return_to_service(_body: Mapping[str, Any], channel: Channel) -> ReturnToService:
    return ReturnToService(channel)


def _declarative_management(body: Mapping[str, Any], channel: Channel) -> DeclarativeManagement:
    endpoint = _matching(body, "Endpoint", _ENDPOINT)
    return DeclarativeManagement(channel, endpoint, _data(body, "Data", _STATUS))


_READERS: Final[Mapping[str, Callable[[Mapping[str, Any], Channel], Message]]] = {
    "Authenticate": _authenticate,
    "TokenUpdate": _token_update,
    "CheckOut": _check_out,
    "SetBootstrapToken": _set_bootstrap_token,
    "GetBootstrapToken": _get_bootstrap_token,
    "UserAuthenticate": _user_authenticate,
    "GetToken": _get_token,
    "ReturnToService": _return_to_service,
    "DeclarativeManagement": _declarative_management,
}
_DEVICE_ONLY: Final = frozenset(
    {
        *("Authenticate", "CheckOut", "SetBootstrapToken", "GetBootstrapToken"),
        "ReturnToService",
    }
)


def _topic(body: Mapping[str, Any]) -> str:
    return _matching(body, "Topic", _TOPIC)


def _matching(body: Mapping[str, Any], key: str, pattern: re.Pattern[str]) -> str:
    value = body.get(key)
    if not isinstance(value, str) or pattern.fullmatch(value) is None:
        raise MessageError(f"bad {key}")
    return value


def _text(body: Mapping[str, Any], key: str) -> str | None:
    value = body.get(key)
    if value is None:
        return None
    if not isinstance(value, str):
        raise MessageError(f"bad {key}")
    return cleaned(value)


def cleaned(text: str) -> str | None:
    """Return a text for people: control characters dropped, cut at 255; empty counts as absent."""
    if not text.isprintable():  # else there is nothing to drop
        text = "".join(
            letter
            for letter in text[: 4 * _TEXT_LENGTH]
            if unicodedata.category(letter) not in {"Cc", "Cs"}
        )
    return text[:_TEXT_LENGTH].strip() or None


def _bounded(body: Mapping[str, Any], key: str, length: int) -> str | None:
    value = body.get(key)
    if value is not None and (not isinstance(value, str) or len(value) > length):
        raise MessageError(f"bad {key}")
    return value


def _data(body: Mapping[str, Any], key: str, length: int) -> bytes | None:
    """Return bytes, None when absent or empty."""
    value = body.get(key)
    if value is not None and (not isinstance(value, bytes) or len(value) > length):
        raise MessageError(f"bad {key}")
    return value or None


def _required(value: bytes | None, key: str) -> bytes:
    if value is None:
        raise MessageError(f"bad {key}")
    return value


def _flag(body: Mapping[str, Any], key: str) -> bool:
    value = body.get(key, False)
    if not isinstance(value, bool):
        raise MessageError(f"bad {key}")
    return value
