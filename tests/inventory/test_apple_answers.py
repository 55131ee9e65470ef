"""Apple's answers become facts; nothing that a device writes can break the reader."""

from __future__ import annotations

import base64
import hashlib
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from hypothesis import given
from hypothesis import strategies as st

from services.inventory import apple
from services.inventory.facts import FACTS, SECTIONS
from services.inventory.readings import MAX_ITEMS, Reading, UnreadableError
from shared.events.inventory import Section

MAIN_KEYS = {
    "device_information": "QueryResponses",
    "security": "SecurityInfo",
    "applications": "InstalledApplicationList",
    "profiles": "ProfileList",
    "certificates": "CertificateList",
}


def device_information(**responses: Any) -> Reading:
    return apple.read("device_information", {"QueryResponses": responses})


def security(**info: Any) -> Reading:
    return apple.read("security", {"SecurityInfo": info})


def der(common_name: str = "device") -> bytes:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])
    return (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(0xABC)
        .not_valid_before(datetime(2026, 1, 1, tzinfo=UTC))
        .not_valid_after(datetime(2026, 1, 1, tzinfo=UTC) + timedelta(days=365))
        .sign(key, hashes.SHA256())
        .public_bytes(serialization.Encoding.DER)
    )


def test_device_information_becomes_facts() -> None:
    reading = device_information(
        OSVersion="17.4.1",
        BuildVersion="21E236",
        DeviceName="Ada's iPhone",
        ProductName="iPhone14,5",
        IsSupervised=True,
        BatteryLevel=0.87654,
        DeviceCapacity=128,
        AvailableDeviceCapacity=63.44,
        LastCloudBackupDate="2026-05-01T08:00:00Z",
        OSUpdateSettings={"AutoCheckEnabled": True},
    )
    assert reading == Reading(
        facts={
            "os.version": "17.4.1",
            "os.build": "21E236",
            "device.name": "Ada's iPhone",
            "device.product": "iPhone14,5",
            "device.supervised": True,
            "battery.level": 0.88,
            "storage.capacity": 128.0,
            "storage.available": 63.4,
            "backup.cloud_at": "2026-05-01T08:00:00+00:00",
            "updates.automatic_check": True,
        }
    )


def test_what_is_not_answered_is_missing_and_wrong_types_are_counted() -> None:
    reading = device_information(
        OSVersion=17, IsSupervised="yes", BatteryLevel=-1.0, DeviceName="", DeviceCapacity=True
    )
    assert reading.facts == {}
    assert reading.ignored == 3


@pytest.mark.parametrize(
    ("info", "expected"),
    [
        ({"FDE_Enabled": True}, True),
        ({"FDE_Enabled": False}, False),
        ({"HardwareEncryptionCaps": 3, "PasscodePresent": True}, True),
        ({"HardwareEncryptionCaps": 3, "PasscodePresent": False}, False),
        ({"HardwareEncryptionCaps": 1, "PasscodePresent": True}, False),
        ({"HardwareEncryptionCaps": 1}, False),
        ({"HardwareEncryptionCaps": 3}, None),
        ({"PasscodePresent": True}, None),
        ({"PasscodePresent": False}, None),
        ({}, None),
    ],
)
def test_encryption_follows_the_platforms_own_rule(info: dict[str, Any], expected: object) -> None:
    assert security(**info).facts.get("encryption.enabled") == expected


def test_security_reads_nested_dictionaries_and_no_secret() -> None:
    reading = security(
        FDE_Enabled=True,
        FDE_PersonalRecoveryKeyCMS={"$data": "c2VjcmV0"},
        FirewallSettings={"FirewallEnabled": True, "Applications": [{"BundleID": "x"}]},
        SecureBoot={"SecureBootLevel": "full"},
        ManagementStatus={"UserApprovedEnrollment": True, "IsUserEnrollment": "no"},
        FirmwarePasswordStatus="rubbish",
    )
    assert reading.facts == {
        "filevault.enabled": True,
        "encryption.enabled": True,
        "firewall.enabled": True,
        "secure_boot.level": "full",
        "management.user_approved": True,
    }
    assert reading.ignored == 2


def test_applications_fold_copies_and_name_what_has_no_identifier() -> None:
    rows: list[Any] = [
        {"Identifier": "com.example.a", "Name": "A", "ShortVersion": "9.9", "DynamicSize": 1},
        {"Identifier": "com.example.a", "Name": "A", "ShortVersion": "10.0"},
        {"Name": "Nameless", "Version": "1"},
        {"Version": "1"},
        {"Identifier": "x" * 400},
        "rubbish",
        {"Identifier": "com.example.d", "Source": "Declarative Device Management"},
    ]
    reading = apple.read("applications", {"InstalledApplicationList": rows})
    assert reading.items == {
        "com.example.a": {"name": "A", "short_version": "10.0"},
        "name:Nameless": {"name": "Nameless", "version": "1"},
        "com.example.d": {"managed": True},
    }
    assert reading.ignored == 3
    turned = apple.read("applications", {"InstalledApplicationList": rows[::-1]})
    assert turned.items == reading.items


def test_profiles_need_identifier_and_uuid() -> None:
    rows = [
        {
            "PayloadIdentifier": "com.example.wifi",
            "PayloadUUID": "U1",
            "PayloadDisplayName": "Wi-Fi",
            "IsManaged": True,
            "PayloadContent": [{"PayloadType": "com.apple.wifi.managed"}],
        },
        {"PayloadIdentifier": "com.example.broken"},
    ]
    reading = apple.read("profiles", {"ProfileList": rows})
    assert reading.items == {"com.example.wifi": {"uuid": "U1", "name": "Wi-Fi", "managed": True}}
    assert reading.ignored == 1


def test_certificates_are_keyed_by_hash_and_read_inside() -> None:
    good = der()
    rows = [
        {
            "CommonName": "device",
            "IsIdentity": True,
            "Data": {"$data": base64.b64encode(good).decode()},
        },
        {"CommonName": "odd", "IsIdentity": False, "Data": {"$data": "AAAA"}},
        {"CommonName": "none"},
        {"Data": {"$data": "***"}},
    ]
    reading = apple.read("certificates", {"CertificateList": rows})
    assert reading.items == {
        hashlib.sha256(good).hexdigest(): {
            "common_name": "device",
            "identity": True,
            "not_after": "2027-01-01T00:00:00+00:00",
            "issuer": "device",
            "serial_number": "abc",
        },
        hashlib.sha256(b"\0\0\0").hexdigest(): {"common_name": "odd", "identity": False},
    }
    assert reading.ignored == 2


@pytest.mark.parametrize("section", SECTIONS)
@pytest.mark.parametrize("value", [None, "rubbish", 7, True])
def test_an_answer_without_its_main_key_is_unreadable(section: Section, value: object) -> None:
    with pytest.raises(UnreadableError):
        apple.read(section, {MAIN_KEYS[section]: value})
    with pytest.raises(UnreadableError):
        apple.read(section, {})


def test_a_list_that_is_too_long_is_refused_whole() -> None:
    rows = [{"Identifier": f"app{n}"} for n in range(MAX_ITEMS + 1)]
    with pytest.raises(UnreadableError):
        apple.read("applications", {"InstalledApplicationList": rows})
    kept = apple.read("applications", {"InstalledApplicationList": rows[1:]})
    assert kept.items is not None
    assert len(kept.items) == MAX_ITEMS


def test_every_fact_that_is_read_is_in_the_catalogue() -> None:
    tables = {
        "device_information": [
            apple.device_information._QUERIES,
            apple.device_information._UPDATES,
        ],
        "security": [apple.security._INFO, *apple.security._NESTED.values()],
    }
    names = {
        section: [fact for table in found for fact, _ in table.values()]
        for section, found in tables.items()
    }
    names["security"].append("encryption.enabled")
    for section, found in names.items():
        assert sorted(found) == sorted(f.name for f in FACTS.values() if f.section == section)


ODD = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text()
    | st.sampled_from(["2026-01-01T00:00:00Z", "9999-12-31T23:59:59-14:00", "\0", "\ud800"])
    | st.binary().map(lambda data: {"$data": base64.b64encode(data).decode()}),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(), inner, max_size=5),
    max_leaves=10,
)
KEYS = st.sampled_from(
    [
        *apple.device_information._QUERIES,
        *apple.security._INFO,
        *apple.security._NESTED,
        *(key for nested in apple.security._NESTED.values() for key in nested),
        *("OSUpdateSettings", "AutoCheckEnabled", "Identifier", "Name", "Version", "ShortVersion"),
        *("Source", "PayloadIdentifier", "PayloadUUID", "IsManaged", "CommonName", "IsIdentity"),
        "Data",
    ]
)
DICTIONARY = st.dictionaries(KEYS, ODD | st.dictionaries(KEYS, ODD, max_size=4), max_size=12)


@given(section=st.sampled_from(SECTIONS), main=ODD | DICTIONARY | st.lists(ODD | DICTIONARY))
def test_no_answer_breaks_the_reader(section: Section, main: object) -> None:
    try:
        reading = apple.read(section, {MAIN_KEYS[section]: main})
    except UnreadableError:
        return
    assert reading.ignored >= 0
    for name, value in reading.facts.items():
        _fits(FACTS[name].kind, value)
    for key, detail in (reading.items or {}).items():
        assert 0 < len(key) <= 300
        assert all(isinstance(v, str | bool) and len(str(v)) <= 300 for v in detail.values())
        "".join([key, *map(str, detail.values())]).encode()


def _fits(kind: str, value: object) -> None:
    if kind in {"text", "time"}:
        assert isinstance(value, str)
        assert 0 < len(value) <= 300
        assert "\0" not in value
        value.encode()
        if kind == "time":
            assert datetime.fromisoformat(value).tzinfo is not None
    else:
        wanted = {"flag": bool, "count": int, "number": float}[kind]
        assert type(value) is wanted
