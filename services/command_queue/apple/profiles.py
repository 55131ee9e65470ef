"""Looking into a configuration profile before it is sent anywhere.

A profile can do as much harm as a command: it is opened, also out of CMS, and classed by what it
holds (security.md, The guard).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from services.command_queue.apple.schema import BodyError, words
from shared.apple import cms, der, plist
from shared.events.commands import CommandClass

MAX_PROFILE: Final = 8 * 1024 * 1024
_CMS_LIMITS: Final = der.Limits(max_bytes=MAX_PROFILE, max_depth=24, max_nodes=20_000)
_PLIST_LIMITS: Final = plist.Limits(max_bytes=MAX_PROFILE, max_depth=32, max_nodes=100_000)
_SAFE_FAILED_ATTEMPTS: Final = 6
# Of profiles, and of declarations (passcode.settings).
_FAILED_ATTEMPTS: Final = frozenset({"maxfailedattempts", "maximumfailedattempts"})
_MDM: Final = "com.apple.mdm"

_TOP_LEVEL: Final = words(
    """
    PayloadContent PayloadDescription PayloadDisplayName PayloadExpirationDate
    PayloadIdentifier PayloadOrganization PayloadRemovalDisallowed PayloadScope PayloadType
    PayloadUUID PayloadVersion ConsentText HasRemovalPasscode TargetDeviceType
    """
)
# Looks and conveniences: nothing here takes access, data, trust or network away.
_HARMLESS: Final = words(
    """
    com.apple.airprint com.apple.caldav.account com.apple.carddav.account
    com.apple.configurationprofile.identification com.apple.desktop com.apple.Dictionary
    com.apple.dock com.apple.font com.apple.homescreenlayout com.apple.ldap.account
    com.apple.notificationsettings com.apple.screensaver.user
    com.apple.shareddeviceconfiguration com.apple.subscribedcalendar.account
    com.apple.tvremote com.apple.universalaccess com.apple.webClip.managed
    """
)
# Trust, network, restriction and passcode profiles, and what changes how people work or sign in.
_DISRUPTIVE: Final = words(
    """
    com.apple.ADCertificate.managed com.apple.airplay com.apple.airplay.security
    com.apple.apn.managed com.apple.app.lock com.apple.applicationaccess
    com.apple.applicationaccess.new com.apple.appstore com.apple.asam
    com.apple.associated-domains com.apple.AssetCache.managed com.apple.cellular
    com.apple.cellularprivatenetwork.managed com.apple.conferenceroomdisplay
    com.apple.DiscRecording com.apple.dnsProxy.managed com.apple.dnsSettings.managed
    com.apple.domains com.apple.eas.account com.apple.education com.apple.ews.account
    com.apple.extensiblesso com.apple.familycontrols.contentfilter
    com.apple.familycontrols.timelimits.v2 com.apple.fileproviderd com.apple.finder
    com.apple.firstactiveethernet.managed com.apple.firstethernet.managed com.apple.gamed
    com.apple.globalethernet.managed com.apple.google-oauth com.apple.ironwood.support
    com.apple.mail.managed com.apple.mobiledevice.passwordpolicy com.apple.networkusagerules
    com.apple.NSExtension com.apple.osxserver.account com.apple.preference.security
    com.apple.preference.users com.apple.proxy.http.global com.apple.relay.managed
    com.apple.screensaver com.apple.secondactiveethernet.managed
    com.apple.secondethernet.managed com.apple.security.acme
    com.apple.security.certificatepreference com.apple.security.certificaterevocation
    com.apple.security.certificatetransparency com.apple.security.firewall
    com.apple.security.identitypreference com.apple.security.pem com.apple.security.pkcs1
    com.apple.security.pkcs12 com.apple.security.root com.apple.security.scep
    com.apple.security.smartcard com.apple.servicemanagement com.apple.SetupAssistant.managed
    com.apple.SoftwareUpdate com.apple.sso com.apple.syspolicy.kernel-extension-policy
    com.apple.system-extension-policy com.apple.system.logging com.apple.systempolicy.control
    com.apple.systempolicy.managed com.apple.systempolicy.rule com.apple.systempreferences
    com.apple.TCC.configuration-profile-policy com.apple.thirdactiveethernet.managed
    com.apple.thirdethernet.managed com.apple.vpn.managed com.apple.vpn.managed.applayer
    com.apple.vpn.managed.appmapping com.apple.webcontent-filter com.apple.wifi.managed
    """
)
_ORDER: Final = (CommandClass.HARMLESS, CommandClass.DISRUPTIVE, CommandClass.DESTRUCTIVE)


@dataclass(frozen=True, slots=True)
class Profile:
    """What a profile is and what it can do; `management` is one that holds an MDM payload."""

    identifier: str
    uuid: str
    command_class: CommandClass
    management: bool
    payload_types: tuple[str, ...]


def read(data: bytes) -> Profile:
    """Read a profile, plain or CMS-signed; raises BodyError for what cannot be judged."""
    if len(data) > MAX_PROFILE:
        raise BodyError("profile: too large")
    root = _open(data)
    identifier, uuid = root.get("PayloadIdentifier"), root.get("PayloadUUID")
    if root.get("PayloadType") != "Configuration":
        raise BodyError("profile: PayloadType must be Configuration")
    if not isinstance(identifier, str) or not identifier or not isinstance(uuid, str):
        raise BodyError("profile: PayloadIdentifier and PayloadUUID are required")
    payloads = _payloads(root)
    types = tuple(str(payload["PayloadType"]) for payload in payloads)
    found = [_class_of_type(kind) for kind in types]
    management = any(key == "PayloadType" and value == _MDM for key, value in _walk(root))
    if management or root.keys() - _TOP_LEVEL or _harmful(root):
        found.append(CommandClass.DESTRUCTIVE)
    return Profile(
        identifier=identifier,
        uuid=uuid,
        command_class=max([CommandClass.HARMLESS, *found], key=_ORDER.index),
        management=management,
        payload_types=types,
    )


def _open(data: bytes) -> dict[str, Any]:
    if not data.lstrip().startswith(b"<"):
        try:
            data = cms.open_signed(data, limits=_CMS_LIMITS)
        except cms.SignatureError as error:
            raise BodyError(f"profile: neither XML nor signed XML ({error.reason})") from None
    try:
        return plist.parse(data, limits=_PLIST_LIMITS)
    except plist.PlistError as error:
        raise BodyError(f"profile: {error.reason}") from None


def _payloads(root: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    if "EncryptedPayloadContent" in root:
        return []  # not to be judged: its key alone makes it destructive
    payloads = root.get("PayloadContent")
    if not isinstance(payloads, list) or not payloads:
        raise BodyError("profile: PayloadContent must hold at least one payload")
    for payload in payloads:
        if not isinstance(payload, dict) or not isinstance(payload.get("PayloadType"), str):
            raise BodyError("profile: every payload needs a PayloadType")
        for name in ("PayloadIdentifier", "PayloadUUID"):
            if not isinstance(payload.get(name), str):
                raise BodyError(f"profile: every payload needs a {name}")
    return payloads


def _class_of_type(payload_type: str) -> CommandClass:
    if payload_type in _HARMLESS:
        return CommandClass.HARMLESS
    return CommandClass.DISRUPTIVE if payload_type in _DISRUPTIVE else CommandClass.DESTRUCTIVE


def _harmful(root: Mapping[str, Any]) -> bool:
    """Whether a key anywhere inside removes the profile by itself or erases after a few typos."""
    for key, value in _walk(root):
        if key in {"RemovalDate", "DurationUntilRemoval", "EncryptedPayloadContent"}:
            return True
        if key.casefold() in _FAILED_ATTEMPTS and not (
            type(value) is int and value >= _SAFE_FAILED_ATTEMPTS
        ):
            return True
    return False


def _walk(value: Any) -> Iterator[tuple[str, Any]]:
    """Yield every key with its value, at any depth; the parser has bounded both."""
    stack = [value]
    while stack:
        current = stack.pop()
        if isinstance(current, dict):
            yield from current.items()
            stack.extend(current.values())
        elif isinstance(current, list):
            stack.extend(current)
