"""Reading configuration profiles as a device does: signed or not, and what makes one malformed.

Source: Apple's device-management schema, mdm/profiles: TopLevel, CommonPayloadKeys, com.apple.mdm,
com.apple.security.scep.
"""

from __future__ import annotations

import plistlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cryptography import x509

from tools.simulator.wire import cms

MDM, SCEP = "com.apple.mdm", "com.apple.security.scep"
ROOTS = frozenset({"com.apple.security.root", "com.apple.security.pkcs1", "com.apple.security.pem"})
ALL_RIGHTS = 8191
_COMMON = {"PayloadType": str, "PayloadIdentifier": str, "PayloadUUID": str, "PayloadVersion": int}
_MDM_OPTIONS = {
    "CheckInURL": str,
    "SignMessage": bool,
    "CheckOutWhenRemoved": bool,
    "ServerCapabilities": list,
}
_SCEP_OPTIONS = {
    "Name": str,
    "Subject": list,
    "Challenge": str,
    "Keysize": int,
    "Key Type": str,
    "CAFingerprint": bytes,
}


class ProfileError(ValueError):
    """A profile that a device refuses to install."""


@dataclass(frozen=True, slots=True)
class Profile:
    """A well-formed profile; `signer` is None when it came unsigned."""

    identifier: str
    uuid: str
    document: Mapping[str, Any]
    raw: bytes
    signer: x509.Certificate | None

    @property
    def payloads(self) -> list[Mapping[str, Any]]:
        return list(self.document["PayloadContent"])

    def of_type(self, *types: str) -> list[Mapping[str, Any]]:
        return [payload for payload in self.payloads if payload["PayloadType"] in types]

    @property
    def roots(self) -> list[x509.Certificate]:
        return [_certificate(payload.get("PayloadContent")) for payload in self.of_type(*ROOTS)]

    @property
    def manages(self) -> bool:
        """Whether installing it enrolls the device."""
        return bool(self.of_type(MDM))


@dataclass(frozen=True, slots=True)
class ScepPayload:
    url: str
    name: str | None
    subject: Sequence[Sequence[Sequence[str]]]
    challenge: str | None
    key_size: int
    fingerprint: bytes | None


@dataclass(frozen=True, slots=True)
class MdmPayload:
    """What com.apple.mdm says. `check_in_url` falls back to the server's (apple.md 1.1)."""

    topic: str
    server_url: str
    check_in_url: str
    sign_message: bool
    access_rights: int
    check_out_when_removed: bool
    capabilities: frozenset[str]


def read(data: bytes) -> Profile:
    """Open a profile and, when it is signed, verify its signature. Raises ProfileError."""
    signer, content = None, data
    if not data.lstrip().startswith(b"<"):
        try:
            signed = cms.open_signed(data)
        except cms.CmsError as error:
            raise ProfileError(f"the profile's signature is no good: {error}") from error
        signer, content = signed.signer, signed.content
    document = _document(content)
    _require(document, _COMMON)
    if document["PayloadType"] != "Configuration":
        raise ProfileError(f"PayloadType {document['PayloadType']!r} is no profile's")
    _check_payloads(document.get("PayloadContent"))
    return Profile(document["PayloadIdentifier"], document["PayloadUUID"], document, data, signer)


def mdm_payload(profile: Profile) -> tuple[MdmPayload, ScepPayload]:
    """The payloads that enroll, held to the rules of apple.md 1.5. Raises ProfileError."""
    found = profile.of_type(MDM)
    if len(found) != 1:
        raise ProfileError(f"{len(found)} com.apple.mdm payloads where one was expected")
    payload = found[0]
    _require(payload, {"IdentityCertificateUUID": str, "Topic": str, "ServerURL": str})
    present = {key: kind for key, kind in _MDM_OPTIONS.items() if key in payload}
    _require(payload, present)
    if not payload["Topic"].startswith("com.apple.mgmt."):
        raise ProfileError(f"Topic {payload['Topic']!r} is no management topic")
    mdm = MdmPayload(
        topic=payload["Topic"],
        server_url=payload["ServerURL"],
        check_in_url=payload.get("CheckInURL", payload["ServerURL"]),
        sign_message=payload.get("SignMessage", False),
        access_rights=_rights(payload),
        check_out_when_removed=payload.get("CheckOutWhenRemoved", False),
        capabilities=frozenset(map(str, payload.get("ServerCapabilities", ()))),
    )
    for url in (mdm.server_url, mdm.check_in_url):
        if not url.startswith(("https://", "http://127.", "http://localhost", "http://[::1]")):
            raise ProfileError(f"{url} is neither HTTPS nor on this machine")
    return mdm, _scep(profile, payload["IdentityCertificateUUID"])


def _document(content: bytes) -> dict[str, Any]:
    try:
        document = plistlib.loads(content, fmt=plistlib.FMT_XML)
    except Exception as error:
        raise ProfileError(f"the profile is no property list: {error}") from error
    if not isinstance(document, dict):
        raise ProfileError("the profile is no dictionary")
    return document


def _require(payload: Mapping[str, Any], keys: Mapping[str, type]) -> None:
    for key, kind in keys.items():
        if not isinstance(payload.get(key), kind):
            name = payload.get("PayloadType", "profile")
            raise ProfileError(f"{name}: {key} is missing or of the wrong type")


def _check_payloads(payloads: Any) -> None:
    if not isinstance(payloads, list):
        raise ProfileError("PayloadContent is missing or no array")
    uuids: set[str] = set()
    for payload in payloads:
        if not isinstance(payload, dict):
            raise ProfileError("a payload is no dictionary")
        _require(payload, _COMMON)
        if payload["PayloadUUID"] in uuids:
            raise ProfileError(f"PayloadUUID {payload['PayloadUUID']} occurs twice")
        uuids.add(payload["PayloadUUID"])


def _rights(payload: Mapping[str, Any]) -> int:
    rights = payload.get("AccessRights", ALL_RIGHTS)
    if not isinstance(rights, int) or not 0 < rights <= ALL_RIGHTS:
        raise ProfileError(f"AccessRights {rights!r} is no sum of rights")
    # Installing needs the right to inspect: 2 needs 1, 128 needs 64 (com.apple.mdm, AccessRights).
    if (rights & 2 and not rights & 1) or (rights & 128 and not rights & 64):
        raise ProfileError(f"AccessRights {rights} lacks a right that another needs")
    return rights


def _scep(profile: Profile, uuid: str) -> ScepPayload:
    named = [payload for payload in profile.of_type(SCEP) if payload["PayloadUUID"] == uuid]
    if not named:
        raise ProfileError("IdentityCertificateUUID names no com.apple.security.scep payload")
    content = named[0].get("PayloadContent")
    if not isinstance(content, dict) or not isinstance(content.get("URL"), str):
        raise ProfileError("the SCEP payload has no URL")
    _require(content, {key: kind for key, kind in _SCEP_OPTIONS.items() if key in content})
    if content.get("Key Type", "RSA") != "RSA":
        raise ProfileError(f"SCEP key type {content['Key Type']!r}")
    return ScepPayload(
        url=content["URL"],
        name=content.get("Name"),
        subject=content.get("Subject", ()),
        challenge=content.get("Challenge"),
        # 1024 is the vendor's default, however unfortunate (apple.md 1.5).
        key_size=content.get("Keysize", 1024),
        fingerprint=content.get("CAFingerprint"),
    )


def _certificate(data: Any) -> x509.Certificate:
    if not isinstance(data, bytes):
        raise ProfileError("a certificate payload holds no data")
    try:
        if data.lstrip().startswith(b"-----BEGIN"):
            return x509.load_pem_x509_certificate(data)
        return x509.load_der_x509_certificate(data)
    except ValueError as error:
        raise ProfileError(f"a certificate payload holds no certificate: {error}") from error
