"""What a device answers to a command: it depends on the device, its state and its rights.

Source of keys and limits: Apple schema, mdm/commands/*.yaml. Error codes and texts are not a
stable contract (apple.md 1.3); those here resemble what devices send.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import serialization

from tools.simulator import declarations, information
from tools.simulator.catalogue import App
from tools.simulator.device import SimulatedDevice
from tools.simulator.traits import User
from tools.simulator.wire import profile as profiles
from tools.simulator.wire.messages import Command
from tools.simulator.wire.profile import Profile

After = Callable[[], Awaitable[None]]
_PIN_DIGITS = 6


@dataclass(frozen=True, slots=True)
class Answer:
    """Status and keys of an answer.

    `after` happens once the server has taken it: at once where it `ends` the connection (erase,
    restart), else when the queue is empty.
    """

    status: str
    extra: Mapping[str, Any]
    errors: tuple[Mapping[str, Any], ...] = ()
    after: After | None = None
    ends: bool = False


Handler = Callable[[SimulatedDevice, Mapping[str, Any]], Answer]


def acknowledged(after: After | None = None, *, ends: bool = False, **extra: Any) -> Answer:
    return Answer("Acknowledged", extra, after=after, ends=ends)


def error(code: int, text: str, domain: str = "MCMDMErrorDomain") -> Answer:
    return Answer("Error", {}, (_link(code, text, domain),))


def malformed(text: str) -> Answer:
    return Answer("CommandFormatError", {}, (_link(12026, text, "MCMDMErrorDomain"),))


def _link(code: int, text: str, domain: str) -> dict[str, Any]:
    return {
        "ErrorCode": code,
        "ErrorDomain": domain,
        "LocalizedDescription": text,
        "USEnglishDescription": text,
    }


def answer(device: SimulatedDevice, command: Command, user: User | None = None) -> Answer:
    """Carry out `command` as this device would and say what it answers."""
    if not command.request_type:
        return malformed("The command has no RequestType.")
    handler = _HANDLERS.get(command.request_type)
    if handler is None:
        return error(12021, f"“{command.request_type}” is not a valid request type.")
    if user is not None and command.request_type in _DEVICE_CHANNEL_ONLY:
        return error(12021, f"“{command.request_type}” is not valid on a user channel.")
    right = _RIGHTS.get(command.request_type, 0)
    if device.managed.mdm.access_rights & right != right:
        return error(12008, "The management profile does not grant this right.")
    return handler(device, command.body)


def _device_information(device: SimulatedDevice, command: Mapping[str, Any]) -> Answer:
    queries = command.get("Queries")
    if not isinstance(queries, list) or not all(isinstance(query, str) for query in queries):
        return malformed("Queries is missing or no array of strings.")
    return acknowledged(QueryResponses=information.device_information(device, queries))


def _security_info(device: SimulatedDevice, _command: Mapping[str, Any]) -> Answer:
    return acknowledged(SecurityInfo=information.security_info(device))


def _installed_applications(device: SimulatedDevice, command: Mapping[str, Any]) -> Answer:
    wanted = command.get("Identifiers")
    if not isinstance(wanted, list | None):
        return malformed("Identifiers is no array.")
    # No app came through management, so none is managed.
    apps = [] if command.get("ManagedAppsOnly") else device.state.apps
    items = command.get("Items")
    found = [
        _application(device, app, items)
        for app in apps
        if wanted is None or app.identifier in wanted
    ]
    return acknowledged(InstalledApplicationList=found)


def _application(device: SimulatedDevice, app: App, items: Any) -> dict[str, Any]:
    entry: dict[str, Any] = {
        "Identifier": app.identifier,
        "Name": app.name,
        "Version": app.version,
        "ShortVersion": app.short_version,
        "BundleSize": app.size,
        "Installing": False,
    }
    if not device.traits.is_mac:
        entry |= {
            "DynamicSize": app.size // 10,
            "IsValidated": True,
            "AppStoreVendable": True,
            "DeviceBasedVPP": False,
            "BetaApp": False,
            "AdHocCodeSigned": False,
            "HasUpdateAvailable": False,
            "IsAppClip": False,
        }
    if not isinstance(items, list):
        return entry
    return {key: value for key, value in entry.items() if key in items or key == "Identifier"}


def _profile_list(device: SimulatedDevice, _command: Mapping[str, Any]) -> Answer:
    # Whatever is on a simulated device came through management, so ManagedOnly changes nothing.
    found = [_profile(device, profile) for profile in device.state.profiles.values()]
    return acknowledged(ProfileList=found)


def _profile(device: SimulatedDevice, profile: Profile) -> dict[str, Any]:
    optional = ("PayloadDisplayName", "PayloadOrganization", "PayloadDescription")
    described = ("PayloadType", "PayloadVersion", "PayloadIdentifier", "PayloadUUID", *optional)
    entry: dict[str, Any] = {
        "PayloadUUID": profile.uuid,
        "PayloadIdentifier": profile.identifier,
        "PayloadVersion": profile.document["PayloadVersion"],
        "PayloadRemovalDisallowed": bool(profile.document.get("PayloadRemovalDisallowed", False)),
        "HasRemovalPasscode": False,
        "IsEncrypted": False,
        "PayloadContent": [
            {key: payload[key] for key in described if key in payload}
            for payload in profile.payloads
        ],
    }
    entry |= {key: profile.document[key] for key in optional if key in profile.document}
    if profile.signer is not None:
        entry["SignerCertificates"] = [_der(profile.signer)]
    if not device.traits.is_mac:
        entry["IsManaged"] = True
    return entry


def _certificate_list(device: SimulatedDevice, _command: Mapping[str, Any]) -> Answer:
    identity = device.identity.certificate
    found = [_certificate(identity, is_identity=True)]
    for profile in device.state.profiles.values():
        found += [_certificate(root, is_identity=False) for root in profile.roots]
    return acknowledged(CertificateList=found)


def _certificate(certificate: x509.Certificate, *, is_identity: bool) -> dict[str, Any]:
    names = certificate.subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)
    return {
        "CommonName": names[0].value if names else certificate.subject.rfc4514_string(),
        "IsIdentity": is_identity,
        "Data": _der(certificate),
    }


def _der(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.DER)


def _install_profile(device: SimulatedDevice, command: Mapping[str, Any]) -> Answer:
    payload = command.get("Payload")
    if not isinstance(payload, bytes):
        return malformed("Payload is missing or no data.")
    try:
        profile = profiles.read(payload)
        if profile.manages:
            return _renewal(device, profile)
        _ = profile.roots
    except profiles.ProfileError as problem:
        return error(4000, f"The profile is not valid: {problem}", "MCInstallationErrorDomain")
    device.state.profiles[profile.identifier] = profile
    return acknowledged()


def _renewal(device: SimulatedDevice, profile: Profile) -> Answer:
    """The enrollment profile again: a new certificate, then Authenticate and TokenUpdate with it.

    Topic and addresses cannot change (apple.md 1.5).
    """
    new, _ = profiles.mdm_payload(profile)
    old = device.managed.mdm
    if (new.topic, new.server_url, new.check_in_url) != (
        old.topic,
        old.server_url,
        old.check_in_url,
    ):
        return error(4001, "The management profile cannot change its server or topic.")
    if profile.identifier != device.managed.profile.identifier:
        return error(4002, "The device is managed by another profile.")
    return acknowledged(partial(device.enroll_with, profile))


def _remove_profile(device: SimulatedDevice, command: Mapping[str, Any]) -> Answer:
    identifier = command.get("Identifier")
    if not isinstance(identifier, str):
        return malformed("Identifier is missing.")
    if identifier not in device.state.profiles:
        return error(12075, f"The profile “{identifier}” is not installed.")
    if identifier == device.managed.profile.identifier:
        return acknowledged(partial(_leave, device))
    del device.state.profiles[identifier]
    return acknowledged()


async def _leave(device: SimulatedDevice) -> None:
    if device.managed.mdm.check_out_when_removed:
        await device.check_out()
    device.forget_enrollment()


def _lock(device: SimulatedDevice, command: Mapping[str, Any]) -> Answer:
    pin = command.get("PIN")
    if device.traits.is_mac and pin is not None and not _is_pin(pin):
        return malformed("PIN must be six digits.")
    device.state.locked = True
    device.state.lock_pin = pin if device.traits.is_mac else None
    device.state.lock_message = command.get("Message")
    if device.traits.is_mac or not {"Message", "PhoneNumber"} & set(command):
        return acknowledged()
    # A message is shown only on devices with a passcode (device.lock.yaml, MessageResult).
    shown = "Success" if device.state.passcode_present else "NoPasscodeSet"
    return acknowledged(MessageResult=shown)


def _erase(device: SimulatedDevice, command: Mapping[str, Any]) -> Answer:
    pin = command.get("PIN")
    if device.traits.is_mac and pin is not None and not _is_pin(pin):
        return malformed("PIN must be six digits.")

    async def erase() -> None:
        device.erase()

    return acknowledged(erase, ends=True)


def _is_pin(pin: Any) -> bool:
    return isinstance(pin, str) and len(pin) == _PIN_DIGITS and pin.isdigit()


def _clear_passcode(device: SimulatedDevice, command: Mapping[str, Any]) -> Answer:
    if device.traits.is_mac:
        return error(12021, "“ClearPasscode” is not a valid request type.")
    token = command.get("UnlockToken")
    if not isinstance(token, bytes):
        return malformed("UnlockToken is missing or no data.")
    if token != device.managed.unlock_token:
        return error(5013, "The passcode could not be cleared: wrong token.", "MCPasscodeDomain")
    device.state.passcode_present = False
    return acknowledged()


def _lost(device: SimulatedDevice, command: Mapping[str, Any]) -> Answer:
    """Lost mode on, off, or a sound in it (device.lostmode.*.yaml)."""
    request_type = command["RequestType"]
    if device.traits.is_mac or not device.traits.supervised:
        return error(12021, f"“{request_type}” needs a supervised iPhone or iPad.")
    if request_type == "EnableLostMode":
        if not {"Message", "PhoneNumber"} & set(command):
            return malformed("Message or PhoneNumber is missing.")
        device.state.lost = True
    elif not device.state.lost:
        return error(12067, "The device is not in lost mode.")
    elif request_type == "DisableLostMode":
        device.state.lost = False
    return acknowledged()


def _restart(device: SimulatedDevice, _command: Mapping[str, Any]) -> Answer:
    if not device.traits.supervised:
        return error(12021, "The device must be supervised.")

    async def restart() -> None:
        device.state.restarts += 1
        device.state.locked = False

    return acknowledged(restart, ends=True)


def _shut_down(device: SimulatedDevice, _command: Mapping[str, Any]) -> Answer:
    if not device.traits.supervised:
        return error(12021, "The device must be supervised.")

    async def shut_down() -> None:
        device.state.powered = False

    return acknowledged(shut_down, ends=True)


def _declarative(device: SimulatedDevice, command: Mapping[str, Any]) -> Answer:
    data = command.get("Data")
    if data is not None and not isinstance(data, bytes):
        return malformed("Data is no data.")
    return acknowledged(partial(declarations.synchronize, device, data))


_HANDLERS: dict[str, Handler] = {
    "CertificateList": _certificate_list,
    "ClearPasscode": _clear_passcode,
    "DeclarativeManagement": _declarative,
    "DeviceInformation": _device_information,
    "DeviceLock": _lock,
    "DisableLostMode": _lost,
    "EnableLostMode": _lost,
    "EraseDevice": _erase,
    "InstallProfile": _install_profile,
    "InstalledApplicationList": _installed_applications,
    "PlayLostModeSound": _lost,
    "ProfileList": _profile_list,
    "RemoveProfile": _remove_profile,
    "RestartDevice": _restart,
    "SecurityInfo": _security_info,
    "ShutDownDevice": _shut_down,
}
_DEVICE_CHANNEL_ONLY = frozenset(
    {"ClearPasscode", "DeviceLock", "EraseDevice", "RestartDevice", "ShutDownDevice"}
    | {"DisableLostMode", "EnableLostMode", "PlayLostModeSound"}
)
_RIGHTS = {
    "CertificateList": 1,
    "ProfileList": 1,
    "InstallProfile": 2,
    "RemoveProfile": 2,
    "ClearPasscode": 4,
    "DeviceLock": 4,
    "RestartDevice": 4,
    "ShutDownDevice": 4,
    "EraseDevice": 8,
    "InstalledApplicationList": 256,
    "SecurityInfo": 1024,
}
"""Bits of AccessRights (com.apple.mdm); DeviceInformation weighs them a query at a time."""
