"""What a command can do, by allow-list on its decoded tree (security.md, The guard).

What is not named here as harmless or disruptive is destructive.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from services.command_queue.apple import profiles, schema
from services.command_queue.apple.schema import words
from shared.events.commands import CommandClass

_HARMLESS: Final = words(
    """
    ActiveNSExtensions AvailableOSUpdates CertificateList ContentCachingInformation
    DeviceInformation InstalledApplicationList ManagedApplicationAttributes
    ManagedApplicationFeedback ManagedApplicationList ManagedMediaList NSExtensionMappings
    OSUpdateStatus ProfileList ProvisioningProfileList Restrictions ScheduleOSUpdateScan
    SecurityInfo UserList
    """
)
_DISRUPTIVE: Final = words(
    """
    ClearPasscode DeviceConfigured DeviceLocation DeviceLock DisableLostMode EnableLostMode
    InstallApplication InstallProfile LogOutUser PlayLostModeSound RemoveApplication
    RemoveProfile RestartDevice ShutDownDevice UserConfigured
    """
)
# What does something once and is over. All else leaves a device changed: trust, network, passcode,
# apps, scripts, and whatever nobody has heard of.
_ACTS: Final = _HARMLESS | words(
    """
    ClearPasscode DeviceConfigured DeviceLocation DeviceLock DisableLostMode EnableLostMode
    EraseDevice LogOutUser PlayLostModeSound RestartDevice ShutDownDevice UserConfigured
    """
)
# Keys of the commands above that `schema` does not check further (release 18.1).
_OTHER_KEYS: Final[Mapping[str, frozenset[str]]] = {
    "ActiveNSExtensions": frozenset({"FilterExtensionPoints"}),
    "InstallApplication": words(
        """
    iTunesStoreID Identifier Options ManifestURL ManagementFlags Configuration Attributes
    ChangeManagementState InstallAsManaged iOSApp
    """
    ),
    "ManagedApplicationAttributes": frozenset({"Identifiers"}),
    "ManagedApplicationFeedback": frozenset({"Identifiers"}),
    "ManagedApplicationList": frozenset({"Identifiers"}),
    "ProvisioningProfileList": frozenset({"ManagedOnly"}),
    "RemoveApplication": frozenset({"Identifier"}),
    "Restrictions": frozenset({"ProfileRestrictions"}),
    "ScheduleOSUpdateScan": frozenset({"Force"}),
}


@dataclass(frozen=True, slots=True)
class Judgement:
    """A command's class, the profile it carries or removes, and whether it changes a device in a
    way that is tried on a few first.
    """

    command_class: CommandClass
    profile: profiles.Profile | None = None
    removes: str | None = None
    change: bool = False


def judge(command: Mapping[str, Any]) -> Judgement:
    """Class a Command dictionary by its own content; raises BodyError when it cannot be valid.

    Removing a profile counts as disruptive here: whether Muster installed it is not in the tree.
    """
    all_known = schema.check(command)
    request_type: str = command["RequestType"]
    profile = None
    if request_type == "InstallProfile":
        profile = profiles.read(command["Payload"])
    removes = command["Identifier"] if request_type == "RemoveProfile" else None
    command_class = _class_of(command, profile, all_known=all_known)
    change = request_type not in _ACTS and command_class is not CommandClass.HARMLESS
    return Judgement(command_class, profile, removes, change)


def _class_of(
    command: Mapping[str, Any], profile: profiles.Profile | None, *, all_known: bool
) -> CommandClass:
    request_type: str = command["RequestType"]
    if request_type not in _HARMLESS | _DISRUPTIVE:
        return CommandClass.DESTRUCTIVE
    if not all_known and not _only_other_keys(command):
        return CommandClass.DESTRUCTIVE
    if request_type == "DeviceLock" and "PIN" in command:
        return CommandClass.DESTRUCTIVE  # on a Mac it locks the firmware until the PIN is typed
    if profile is not None:
        return profile.command_class
    return CommandClass.HARMLESS if request_type in _HARMLESS else CommandClass.DISRUPTIVE


def _only_other_keys(command: Mapping[str, Any]) -> bool:
    """Whether a command without a schema holds known keys only: an unknown one changes it."""
    request_type: str = command["RequestType"]
    known = _OTHER_KEYS.get(request_type, frozenset())
    return request_type not in schema.COMMANDS and command.keys() <= known | {"RequestType"}
