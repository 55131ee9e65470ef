"""The enrollment profile carries what Apple's schema requires, and nothing it does not know."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
import yaml

from services.enrollment.apple import profile
from services.enrollment.apple.profile import Enrollment, ProfileError
from shared.apple import plist

# Facts of Apple's schema, release 18.1: key -> type, with a star where it is required.
COMMON = {
    "PayloadIdentifier": "string*",
    "PayloadUUID": "string*",
    "PayloadType": "string*",
    "PayloadVersion": "integer*",
    "PayloadDescription": "string",
    "PayloadDisplayName": "string",
    "PayloadOrganization": "string",
}
TOP_LEVEL = COMMON | {
    "IsEncrypted": "boolean",
    "PayloadContent": "array*",
    "EncryptedPayloadContent": "data",
    "HasRemovalPasscode": "boolean",
    "PayloadRemovalDisallowed": "boolean",
    "PayloadScope": "string",
    "RemovalDate": "date",
    "DurationUntilRemoval": "real",
    "PayloadExpirationDate": "date",
    "TargetDeviceType": "integer",
    "ConsentText": "dictionary",
}
MDM = {
    "IdentityCertificateUUID": "string*",
    "Topic": "string*",
    "ServerURL": "string*",
    "CheckInURL": "string",
    "SignMessage": "boolean",
    "AccessRights": "integer",
    "UseDevelopmentAPNS": "boolean",
    "ManagedAppleID": "string",
    "AssignedManagedAppleID": "string",
    "EnrollmentMode": "string",
    "ServerURLPinningCertificateUUIDs": "array",
    "CheckInURLPinningCertificateUUIDs": "array",
    "PinningRevocationCheckRequired": "boolean",
    "ServerCapabilities": "array",
    "CheckOutWhenRemoved": "boolean",
    "RequiredAppIDForMDM": "integer",
    "PromptUserToAllowBootstrapTokenForAuthentication": "boolean",
}
SCEP = {"PayloadContent": "dictionary*"}
SCEP_CONTENT = {
    "URL": "string*",
    "Name": "string",
    "Subject": "array",
    "Challenge": "string",
    "Keysize": "integer",
    "Key Type": "string",
    "Key Usage": "integer",
    "CAFingerprint": "data",
    "Retries": "integer",
    "RetryDelay": "integer",
    "SubjectAltName": "dictionary",
    "KeyIsExtractable": "boolean",
    "AllowAllAppsAccess": "boolean",
}
ROOT = {"PayloadCertificateFileName": "string", "PayloadContent": "data*"}
KINDS = {"com.apple.mdm": MDM, "com.apple.security.scep": SCEP, "com.apple.security.root": ROOT}
TYPES = {
    "string": str,
    "integer": int,
    "boolean": bool,
    "data": bytes,
    "array": list,
    "dictionary": dict,
}
SCHEMA = Path(__file__).parents[3] / "shared" / "reference" / "apple-schema"

ENROLLMENT = Enrollment(
    session_id=UUID("0197b3a0-0000-7000-8000-000000000007"),
    organization="Example & Söhne",
    topic="com.apple.mgmt.External.0197b3a0",
    checkin_url="https://mdm.example.org/mdm/apple/checkin",
    connect_url="https://mdm.example.org/mdm/apple/connect",
    scep_url="https://mdm.example.org/scep/one-time-challenge",
    challenge="one-time-challenge",
    roots=(b"first root", b"second root"),
)


def check(values: Mapping[str, Any], facts: Mapping[str, str]) -> None:
    """Every required key is there, every key is known, every value has its type."""
    assert {key for key, kind in facts.items() if kind.endswith("*")} <= values.keys()
    for key, value in values.items():
        assert type(value) is TYPES[facts[key].rstrip("*")], key


def parsed(enrollment: Enrollment = ENROLLMENT) -> dict[str, Any]:
    return plist.parse(profile.render(enrollment))


def payload(kind: str, enrollment: Enrollment = ENROLLMENT) -> dict[str, Any]:
    (found,) = [p for p in parsed(enrollment)["PayloadContent"] if p["PayloadType"] == kind]
    assert isinstance(found, dict)
    return found


def test_every_payload_fits_the_schema() -> None:
    top = parsed()
    check(top, TOP_LEVEL)
    assert top["PayloadType"] == "Configuration"
    kinds = [item["PayloadType"] for item in top["PayloadContent"]]
    assert kinds == ["com.apple.security.root"] * 2 + ["com.apple.security.scep", "com.apple.mdm"]
    for item in top["PayloadContent"]:
        check(item, COMMON | KINDS[item["PayloadType"]])
        assert item["PayloadVersion"] == 1
    check(payload("com.apple.security.scep")["PayloadContent"], SCEP_CONTENT)


def test_management_payload() -> None:
    mdm = payload("com.apple.mdm")
    assert mdm["SignMessage"] is True
    assert mdm["CheckOutWhenRemoved"] is True
    assert mdm["AccessRights"] == 8191
    assert mdm["Topic"] == ENROLLMENT.topic
    assert mdm["ServerURL"] == ENROLLMENT.connect_url
    assert mdm["CheckInURL"] == ENROLLMENT.checkin_url
    assert set(mdm["ServerCapabilities"]) == {
        "com.apple.mdm.per-user-connections",
        "com.apple.mdm.bootstraptoken",
    }
    identity = payload("com.apple.security.scep")
    assert mdm["IdentityCertificateUUID"] == identity["PayloadUUID"]


def test_identity_payload() -> None:
    content = payload("com.apple.security.scep")["PayloadContent"]
    assert content["Keysize"] == 2048
    assert content["Key Type"] == "RSA"
    assert content["Key Usage"] == 5
    assert content["KeyIsExtractable"] is False
    assert (content["URL"], content["Challenge"]) == (ENROLLMENT.scep_url, "one-time-challenge")
    assert content["Subject"][0] == [["O", "Example & Söhne"]]
    assert "?" not in content["URL"]  # some clients append one: secrets stay in the path


def test_root_payloads_carry_the_certificates() -> None:
    roots = [p for p in parsed()["PayloadContent"] if p["PayloadType"] == "com.apple.security.root"]
    assert [item["PayloadContent"] for item in roots] == [b"first root", b"second root"]
    without = parsed(replace(ENROLLMENT, roots=()))["PayloadContent"]
    assert len(without) == 2


def test_uuids_follow_the_session_only() -> None:
    def uuids(enrollment: Enrollment) -> list[str]:
        top = parsed(enrollment)
        return [top["PayloadUUID"], *(item["PayloadUUID"] for item in top["PayloadContent"])]

    ours = uuids(ENROLLMENT)
    assert ours == uuids(replace(ENROLLMENT, challenge="another"))
    assert len(set(ours)) == len(ours)
    assert set(ours).isdisjoint(uuids(replace(ENROLLMENT, session_id=UUID(int=9))))
    # A renewal must replace the profile: identifiers never change.
    assert (
        parsed(replace(ENROLLMENT, session_id=UUID(int=9)))["PayloadIdentifier"]
        == (parsed()["PayloadIdentifier"])
    )


def test_personal_devices_do_not_grant_erase() -> None:
    mdm = payload("com.apple.mdm", replace(ENROLLMENT, rights=profile.PERSONAL_RIGHTS))
    assert mdm["AccessRights"] & 8 == 0
    assert mdm["AccessRights"] | 8 == 8191


def test_account_driven_enrollment_names_no_rights() -> None:
    assert "AccessRights" not in payload("com.apple.mdm", replace(ENROLLMENT, rights=None))


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"topic": "com.example.push"}, "topic"),
        ({"checkin_url": "http://mdm.example.org/"}, "https"),
        ({"connect_url": "http://mdm.example.org/"}, "https"),
        ({"scep_url": "mdm.example.org"}, "https"),
        ({"rights": 0}, "between"),
        ({"rights": 8192}, "between"),
        ({"rights": 2}, "2 needs 1"),
        ({"rights": 128}, "128 needs 64"),
    ],
)
def test_profiles_that_devices_would_refuse(changes: dict[str, Any], reason: str) -> None:
    with pytest.raises(ProfileError, match=reason):
        profile.build(replace(ENROLLMENT, **changes))


def test_secrets_stay_out_of_the_repr() -> None:
    assert "one-time-challenge" not in repr(ENROLLMENT)


@pytest.mark.parametrize(
    ("name", "facts"),
    [
        ("TopLevel", TOP_LEVEL),
        ("CommonPayloadKeys", COMMON),
        ("com.apple.mdm", MDM),
        ("com.apple.security.scep", SCEP),
        ("com.apple.security.root", ROOT),
    ],
)
def test_the_facts_are_those_of_the_schema(name: str, facts: dict[str, str]) -> None:
    if not SCHEMA.is_dir():
        pytest.skip("Apple's schema is not beside this checkout (../shared/reference/apple-schema)")
    document = yaml.safe_load((SCHEMA / "mdm" / "profiles" / f"{name}.yaml").read_text("utf-8"))

    def known(keys: list[dict[str, Any]]) -> dict[str, str]:
        star = {"required": "*"}
        return {
            key["key"]: key["type"].strip("<>") + star.get(key.get("presence", ""), "")
            for key in keys
        }

    assert known(document["payloadkeys"]) == facts
    if name == "com.apple.security.scep":
        assert known(document["payloadkeys"][0]["subkeys"]) == SCEP_CONTENT
