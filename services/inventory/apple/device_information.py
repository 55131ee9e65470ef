"""DeviceInformation (schema: mdm/commands/information.device.yaml, QueryResponses)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from services.inventory.apple.values import (
    Take,
    dictionary,
    flag,
    gigabytes,
    share,
    take,
    text,
    time,
)
from services.inventory.readings import Reading

_QUERIES: Final[Mapping[str, tuple[str, Take]]] = {
    "OSVersion": ("os.version", text),
    "BuildVersion": ("os.build", text),
    "SupplementalOSVersionExtra": ("os.supplemental_version", text),
    "SupplementalBuildVersion": ("os.supplemental_build", text),
    "DeviceName": ("device.name", text),
    "Model": ("device.model", text),
    "ModelName": ("device.model_name", text),
    "ProductName": ("device.product", text),
    "SerialNumber": ("device.serial", text),
    "HostName": ("device.host_name", text),
    "TimeZone": ("device.time_zone", text),
    "IsSupervised": ("device.supervised", flag),
    "IsMultiUser": ("device.shared", flag),
    "IsAppleSilicon": ("device.apple_silicon", flag),
    "IsMDMLostModeEnabled": ("device.lost_mode", flag),
    "IsDeviceLocatorServiceEnabled": ("device.locator_enabled", flag),
    "AwaitingConfiguration": ("device.awaiting_configuration", flag),
    "IsActivationLockEnabled": ("activation_lock.enabled", flag),
    "BatteryLevel": ("battery.level", share),
    "HasBattery": ("battery.present", flag),
    "DeviceCapacity": ("storage.capacity", gigabytes),
    "AvailableDeviceCapacity": ("storage.available", gigabytes),
    "IsCloudBackupEnabled": ("backup.cloud_enabled", flag),
    "LastCloudBackupDate": ("backup.cloud_at", time),
    "WiFiMAC": ("network.wifi_mac", text),
    "BluetoothMAC": ("network.bluetooth_mac", text),
}
_UPDATES: Final[Mapping[str, tuple[str, Take]]] = {
    "AutoCheckEnabled": ("updates.automatic_check", flag),
    "AutomaticOSInstallationEnabled": ("updates.automatic_os", flag),
    "AutomaticSecurityUpdatesEnabled": ("updates.automatic_security", flag),
}


def read(answer: Mapping[str, Any]) -> Reading:
    responses = dictionary(answer, "QueryResponses")
    facts, ignored = take(responses, _QUERIES)
    updates, ignored_updates = take(responses.get("OSUpdateSettings"), _UPDATES)
    # "-1.0 if MDM can't determine the battery level": an honest answer, not a wrong one.
    unknown_battery = responses.get("BatteryLevel") == -1
    return Reading(facts | updates, ignored=ignored + ignored_updates - unknown_battery)
