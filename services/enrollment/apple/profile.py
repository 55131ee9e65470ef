"""The Apple enrollment profile: who to trust, how to get an identity, where the server is.

Keys as in Apple's profile schema (TopLevel, com.apple.security.scep, com.apple.mdm,
com.apple.security.root). Topic, ServerURL, CheckInURL and per-user connections can never change on
an enrolled device, and rights can only shrink: what stands here is for the life of an enrollment.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final
from uuid import UUID

from shared.apple import plist

CONTENT_TYPE: Final = "application/x-apple-aspen-config"
IDENTIFIER: Final = "org.muster.enrollment"
"""The same in every profile: a renewal must replace the profile, not stand beside it."""

ALL_RIGHTS: Final = 8191
ERASE_RIGHT: Final = 8
PERSONAL_RIGHTS: Final = ALL_RIGHTS & ~ERASE_RIGHT
"""Personal devices are never erased: their profile does not even ask for the right."""

# com.apple.mdm.token is not among them: a server that names it is asked for tokens.
PER_USER: Final = "com.apple.mdm.per-user-connections"
CAPABILITIES: Final = (PER_USER, "com.apple.mdm.bootstraptoken")

_KEY_SIZE: Final = 2048
_SIGN_AND_ENCRYPT: Final = 1 | 4
# A right that needs another one (com.apple.mdm, AccessRights).
_NEEDS: Final = ((2, 1), (128, 64))


class ProfileError(ValueError):
    """A profile with these values would be refused by devices; the message says what to change."""


@dataclass(frozen=True)
class Enrollment:
    """What one profile is made from; one enrollment session always gives the same payload UUIDs.

    `rights` is None only for account-driven user enrollment. `roots` are DER certificates that the
    device must trust to reach the server, when a public CA did not issue its certificate.
    """

    session_id: UUID
    organization: str
    topic: str
    checkin_url: str | None
    """None: check-ins go to `connect_url`, as in some profiles of other servers."""
    connect_url: str
    scep_url: str = field(repr=False)
    challenge: str = field(repr=False)
    rights: int | None = ALL_RIGHTS
    roots: Sequence[bytes] = ()
    identifier: str = IDENTIFIER
    management_identifier: str | None = None
    """Where another server's profile is to be replaced, both are that one's."""
    per_user: bool = True


def render(enrollment: Enrollment) -> bytes:
    """Return the profile as XML, to be signed or served as it is; raises ProfileError."""
    return plist.dump(build(enrollment))


def build(enrollment: Enrollment) -> dict[str, Any]:
    """Return the profile as a dictionary; raises ProfileError."""
    _check(enrollment)
    content = [
        *(_root(enrollment, number, root) for number, root in enumerate(enrollment.roots)),
        _identity(enrollment),
        _management(enrollment),
    ]
    about = f"Lets {enrollment.organization} manage this device."
    top = _payload(enrollment, "Configuration", "profile", "Device management")
    return top | {
        "PayloadIdentifier": enrollment.identifier,
        "PayloadOrganization": enrollment.organization,
        "PayloadDescription": about,
        "PayloadScope": "System",
        "PayloadContent": content,
    }


def payload_uuid(session_id: UUID, part: str) -> str:
    """Return the UUID of one payload of a session's profile."""
    return str(uuid.uuid5(session_id, part)).upper()


def _payload(enrollment: Enrollment, kind: str, part: str, name: str) -> dict[str, Any]:
    return {
        "PayloadType": kind,
        "PayloadVersion": 1,
        "PayloadIdentifier": f"{enrollment.identifier}.{part}",
        "PayloadUUID": payload_uuid(enrollment.session_id, part),
        "PayloadDisplayName": name,
    }


def _root(enrollment: Enrollment, number: int, certificate: bytes) -> dict[str, Any]:
    payload = _payload(enrollment, "com.apple.security.root", f"root{number}", "Server trust")
    return payload | {
        "PayloadCertificateFileName": f"root{number}.cer",
        "PayloadContent": certificate,
    }


def _identity(enrollment: Enrollment) -> dict[str, Any]:
    payload = _payload(enrollment, "com.apple.security.scep", "identity", "Device identity")
    name = f"Muster device {enrollment.session_id}"
    return payload | {
        "PayloadContent": {
            "URL": enrollment.scep_url,
            "Name": enrollment.organization,
            "Subject": [[["O", enrollment.organization]], [["CN", name]]],
            "Challenge": enrollment.challenge,
            "Key Type": "RSA",
            "Keysize": _KEY_SIZE,  # the default of the payload is 1024
            "Key Usage": _SIGN_AND_ENCRYPT,
            "Retries": 3,
            "RetryDelay": 10,
            "KeyIsExtractable": False,
        }
    }


def _management(enrollment: Enrollment) -> dict[str, Any]:
    payload = _payload(enrollment, "com.apple.mdm", "management", "Management")
    rights = {} if enrollment.rights is None else {"AccessRights": enrollment.rights}
    checkin = {} if enrollment.checkin_url is None else {"CheckInURL": enrollment.checkin_url}
    capabilities = [one for one in CAPABILITIES if enrollment.per_user or one != PER_USER]
    if enrollment.management_identifier:
        payload["PayloadIdentifier"] = enrollment.management_identifier
    return payload | {
        "IdentityCertificateUUID": payload_uuid(enrollment.session_id, "identity"),
        "Topic": enrollment.topic,
        "ServerURL": enrollment.connect_url,
        "SignMessage": True,
        "CheckOutWhenRemoved": True,
        "ServerCapabilities": capabilities,
        **checkin,
        **rights,
    }


def _check(enrollment: Enrollment) -> None:
    if not enrollment.topic.startswith("com.apple.mgmt."):
        raise ProfileError("the push topic must begin with com.apple.mgmt.: upload a certificate")
    for address in (enrollment.checkin_url, enrollment.connect_url, enrollment.scep_url):
        if address is not None and not address.startswith("https://"):
            raise ProfileError("devices accept https:// addresses only: set MUSTER_PUBLIC_URL")
    rights = enrollment.rights
    if rights is None:
        return
    if not 0 < rights <= ALL_RIGHTS:
        raise ProfileError(f"access rights must lie between 1 and {ALL_RIGHTS}")
    for right, needed in _NEEDS:
        if rights & right and not rights & needed:
            raise ProfileError(f"access right {right} needs {needed}")
