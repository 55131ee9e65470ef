"""Whether a target can take a command at all, as far as is known of it.

Facts of Apple's schema, release 18.1 (`supportedOS` of mdm/commands/*.yaml). What is not known of a
target never speaks against it: then the device decides.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final

# Access rights bits (profiles/com.apple.mdm.yaml, AccessRights).
INSPECT_PROFILES: Final = 1
INSTALL_PROFILES: Final = 2
LOCK_AND_CLEAR: Final = 4
ERASE: Final = 8
QUERY_APPLICATIONS: Final = 256
QUERY_SECURITY: Final = 1024

_NUMBER: Final = re.compile(r"[0-9]{1,6}")


@dataclass(frozen=True, slots=True)
class Rule:
    """Where a command works: lowest OS by platform, and what else it needs."""

    systems: Mapping[str, tuple[int, ...]]
    right: int = 0
    supervised: frozenset[str] = frozenset()
    user_enrollment: bool | frozenset[str] = True
    user_channel: frozenset[str] = frozenset()
    shared_ipad: bool = True


@dataclass(frozen=True, slots=True)
class Target:
    """What is known of a target; None: not known."""

    platform: str | None
    os_version: str | None
    ownership: str | None
    mode: str
    supervised: bool | None
    access_rights: int | None
    user_channel: bool


_EVERYWHERE: Final = {
    "ios": (4,),
    "macos": (10, 7),
    "tvos": (9,),
    "visionos": (1, 1),
    "watchos": (10,),
}
_BOTH: Final = frozenset({"ios", "macos", "tvos", "visionos", "watchos"})
_MAC: Final = frozenset({"macos"})
_POWER: Final = frozenset({"ios", "tvos"})
_IOS: Final = frozenset({"ios"})
_LOST: Final = Rule({"ios": (9, 3)}, supervised=_IOS, user_enrollment=False)

RULES: Final[Mapping[str, Rule]] = {
    "DeviceInformation": Rule(_EVERYWHERE, user_channel=_BOTH),
    "SecurityInfo": Rule(_EVERYWHERE, QUERY_SECURITY, user_channel=_MAC),
    "InstalledApplicationList": Rule(
        {**_EVERYWHERE, "ios": (5,), "tvos": (10, 2)},
        QUERY_APPLICATIONS,
        user_enrollment=frozenset({"ios", "visionos"}),
        user_channel=_MAC,
    ),
    "ProfileList": Rule(_EVERYWHERE, INSPECT_PROFILES, user_channel=_BOTH),
    "CertificateList": Rule(_EVERYWHERE, INSPECT_PROFILES, user_channel=_MAC),
    "InstallProfile": Rule(_EVERYWHERE, INSTALL_PROFILES, user_channel=_BOTH),
    "RemoveProfile": Rule(_EVERYWHERE, INSTALL_PROFILES, user_channel=_BOTH),
    "DeviceLock": Rule(
        {"ios": (4,), "macos": (10, 7), "visionos": (2,), "watchos": (10,)},
        LOCK_AND_CLEAR,
        user_enrollment=frozenset({"ios", "visionos"}),
    ),
    "EraseDevice": Rule({**_EVERYWHERE, "tvos": (10, 2)}, ERASE, user_enrollment=False),
    "ClearPasscode": Rule(
        {"ios": (4,), "visionos": (1, 1), "watchos": (10,)},
        LOCK_AND_CLEAR,
        user_enrollment=False,
        shared_ipad=False,
    ),
    "RestartDevice": Rule(
        {"ios": (10, 3), "macos": (10, 13), "tvos": (10, 2)},
        LOCK_AND_CLEAR,
        supervised=_POWER,
        user_enrollment=False,
    ),
    "ShutDownDevice": Rule(
        {"ios": (10, 3), "macos": (10, 13)},
        LOCK_AND_CLEAR,
        supervised=_POWER,
        user_enrollment=False,
    ),
    "EnableLostMode": _LOST,
    "DisableLostMode": _LOST,
    "PlayLostModeSound": replace(_LOST, systems={"ios": (10, 3)}),
}


def traits(target: Target) -> int:
    """Return a number (64 bits, signed) that stands for everything that is known of a target."""
    digest = hashlib.blake2b(repr(target).encode(), digest_size=8).digest()
    return int.from_bytes(digest, signed=True)


def why_not(request_type: str, target: Target) -> str | None:
    """Say why the target cannot take the command; None: it can, as far as is known."""
    if target.platform in {"windows", "android"}:
        return f"not eligible: {target.platform} has no translation of this command"
    if request_type == "EraseDevice" and target.ownership == "personal":
        return "not eligible: personal devices are never erased"
    rule = RULES.get(request_type)
    if rule is None:
        return None
    system = "ios" if target.platform == "ipados" else target.platform
    if system is None or system == "unknown":
        return _rights(rule, target)
    return (
        _platform(rule, system, target)
        or _enrollment(rule, system, target)
        or _rights(rule, target)
    )


def _platform(rule: Rule, system: str, target: Target) -> str | None:
    lowest = rule.systems.get(system)
    if lowest is None:
        return f"not eligible: {system} does not know this command"
    version = _version(target.os_version)
    if version is not None and version < lowest:
        return f"not eligible: needs {system} {'.'.join(map(str, lowest))} or newer"
    return None


def _enrollment(rule: Rule, system: str, target: Target) -> str | None:
    if target.user_channel and system not in rule.user_channel:
        return "not eligible: the device channel only"
    if system in rule.supervised and target.supervised is False:
        return "not eligible: needs a supervised device"
    if target.mode == "user" and not (
        rule.user_enrollment is True
        or (rule.user_enrollment is not False and system in rule.user_enrollment)
    ):
        return "not eligible: forbidden in a user enrollment"
    if target.mode == "shared_ipad" and not rule.shared_ipad:
        return "not eligible: forbidden on a Shared iPad"
    return None


def _rights(rule: Rule, target: Target) -> str | None:
    # A user enrollment's profile carries no AccessRights: the mode decides what is allowed.
    if target.access_rights is None or target.mode == "user":
        return None
    if rule.right & ~target.access_rights:
        return f"not eligible: the enrollment lacks access right {rule.right}"
    return None


def _version(text: str | None) -> tuple[int, ...] | None:
    parts = (text or "").split(".")[:4]
    if not all(_NUMBER.fullmatch(part) for part in parts):
        return None
    return tuple(int(part) for part in parts)
