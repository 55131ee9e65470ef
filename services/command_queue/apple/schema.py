"""What the named Apple commands may hold: keys, types, presence and choices.

Facts of Apple's device-management schema, release 18.1 (mdm/commands/*.yaml). A body that cannot be
valid is refused when it is asked for: on the device it would block everything behind it
(apple.md §1.3).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

PIN: Final = re.compile(r"[0-9]{6}")
_TEXT_LIMIT: Final = 4000


class BodyError(ValueError):
    """The command cannot be valid on any device; the message names key and fault, never a value."""


def words(text: str) -> frozenset[str]:
    """Names parted by white space, as the allow-lists of this folder are written."""
    return frozenset(text.split())


@dataclass(frozen=True, slots=True)
class Key:
    """One key of a command: its Python type after parsing, and what narrows it."""

    kind: type
    required: bool = False
    choices: frozenset[str] | None = None
    pattern: re.Pattern[str] | None = None
    items: type | None = None
    item_choices: frozenset[str] | None = None
    keys: Mapping[str, Key] | None = None
    not_empty: bool = False


_FLAG: Final = Key(bool)
_TEXT: Final = Key(str)

# mdm/commands/application.installed.list.yaml, Items.
APPLICATION_ITEMS: Final = words(
    """
    AdHocCodeSigned AppStoreVendable BetaApp BundleSize DeviceBasedVPP DistributorIdentifier
    DynamicSize ExternalVersionIdentifier HasUpdateAvailable Identifier Installing IsAppClip
    IsValidated Name ShortVersion Version
    """
)
OBLITERATION: Final = frozenset({"Default", "DoNotObliterate", "ObliterateWithWarning", "Always"})

COMMANDS: Final[Mapping[str, Mapping[str, Key]]] = {
    "DeviceInformation": {
        "Queries": Key(list, required=True, items=str, not_empty=True),
        "DeviceAttestationNonce": Key(bytes),
    },
    "SecurityInfo": {},
    "InstalledApplicationList": {
        "Identifiers": Key(list, items=str),
        "ManagedAppsOnly": _FLAG,
        "Items": Key(list, items=str, item_choices=APPLICATION_ITEMS),
    },
    "ProfileList": {"ManagedOnly": _FLAG},
    "CertificateList": {"ManagedOnly": _FLAG},
    "InstallProfile": {"Payload": Key(bytes, required=True, not_empty=True)},
    "RemoveProfile": {"Identifier": Key(str, required=True, not_empty=True)},
    "DeviceLock": {"Message": _TEXT, "PhoneNumber": _TEXT, "PIN": Key(str, pattern=PIN)},
    "EraseDevice": {
        "PreserveDataPlan": _FLAG,
        "DisallowProximitySetup": _FLAG,
        "PIN": Key(str, pattern=PIN),
        "ObliterationBehavior": Key(str, choices=OBLITERATION),
        "ReturnToService": Key(
            dict,
            keys={
                "Enabled": Key(bool, required=True),
                "WiFiProfileData": Key(bytes),
                "MDMProfileData": Key(bytes),
            },
        ),
    },
    "ClearPasscode": {"UnlockToken": Key(bytes, not_empty=True)},
    "RestartDevice": {
        "RebuildKernelCache": _FLAG,
        "KextPaths": Key(list, items=str),
        "NotifyUser": _FLAG,
    },
    "ShutDownDevice": {},
    "EnableLostMode": {"Message": _TEXT, "PhoneNumber": _TEXT, "Footnote": _TEXT},
    "DisableLostMode": {},
    "PlayLostModeSound": {},
}
# One of these keys at least must be given (mdm/commands/device.lostmode.enable.yaml).
_ONE_OF: Final[Mapping[str, tuple[str, ...]]] = {"EnableLostMode": ("Message", "PhoneNumber")}


def check(command: Mapping[str, Any]) -> bool:
    """Check a Command dictionary against what is known of its RequestType.

    Returns whether everything in it is known: False for another RequestType or an unknown key.
    Raises BodyError for what no device could accept.
    """
    request_type = command.get("RequestType")
    if not isinstance(request_type, str) or not request_type:
        raise BodyError("RequestType: missing")
    keys = COMMANDS.get(request_type)
    if keys is None:
        return False
    wanted = _ONE_OF.get(request_type, ())
    if wanted and not any(command.get(name) for name in wanted):
        raise BodyError(f"{request_type}: needs {' or '.join(wanted)}")
    return _check_keys({k: v for k, v in command.items() if k != "RequestType"}, keys, request_type)


def _check_keys(values: Mapping[str, Any], keys: Mapping[str, Key], where: str) -> bool:
    for name, key in keys.items():
        if key.required and name not in values:
            raise BodyError(f"{where}.{name}: missing")
    for name, value in values.items():
        if name in keys:
            _check_value(value, keys[name], f"{where}.{name}")
    nested = (
        _check_keys(values[name], key.keys, f"{where}.{name}")
        for name, key in keys.items()
        if key.keys is not None and name in values
    )
    # A list: every branch is checked, also behind an unknown key.
    return values.keys() <= keys.keys() and all([*nested])


def _check_value(value: Any, key: Key, where: str) -> None:
    if type(value) is not key.kind:
        raise BodyError(f"{where}: must be of type {key.kind.__name__}")
    if key.not_empty and not value:
        raise BodyError(f"{where}: must not be empty")
    if isinstance(value, str):
        _check_text(value, key, where)
    if key.items is not None and isinstance(value, list):
        for item in value:
            if type(item) is not key.items:
                raise BodyError(f"{where}: holds something else than {key.items.__name__}")
            if key.item_choices is not None and item not in key.item_choices:
                raise BodyError(f"{where}: holds an unknown name")


def _check_text(value: str, key: Key, where: str) -> None:
    if len(value) > _TEXT_LIMIT:
        raise BodyError(f"{where}: too long")
    if key.choices is not None and value not in key.choices:
        raise BodyError(f"{where}: must be one of {', '.join(sorted(key.choices))}")
    if key.pattern is not None and key.pattern.fullmatch(value) is None:
        raise BodyError(f"{where}: must be six digits")
