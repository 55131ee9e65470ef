"""SecurityInfo (schema: mdm/commands/information.security.yaml)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from services.inventory.apple.values import Take, count, dictionary, flag, take, text
from services.inventory.readings import Reading

_INFO: Final[Mapping[str, tuple[str, Take]]] = {
    "PasscodePresent": ("passcode.present", flag),
    "PasscodeCompliant": ("passcode.compliant", flag),
    "PasscodeCompliantWithProfiles": ("passcode.compliant_with_profiles", flag),
    "HardwareEncryptionCaps": ("encryption.hardware", count),
    "FDE_Enabled": ("filevault.enabled", flag),
    "FDE_HasPersonalRecoveryKey": ("filevault.personal_key", flag),
    "FDE_HasInstitutionalRecoveryKey": ("filevault.institutional_key", flag),
    "SystemIntegrityProtectionEnabled": ("sip.enabled", flag),
    "AuthenticatedRootVolumeEnabled": ("root_volume.authenticated", flag),
    "IsRecoveryLockEnabled": ("recovery_lock.enabled", flag),
    "RemoteDesktopEnabled": ("remote_desktop.enabled", flag),
    "BootstrapTokenAllowedForAuthentication": ("bootstrap_token.allowed", text),
    "BootstrapTokenRequiredForSoftwareUpdate": ("bootstrap_token.required", flag),
}
_NESTED: Final[Mapping[str, Mapping[str, tuple[str, Take]]]] = {
    "FirewallSettings": {
        "FirewallEnabled": ("firewall.enabled", flag),
        "BlockAllIncoming": ("firewall.block_all", flag),
        "StealthMode": ("firewall.stealth", flag),
    },
    "FirmwarePasswordStatus": {"PasswordExists": ("firmware_password.present", flag)},
    "SecureBoot": {
        "SecureBootLevel": ("secure_boot.level", text),
        "ExternalBootLevel": ("secure_boot.external", text),
    },
    "ManagementStatus": {
        "EnrolledViaDEP": ("management.enrolled_by_ade", flag),
        "UserApprovedEnrollment": ("management.user_approved", flag),
        "IsUserEnrollment": ("management.user_enrollment", flag),
        "IsActivationLockManageable": ("management.activation_lock", flag),
    },
}
_BLOCK_AND_FILE: Final = 3


def read(answer: Mapping[str, Any]) -> Reading:
    info = dictionary(answer, "SecurityInfo")
    facts, ignored = take(info, _INFO)
    for name, wanted in _NESTED.items():
        more, ignored_more = take(info.get(name), wanted)
        facts |= more
        ignored += ignored_more
    encrypted = _encrypted(facts)
    if encrypted is not None:
        facts["encryption.enabled"] = encrypted
    return Reading(facts, ignored=ignored)


def _encrypted(facts: Mapping[str, Any]) -> bool | None:
    """Whether data at rest is protected; None while the answer does not decide it.

    macOS: FileVault. Others: "for a device to have data protection, HardwareEncryptionCaps must be
    3 and PasscodePresent must be true" (information.security.yaml).
    """
    if "filevault.enabled" in facts:
        return bool(facts["filevault.enabled"])
    hardware = facts.get("encryption.hardware")
    passcode = facts.get("passcode.present")
    if hardware is not None and hardware != _BLOCK_AND_FILE:
        return False
    if passcode is False and hardware is not None:
        return False
    return True if hardware is not None and passcode else None
