"""One enrollment of another server, as a row of an import: from JSON to checked values.

Everything a row says for itself is judged here, without the database. A refusal names the place
and never the value: most values are secrets.
"""

from __future__ import annotations

import binascii
import hashlib
import re
from dataclasses import dataclass, field
from datetime import datetime
from typing import Annotated, Any, Final, Literal

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
)

from services.enrollment.apple.messages import cleaned
from services.enrollment.apple.profile import ALL_RIGHTS
from services.enrollment.claims import platform_of
from services.enrollment.errors import Refused
from services.enrollment.lifecycle import Claim
from services.enrollment.opening import Opening
from shared.apple.certificates import UNREADABLE
from shared.apple.cms import acceptable_key
from shared.apple.identifiers import IdentifierError, channel_of
from shared.events.devices import Ownership, Platform

_CERTIFICATE: Final = 16 * 1024
_TOKEN: Final = 64 * 1024
"""Of unlock and bootstrap tokens: what a device may send in a check-in."""
_PEM: Final = re.compile(
    r"\s*-----BEGIN CERTIFICATE-----([A-Za-z0-9+/=\s]+)-----END CERTIFICATE-----\s*"
)
_FAULTS_NAMED: Final = 5
_PLACE_LENGTH: Final = 60

Words = Annotated[str, StringConstraints(max_length=1000), AfterValidator(cleaned)]
ApplePlatform = Literal[
    Platform.IOS,
    Platform.IPADOS,
    Platform.MACOS,
    Platform.TVOS,
    Platform.VISIONOS,
    Platform.WATCHOS,
]
Machine = Annotated[str, StringConstraints(max_length=128)]
Base64 = Annotated[str, StringConstraints(min_length=1, max_length=2 * _TOKEN)]


class InstalledProfile(BaseModel):
    """What a profile that renews the certificate must repeat of the old server's, for the device to
    take it as an update.
    """

    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)

    identifier: Annotated[str, Field(pattern=r"^[A-Za-z0-9._\-]{1,200}$")]
    """PayloadIdentifier of the whole profile."""
    management_identifier: Annotated[str, Field(pattern=r"^[A-Za-z0-9._\-]{1,200}$")] | None = None
    """PayloadIdentifier of its com.apple.mdm payload."""
    server_url: Annotated[str, Field(pattern=r"^https://[!-~]{1,500}$")]
    checkin_url: Annotated[str, Field(pattern=r"^https://[!-~]{1,500}$")] | None = None
    per_user_connections: bool = True
    """Whether its ServerCapabilities name com.apple.mdm.per-user-connections."""


class ImportRow(BaseModel):
    """An enrollment as another server knows it; without push token, magic and topic: only a
    certificate that may enroll later.
    """

    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)

    certificate: str = Field(max_length=2 * _CERTIFICATE)
    """The device's identity certificate: PEM, or DER in base64."""
    udid: Machine | None = None
    enrollment_id: Machine | None = None
    """Instead of the UDID, for a user enrollment."""

    topic: Annotated[str, Field(pattern=r"^com\.apple\.mgmt\.[A-Za-z0-9.\-]{1,240}$")] | None = None
    push_token: Annotated[str, Field(pattern=r"^([0-9A-Fa-f]{2}){16,256}$")] | None = None
    """Hexadecimal."""
    push_magic: Annotated[str, Field(min_length=1, max_length=255)] | None = None
    unlock_token: Base64 | None = None
    bootstrap_token: Base64 | None = None

    serial: Words | None = None
    name: Words | None = None
    model: Words | None = None
    model_name: Words | None = None
    product: Words | None = None
    """`iPhone15,2`; tells the platform where that is not given."""
    os_version: Words | None = None
    build: Words | None = None
    imei: Words | None = None
    meid: Words | None = None
    platform: ApplePlatform | None = None
    ownership: Ownership = Ownership.UNKNOWN
    user: Words | None = None
    access_rights: int | None = Field(default=None, ge=1, le=ALL_RIGHTS)
    """Of the profile that the device has installed, where that is known."""
    profile: InstalledProfile | None = None


@dataclass(frozen=True, slots=True)
class Identity:
    """A device certificate that another CA issued."""

    sha256: bytes
    der: bytes
    serial_number: str
    key_sha256: bytes
    not_before: datetime
    not_after: datetime
    parsed: x509.Certificate = field(repr=False)


@dataclass(frozen=True, slots=True)
class Candidate:
    """A row that is sound in itself. `opening` None: only the certificate is to be registered."""

    identity: Identity
    claim: Claim
    platform: Platform | None
    """As the row states it; the claim's may be guessed from the product."""
    ownership: Ownership
    user_name: str | None
    access_rights: int | None
    profile: InstalledProfile | None
    opening: Opening | None = field(repr=False)
    bootstrap_token: bytes | None = field(repr=False)


def read(row: object, now: datetime) -> Candidate:
    """Check one row; raises Refused, whose reason is safe to show and to log."""
    try:
        said = ImportRow.model_validate(row)
    except ValidationError as error:
        raise Refused("row_malformed", _faults(error)) from None
    identity = _identity(said.certificate, now)
    claim = _claim(said)
    opening = _opening(said)
    bootstrap = _data(said.bootstrap_token, "bootstrap_token")
    if opening is None and (said.unlock_token or bootstrap):
        raise Refused(
            "push_missing", "unlock and bootstrap tokens need topic, push_token and push_magic"
        )
    return Candidate(
        identity=identity,
        claim=claim,
        platform=said.platform,
        ownership=said.ownership,
        user_name=said.user,
        access_rights=said.access_rights,
        profile=said.profile,
        opening=opening,
        bootstrap_token=bootstrap,
    )


def _faults(error: ValidationError) -> str:
    faults = error.errors(include_input=False, include_url=False, include_context=False)
    told = [
        f"{'.'.join(str(part) for part in fault['loc'])[:_PLACE_LENGTH] or 'row'}: {fault['msg']}"
        for fault in faults[:_FAULTS_NAMED]
    ]
    return "; ".join(told)


def _identity(text: str, now: datetime) -> Identity:
    der = _der(text)
    try:
        certificate = x509.load_der_x509_certificate(der)
        key = certificate.public_key()
        is_authority = _is_authority(certificate)
        serial = certificate.serial_number
    except UNREADABLE:
        raise Refused("certificate_malformed", "the certificate cannot be read") from None
    if not acceptable_key(key):
        raise Refused("key_not_accepted", "keys are RSA of 2048 to 4096 bits, P-256 or P-384")
    if is_authority:
        raise Refused("certificate_of_authority", "this is the certificate of a CA, of no device")
    if certificate.not_valid_after_utc <= now:
        raise Refused("certificate_expired", "the certificate has expired: the device must enroll")
    if certificate.not_valid_before_utc > now:
        raise Refused("certificate_not_valid_yet", "the certificate is not valid yet")
    spki = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return Identity(
        sha256=hashlib.sha256(der).digest(),
        der=der,
        serial_number=f"{serial:x}",
        key_sha256=hashlib.sha256(spki).digest(),
        not_before=certificate.not_valid_before_utc,
        not_after=certificate.not_valid_after_utc,
        parsed=certificate,
    )


def _der(text: str) -> bytes:
    """PEM of exactly one certificate, or its DER in base64."""
    if "-----" in text:
        block = _PEM.fullmatch(text)
        if block is None:
            raise Refused("certificate_malformed", "certificate is not one PEM certificate")
        text = block[1]
    der = _unbase64(text)
    if not der or len(der) > _CERTIFICATE:
        raise Refused("certificate_malformed", "certificate is neither PEM nor DER in base64")
    return der


def _is_authority(certificate: x509.Certificate) -> bool:
    try:
        return certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except x509.ExtensionNotFound:
        return False


def _claim(said: ImportRow) -> Claim:
    if bool(said.udid) == bool(said.enrollment_id):
        raise Refused("id_missing", "a row names a udid or an enrollment_id, and not both")
    try:
        channel = channel_of({"UDID": said.udid, "EnrollmentID": said.enrollment_id})
    except IdentifierError as error:
        raise Refused("id_malformed", error.reason) from None
    names = ("name", "model", "model_name", "product", "os_version", "build", "imei", "meid")
    facts: dict[str, Any] = {name: getattr(said, name) for name in (*names, "topic")}
    return Claim(
        id_kind=channel.device_kind,
        udid=channel.device_key,
        serial=said.serial,
        platform=said.platform or platform_of(said.product or said.model_name or ""),
        facts={name: value for name, value in facts.items() if value is not None},
    )


def _opening(said: ImportRow) -> Opening | None:
    """What the device's last TokenUpdate said."""
    topic, token, magic = said.topic, said.push_token, said.push_magic
    if topic is None and token is None and magic is None:
        return None
    if topic is None or token is None or magic is None:
        raise Refused("push_incomplete", "topic, push_token and push_magic belong together")
    if not magic.isprintable():
        raise Refused("push_magic_malformed", "push_magic is not printable")
    unlock = _data(said.unlock_token, "unlock_token")
    if unlock and said.enrollment_id:
        raise Refused("unlock_token_of_user", "a user enrollment has no unlock token")
    return Opening(topic=topic, token=bytes.fromhex(token), magic=magic, unlock_token=unlock)


def _data(text: str | None, name: str) -> bytes | None:
    if text is None:
        return None
    data = _unbase64(text)
    if not data or len(data) > _TOKEN:
        raise Refused(f"{name}_unreadable", f"{name} must be base64 of 1 to {_TOKEN} bytes")
    return data


def _unbase64(text: str) -> bytes | None:
    """Lines are joined: databases break base64 at 76 characters."""
    try:
        return binascii.a2b_base64("".join(text.split()), strict_mode=True)
    except (ValueError, binascii.Error):
        return None
