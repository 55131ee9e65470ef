"""The facts that Muster knows of a device: one list, the same names for every platform."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

from shared.events.inventory import Section

Kind = Literal["text", "flag", "number", "count", "time"]
"""`flag` is a JSON boolean, `number` may have a fraction, `count` is whole, `time` is ISO text."""

SECTIONS: Final[tuple[Section, ...]] = (
    "device_information",
    "security",
    "applications",
    "profiles",
    "certificates",
)
LISTS: Final[frozenset[Section]] = frozenset({"applications", "profiles", "certificates"})


@dataclass(frozen=True)
class Fact:
    """One fact's name, where it is read from, what its value is and what it means."""

    name: str
    section: Section
    kind: Kind
    about: str


def _facts(section: Section, *rows: tuple[str, Kind, str]) -> list[Fact]:
    return [Fact(name, section, kind, about) for name, kind, about in rows]


_ALL = [
    *_facts(
        "device_information",
        ("os.version", "text", "version of the operating system"),
        ("os.build", "text", "build of the operating system"),
        ("os.supplemental_version", "text", "letter of a rapid security response"),
        ("os.supplemental_build", "text", "build of a rapid security response"),
        ("device.name", "text", "the name the device gives itself"),
        ("device.model", "text", "order or model number"),
        ("device.model_name", "text", "family, such as iPhone"),
        ("device.product", "text", "hardware type, such as iPhone14,5"),
        ("device.serial", "text", "serial number"),
        ("device.host_name", "text", "host name"),
        ("device.time_zone", "text", "IANA name of the time zone"),
        ("device.supervised", "flag", "supervised"),
        ("device.shared", "flag", "used by several people (Shared iPad)"),
        ("device.apple_silicon", "flag", "the processor is Apple's own"),
        ("device.lost_mode", "flag", "managed lost mode is on"),
        ("device.locator_enabled", "flag", "Find My or the like is on"),
        ("device.awaiting_configuration", "flag", "set-up waits to be released"),
        ("activation_lock.enabled", "flag", "activation lock is on"),
        ("battery.level", "number", "charge from 0 to 1"),
        ("battery.present", "flag", "has a battery"),
        ("storage.capacity", "number", "GB, base 10 (GiB on macOS 11 and earlier)"),
        ("storage.available", "number", "GB, as storage.capacity"),
        ("backup.cloud_enabled", "flag", "backs up to the vendor's cloud"),
        ("backup.cloud_at", "time", "last backup to the vendor's cloud"),
        ("network.wifi_mac", "text", "Wi-Fi hardware address"),
        ("network.bluetooth_mac", "text", "Bluetooth hardware address"),
        ("updates.automatic_check", "flag", "looks for updates by itself"),
        ("updates.automatic_os", "flag", "installs updates of the system by itself"),
        ("updates.automatic_security", "flag", "installs security updates by itself"),
    ),
    *_facts(
        "security",
        ("passcode.present", "flag", "a passcode is set"),
        ("passcode.compliant", "flag", "the passcode meets all demands on the device"),
        ("passcode.compliant_with_profiles", "flag", "the passcode meets the profiles' demands"),
        ("encryption.enabled", "flag", "data at rest is protected"),
        ("encryption.hardware", "count", "Apple's HardwareEncryptionCaps: 3 is block and file"),
        ("filevault.enabled", "flag", "FileVault is on"),
        ("filevault.personal_key", "flag", "a personal recovery key exists"),
        ("filevault.institutional_key", "flag", "an institutional recovery key exists"),
        ("firewall.enabled", "flag", "the firewall is on"),
        ("firewall.block_all", "flag", "all incoming connections are refused"),
        ("firewall.stealth", "flag", "probes get no answer"),
        ("sip.enabled", "flag", "System Integrity Protection is on"),
        ("root_volume.authenticated", "flag", "started from a sealed system volume"),
        ("firmware_password.present", "flag", "a firmware password is set"),
        ("recovery_lock.enabled", "flag", "recovery asks for a password"),
        ("remote_desktop.enabled", "flag", "remote desktop is on"),
        ("secure_boot.level", "text", "off, medium, full or not supported"),
        ("secure_boot.external", "text", "booting from outside: allowed, disallowed, …"),
        ("bootstrap_token.allowed", "text", "allowed, disallowed or not supported"),
        ("bootstrap_token.required", "flag", "needed to install updates unattended"),
        ("management.enrolled_by_ade", "flag", "enrolled by Automated Device Enrollment"),
        ("management.user_approved", "flag", "a person approved management"),
        ("management.user_enrollment", "flag", "only the work part is managed"),
        ("management.activation_lock", "flag", "activation lock can be managed"),
    ),
]

FACTS: Final[dict[str, Fact]] = {fact.name: fact for fact in _ALL}

MAIN: Final[tuple[str, ...]] = (
    "os.version",
    "os.build",
    "device.supervised",
    "passcode.present",
    "encryption.enabled",
    "battery.level",
    "storage.capacity",
    "storage.available",
)
"""What the list of devices shows."""
