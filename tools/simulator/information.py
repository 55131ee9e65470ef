"""DeviceInformation and SecurityInfo: facts of one device under Apple's names and types.

Source of names, types and who answers what: Apple schema, mdm/commands/information.*.yaml.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from typing import Any

from tools.simulator.device import SimulatedDevice

_DEVICE, _NETWORK = 16, 32
Read = Callable[[SimulatedDevice], Any]


def _bootstrap(device: SimulatedDevice) -> dict[str, bool]:
    options = {"ActivationLockAllowedWhileSupervised": False}
    if device.traits.is_mac:
        options["BootstrapTokenAllowed"] = device.managed.bootstrap_token is not None
        options["PromptUserToAllowBootstrapTokenForAuthentication"] = False
    return options


def _subscription(device: SimulatedDevice) -> list[dict[str, Any]]:
    return [
        {
            "CarrierSettingsVersion": "61.0",
            "CurrentCarrierNetwork": "Example Mobile",
            "CurrentMCC": "001",
            "CurrentMNC": "01",
            "ICCID": device.traits.iccid,
            "IMEI": device.traits.imei,
            "IsDataPreferred": True,
            "IsRoaming": False,
            "IsVoicePreferred": True,
            "Label": "Primary",
            "LabelID": device.traits.serial,
            "PhoneNumber": device.traits.phone_number,
            "Slot": "CTSubscriptionSlotOne",
            "SubscriberCarrierNetwork": "Example Mobile",
        }
    ]


def _software_update_id(device: SimulatedDevice) -> str:
    return device.traits.model.product_name


def _host_name(device: SimulatedDevice) -> str:
    return device.traits.device_name.replace("'", "").replace(" ", "-")


_FREELY: dict[str, Read] = {
    "UDID": lambda device: device.udid,
    "MDMOptions": _bootstrap,
    "AwaitingConfiguration": lambda _: False,
    "iTunesStoreAccountIsActive": lambda device: device.traits.random("store").random() < 0.6,  # noqa: PLR2004
    "PushToken": lambda device: device.managed.push.token,
    "SoftwareUpdateDeviceID": _software_update_id,
    "IsSupervised": lambda device: device.traits.supervised,
}
_EVERYWHERE: dict[str, Read] = {
    "DeviceName": lambda device: device.traits.device_name,
    "OSVersion": lambda device: device.traits.release.version,
    "BuildVersion": lambda device: device.traits.release.build,
    "SupplementalBuildVersion": lambda device: device.traits.release.build,
    "ModelName": lambda device: device.traits.model.model_name,
    "Model": lambda device: device.traits.model.model,
    "ModelNumber": lambda device: f"{device.traits.model.model}LL/A",
    "ProductName": lambda device: device.traits.model.product_name,
    "SerialNumber": lambda device: device.traits.serial,
    "DeviceCapacity": lambda device: float(device.traits.capacity),
    "AvailableDeviceCapacity": lambda device: device.state.available,
    "BatteryLevel": lambda device: device.state.battery if device.traits.model.battery else None,
    "IsActivationLockEnabled": lambda _: False,
}
_MOBILE: dict[str, Read] = {
    "CellularTechnology": lambda device: 3 if device.traits.imei else 0,
    "IMEI": lambda device: device.traits.imei,
    "ModemFirmwareVersion": lambda device: "2.01.01" if device.traits.imei else None,
    "IsMultiUser": lambda _: False,
    "IsDeviceLocatorServiceEnabled": lambda _: False,
    "IsDoNotDisturbInEffect": lambda _: False,
    "EASDeviceIdentifier": lambda device: (
        hashlib.sha256(device.udid.encode()).hexdigest()[:26].upper()
    ),
    "IsCloudBackupEnabled": lambda _: False,
    "IsMDMLostModeEnabled": lambda device: device.state.lost,
    "DiagnosticSubmissionEnabled": lambda _: False,
    "AppAnalyticsEnabled": lambda _: False,
    "TimeZone": lambda _: "Europe/Berlin",
}
_MAC: dict[str, Read] = {
    "IsAppleSilicon": lambda _: True,
    "HasBattery": lambda device: device.traits.model.battery,
    "IsActivationLockSupported": lambda _: True,
    "ActiveManagedUsers": lambda device: sorted(device.managed.users),
    "AutoSetupAdminAccounts": lambda _: [],
    "HostName": lambda device: f"{_host_name(device)}.local",
    "LocalHostName": _host_name,
    "SystemIntegrityProtectionEnabled": lambda _: True,
    "SupportsLOMDevice": lambda _: False,
    "PINRequiredForEraseDevice": lambda _: False,
    "PINRequiredForDeviceLock": lambda _: False,
    "SupportsiOSAppInstalls": lambda _: True,
    "EACSPreflight": lambda _: "success",
}
_NETWORK_EVERYWHERE: dict[str, Read] = {
    "BluetoothMAC": lambda device: device.traits.bluetooth_mac,
    "WiFiMAC": lambda device: device.traits.wifi_mac,
}
_NETWORK_MOBILE: dict[str, Read] = {
    "ICCID": lambda device: device.traits.iccid,
    "PhoneNumber": lambda device: device.traits.phone_number,
    "CurrentCarrierNetwork": lambda device: "Example Mobile" if device.traits.imei else None,
    "SubscriberCarrierNetwork": lambda device: "Example Mobile" if device.traits.imei else None,
    "CarrierSettingsVersion": lambda device: "61.0" if device.traits.imei else None,
    "DataRoamingEnabled": lambda device: False if device.traits.imei else None,
    "PersonalHotspotEnabled": lambda device: False if device.traits.imei else None,
    "IsNetworkTethered": lambda _: False,
    "IsRoaming": lambda device: False if device.traits.imei else None,
    "ServiceSubscriptions": lambda device: _subscription(device) if device.traits.imei else None,
}
_NETWORK_MAC: dict[str, Read] = {
    "EthernetMAC": lambda device: device.traits.wifi_mac,
}


def device_information(device: SimulatedDevice, queries: list[str]) -> dict[str, Any]:
    """QueryResponses: what was asked and this device answers under its access rights.

    Anything else stays away, as on a real device: a missing key means "not answered".
    """
    known = _readers(device)
    answers = {query: known[query](device) for query in queries if query in known}
    return {query: answer for query, answer in answers.items() if answer is not None}


def _readers(device: SimulatedDevice) -> Mapping[str, Read]:
    rights, mac = device.managed.mdm.access_rights, device.traits.is_mac
    readers = dict(_FREELY)
    if rights & _DEVICE:
        readers |= _EVERYWHERE | (_MAC if mac else _MOBILE)
    if rights & _NETWORK:
        readers |= _NETWORK_EVERYWHERE | (_NETWORK_MAC if mac else _NETWORK_MOBILE)
    return readers


def security_info(device: SimulatedDevice) -> dict[str, Any]:
    return _mac_security(device) if device.traits.is_mac else _mobile_security(device)


def _mobile_security(device: SimulatedDevice) -> dict[str, Any]:
    return {
        # 3: block-level and file-level encryption.
        "HardwareEncryptionCaps": 3,
        "PasscodePresent": device.state.passcode_present,
        "PasscodeCompliant": device.state.passcode_compliant,
        "PasscodeCompliantWithProfiles": device.state.passcode_compliant,
        "PasscodeLockGracePeriod": 0,
        "PasscodeLockGracePeriodEnforced": 0,
        "AutoLockTime": 120,
        "ManagementStatus": {"IsUserEnrollment": False},
    }


def _mac_security(device: SimulatedDevice) -> dict[str, Any]:
    escrowed = device.managed.bootstrap_token is not None
    return {
        "FDE_Enabled": device.state.encrypted,
        "FDE_HasPersonalRecoveryKey": device.state.encrypted,
        "FDE_HasInstitutionalRecoveryKey": False,
        "SystemIntegrityProtectionEnabled": True,
        "FirewallSettings": {
            "FirewallEnabled": device.state.firewall,
            "BlockAllIncoming": False,
            "StealthMode": device.state.firewall,
            "Applications": [],
            "LoggingEnabled": True,
            "LoggingOption": "throttled",
        },
        "ManagementStatus": {
            "EnrolledViaDEP": False,
            "UserApprovedEnrollment": True,
            "IsUserEnrollment": False,
            "IsActivationLockManageable": True,
        },
        "SecureBoot": {
            "SecureBootLevel": "full",
            "ExternalBootLevel": "not supported",
        },
        "RemoteDesktopEnabled": False,
        "AuthenticatedRootVolumeEnabled": True,
        "BootstrapTokenAllowedForAuthentication": "allowed" if escrowed else "disallowed",
        "BootstrapTokenRequiredForSoftwareUpdate": True,
        "BootstrapTokenRequiredForKernelExtensionApproval": True,
        "IsRecoveryLockEnabled": False,
    }
