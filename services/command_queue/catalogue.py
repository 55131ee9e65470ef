"""The kinds of commands, one vocabulary for all platforms, and what each is made into."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Annotated, Any, Final, Literal
from uuid import UUID

from pydantic import Base64Bytes, BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from services.command_queue.apple import classes, schema, wire
from services.command_queue.errors import CommandRefused
from shared.events.commands import CommandClass

Pin = Annotated[str, StringConstraints(pattern=r"^[0-9]{6}$")]
Message = Annotated[str, StringConstraints(min_length=1, max_length=1000)]
PhoneNumber = Annotated[str, StringConstraints(min_length=3, max_length=40)]
Identifier = Annotated[str, StringConstraints(min_length=1, max_length=255)]
_CLASSES: Final = (CommandClass.HARMLESS, CommandClass.DISRUPTIVE, CommandClass.DESTRUCTIVE)
Section = Literal["device_information", "security", "applications", "profiles", "certificates"]

# What DeviceInformation asks for by itself: what inventory reads. A device leaves out what it does
# not know, and what the enrollment's mode and rights do not show (information.device.yaml).
QUERIES: Final = sorted(
    schema.words(
        """
        AppAnalyticsEnabled AvailableDeviceCapacity AwaitingConfiguration BatteryLevel BluetoothMAC
        BuildVersion CellularTechnology DataRoamingEnabled DeviceCapacity DeviceName
        DiagnosticSubmissionEnabled EASDeviceIdentifier EthernetMAC HasBattery HostName ICCID IMEI
        IsActivationLockEnabled IsActivationLockSupported IsAppleSilicon IsCloudBackupEnabled
        IsDeviceLocatorServiceEnabled IsDoNotDisturbInEffect IsMDMLostModeEnabled IsMultiUser
        IsRoaming IsSupervised LastCloudBackupDate LocalHostName MEID Model ModelName ModelNumber
        ModemFirmwareVersion OSUpdateSettings OSVersion PINRequiredForDeviceLock
        PINRequiredForEraseDevice PersonalHotspotEnabled PhoneNumber ProductName
        SIMCarrierNetwork SerialNumber ServiceSubscriptions SoftwareUpdateDeviceID
        SupplementalBuildVersion SupplementalOSVersionExtra SupportsiOSAppInstalls
        SystemIntegrityProtectionEnabled TimeZone UDID WiFiMAC
        """
    )
)


class Params(BaseModel):
    """The parameters of one kind; an unknown one is refused, so that a typo is not ignored."""

    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_bytes="base64")


class NoParams(Params):
    pass


class InventoryRefresh(Params):
    section: Section
    queries: Annotated[list[Identifier], Field(min_length=1, max_length=200)] | None = None
    identifiers: Annotated[list[Identifier], Field(min_length=1, max_length=1000)] | None = None
    managed_only: bool = False


class ConfigurationInstall(Params):
    profile: Base64Bytes


class ConfigurationRemove(Params):
    identifier: Identifier


class DeviceLock(Params):
    pin: Pin | None = None
    message: Message | None = None
    phone_number: PhoneNumber | None = None


class ReturnToService(Params):
    enabled: bool
    wifi_profile: Base64Bytes | None = None
    mdm_profile: Base64Bytes | None = None


class DeviceErase(Params):
    pin: Pin | None = None
    preserve_data_plan: bool | None = None
    disallow_proximity_setup: bool | None = None
    obliteration_behavior: (
        Literal["Default", "DoNotObliterate", "ObliterateWithWarning", "Always"] | None
    ) = None
    return_to_service: ReturnToService | None = None


class DeviceRestart(Params):
    rebuild_kernel_cache: bool | None = None
    kext_paths: Annotated[list[Identifier], Field(max_length=100)] | None = None
    notify_user: bool | None = None


class LostModeEnable(Params):
    """What the locked screen shows: a message, a number or both."""

    message: Message | None = None
    phone_number: PhoneNumber | None = None
    footnote: Message | None = None


class Raw(Params):
    platform: Literal["apple"]
    payload: Base64Bytes


@dataclass(frozen=True, slots=True)
class Order:
    """A command ready to be rendered: what it is, what it can do, and what people may see of it.

    `secret` bodies are stored encrypted. `management` is a profile with an MDM payload. `change`:
    on many devices it is tried on a few first.
    """

    kind: str
    command: Mapping[str, Any]
    command_class: CommandClass
    summary: Mapping[str, Any]
    secret: bool
    section: str | None = None
    profile_identifier: str | None = None
    removes: str | None = None
    management: bool = False
    change: bool = False

    @property
    def request_type(self) -> str:
        return str(self.command["RequestType"])

    @property
    def changed(self) -> bytes | None:
        """SHA-256 of what is changed, whoever asks for it and for whom; None: nothing is."""
        if not self.change:
            return None
        return hashlib.sha256(wire.render(self.command, UUID(int=0))).digest()


def make(kind: str, params: Mapping[str, Any]) -> Order:
    """Check the parameters of one kind and make its command; raises CommandRefused."""
    entry = _KINDS.get(kind)
    if entry is None:
        raise CommandRefused("kind_unknown", f"Choose one of: {', '.join(sorted(_KINDS))}.")
    try:
        command = entry.make(entry.params.model_validate(params))
        judgement = classes.judge(command)
    except ValidationError as error:
        raise CommandRefused("params_invalid", _explain(error)) from None
    except schema.BodyError as error:
        raise CommandRefused("body_invalid", str(error)) from None
    profile = judgement.profile
    return Order(
        kind=kind,
        command=command,
        command_class=judgement.command_class,
        summary=_summary(kind, command, judgement),
        secret=entry.secret,
        section=params.get("section") if kind == "inventory.refresh" else None,
        profile_identifier=profile.identifier if profile else None,
        removes=judgement.removes,
        management=profile.management if profile else False,
        change=judgement.change,
    )


def with_class_of_all(order: Order, own: Sequence[Order]) -> Order:
    """A command is as dangerous as its most dangerous body."""
    if not own:
        return order
    if any(one.request_type != order.request_type for one in own):
        raise CommandRefused("bodies_invalid", "bodies holds another request than params.")
    every = [order, *own]
    # Which of them a device has acknowledged is not told apart later.
    same = len({one.profile_identifier for one in every}) == 1
    return replace(
        order,
        profile_identifier=order.profile_identifier if same else None,
        command_class=max((one.command_class for one in every), key=_CLASSES.index),
        management=any(one.management for one in every),
        change=any(one.change for one in every),
    )


def kinds() -> list[str]:
    return sorted(_KINDS)


def plain() -> list[Order]:
    """One of each kind that anybody could ask for who knows nothing but the device."""
    return [
        make(kind, entry.example)
        for kind, entry in sorted(_KINDS.items())
        if not any(field.is_required() for field in entry.params.model_fields.values())
    ]


def _refresh(params: InventoryRefresh) -> dict[str, Any]:
    managed = {"ManagedOnly": True} if params.managed_only else {}
    match params.section:
        case "device_information":
            return {"RequestType": "DeviceInformation", "Queries": params.queries or QUERIES}
        case "security":
            return {"RequestType": "SecurityInfo"}
        case "applications":
            command: dict[str, Any] = {"RequestType": "InstalledApplicationList"}
            if params.identifiers:
                command["Identifiers"] = params.identifiers
            if params.managed_only:
                command["ManagedAppsOnly"] = True
            return command
        case "profiles":
            return {"RequestType": "ProfileList", **managed}
        case "certificates":
            return {"RequestType": "CertificateList", **managed}


def _lock(params: DeviceLock) -> dict[str, Any]:
    return _given(
        "DeviceLock", PIN=params.pin, Message=params.message, PhoneNumber=params.phone_number
    )


def _erase(params: DeviceErase) -> dict[str, Any]:
    service = params.return_to_service
    return _given(
        "EraseDevice",
        PIN=params.pin,
        PreserveDataPlan=params.preserve_data_plan,
        DisallowProximitySetup=params.disallow_proximity_setup,
        ObliterationBehavior=params.obliteration_behavior,
        ReturnToService=service
        and _without_none(
            Enabled=service.enabled,
            WiFiProfileData=service.wifi_profile,
            MDMProfileData=service.mdm_profile,
        ),
    )


def _restart(params: DeviceRestart) -> dict[str, Any]:
    return _given(
        "RestartDevice",
        RebuildKernelCache=params.rebuild_kernel_cache,
        KextPaths=params.kext_paths,
        NotifyUser=params.notify_user,
    )


def _lost(params: LostModeEnable) -> dict[str, Any]:
    return _given(
        "EnableLostMode",
        Message=params.message,
        PhoneNumber=params.phone_number,
        Footnote=params.footnote,
    )


def _given(request_type: str, **values: Any) -> dict[str, Any]:
    return {"RequestType": request_type, **_without_none(**values)}


def _without_none(**values: Any) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}


@dataclass(frozen=True, slots=True)
class _Kind:
    params: type[Params]
    make: Callable[[Any], dict[str, Any]]
    secret: bool = False
    example: Mapping[str, Any] = field(default_factory=dict)
    """Parameters that are enough, where no single one is required."""


_KINDS: Final[Mapping[str, _Kind]] = {
    "inventory.refresh": _Kind(InventoryRefresh, _refresh),
    # Profiles carry Wi-Fi passwords and identities.
    "configuration.install": _Kind(
        ConfigurationInstall,
        lambda params: {"RequestType": "InstallProfile", "Payload": params.profile},
        secret=True,
    ),
    "configuration.remove": _Kind(
        ConfigurationRemove,
        lambda params: {"RequestType": "RemoveProfile", "Identifier": params.identifier},
    ),
    "device.lock": _Kind(DeviceLock, _lock, secret=True),
    "device.erase": _Kind(DeviceErase, _erase, secret=True),
    "device.clear_passcode": _Kind(NoParams, lambda _: {"RequestType": "ClearPasscode"}),
    "device.restart": _Kind(DeviceRestart, _restart),
    "device.shutdown": _Kind(NoParams, lambda _: {"RequestType": "ShutDownDevice"}),
    "lost_mode.enable": _Kind(LostModeEnable, _lost, example={"message": "Lost"}),
    "lost_mode.disable": _Kind(NoParams, lambda _: {"RequestType": "DisableLostMode"}),
    "lost_mode.play_sound": _Kind(NoParams, lambda _: {"RequestType": "PlayLostModeSound"}),
    "raw": _Kind(Raw, lambda params: wire.read_raw(params.payload), secret=True),
}


def _summary(kind: str, command: Mapping[str, Any], judgement: classes.Judgement) -> dict[str, Any]:
    """What people may see of a command: no PIN, no token, no profile content."""
    shown: dict[str, Any] = {"request_type": command["RequestType"]}
    if kind == "raw":
        # Nothing is known about which of its values are secret.
        return shown | {"keys": sorted(command.keys() - {"RequestType"})}
    for key, value in command.items():
        if key == "PIN":
            shown["pin"] = "set"
        elif isinstance(value, bytes):
            shown[key] = {"sha256": hashlib.sha256(value).hexdigest(), "bytes": len(value)}
        elif key == "ReturnToService":
            shown[key] = {"Enabled": value["Enabled"]}
        elif key not in {"RequestType", "Queries"}:
            shown[key] = value
    if judgement.profile:
        shown["profile"] = judgement.profile.identifier
        shown["payload_types"] = list(judgement.profile.payload_types)[:50]
    return shown


def _explain(error: ValidationError) -> str:
    """Places and reasons, never values: they may be PINs."""
    faults = error.errors(include_input=False, include_url=False, include_context=False)
    return "; ".join(
        f"{'.'.join(str(part) for part in fault['loc'])}: {fault['msg']}" for fault in faults[:10]
    )
