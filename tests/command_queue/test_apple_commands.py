"""The Apple side: what commands hold, what they can do, what devices answer. No database."""

from __future__ import annotations

import base64
import plistlib
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.command_queue import catalogue
from services.command_queue.apple import answers, eligibility, profiles, schema, wire
from services.command_queue.errors import CommandRefused
from shared.apple import cms
from shared.events.commands import CommandClass, TargetState
from tests.command_queue.fleet import Authority

_HARMLESS, _DISRUPTIVE, _DESTRUCTIVE = CommandClass


def _profile(*payloads: dict[str, Any], **keys: Any) -> bytes:
    content = [
        {"PayloadIdentifier": f"p{number}", "PayloadUUID": f"u{number}", **payload}
        for number, payload in enumerate(payloads)
    ]
    return plistlib.dumps(
        {
            "PayloadType": "Configuration",
            "PayloadIdentifier": "org.example",
            "PayloadUUID": "0",
            "PayloadVersion": 1,
            "PayloadContent": content,
            **keys,
        }
    )


def _install(data: bytes) -> dict[str, Any]:
    return {"profile": base64.b64encode(data).decode()}


def _raw(command: dict[str, Any]) -> dict[str, Any]:
    payload = base64.b64encode(plistlib.dumps({"Command": command, "CommandUUID": "x"})).decode()
    return {"platform": "apple", "payload": payload}


WIFI = {"PayloadType": "com.apple.wifi.managed"}
WEB_CLIP = {"PayloadType": "com.apple.webClip.managed"}


@pytest.mark.parametrize(
    ("kind", "params", "command"),
    [
        ("inventory.refresh", {"section": "security"}, {"RequestType": "SecurityInfo"}),
        (
            "inventory.refresh",
            {"section": "applications", "managed_only": True},
            {"RequestType": "InstalledApplicationList", "ManagedAppsOnly": True},
        ),
        (
            "inventory.refresh",
            {"section": "profiles", "managed_only": True},
            {"RequestType": "ProfileList", "ManagedOnly": True},
        ),
        ("inventory.refresh", {"section": "certificates"}, {"RequestType": "CertificateList"}),
        ("device.clear_passcode", {}, {"RequestType": "ClearPasscode"}),
        ("device.shutdown", {}, {"RequestType": "ShutDownDevice"}),
        (
            "device.restart",
            {"notify_user": True},
            {"RequestType": "RestartDevice", "NotifyUser": True},
        ),
        (
            "device.lock",
            {"message": "lost", "phone_number": "+41 1"},
            {"RequestType": "DeviceLock", "Message": "lost", "PhoneNumber": "+41 1"},
        ),
        (
            "device.erase",
            {"preserve_data_plan": True, "return_to_service": {"enabled": True}},
            {
                "RequestType": "EraseDevice",
                "PreserveDataPlan": True,
                "ReturnToService": {"Enabled": True},
            },
        ),
        (
            "configuration.remove",
            {"identifier": "a"},
            {"RequestType": "RemoveProfile", "Identifier": "a"},
        ),
    ],
)
def test_each_kind_becomes_its_apple_command(
    kind: str, params: dict[str, Any], command: dict[str, Any]
) -> None:
    order = catalogue.make(kind, params)
    assert order.command == command
    document = wire.render(order.command, UUID(int=1))
    assert plistlib.loads(document) == {"CommandUUID": str(UUID(int=1)), "Command": command}


def test_device_information_asks_for_what_inventory_reads() -> None:
    order = catalogue.make("inventory.refresh", {"section": "device_information"})
    assert {"OSVersion", "SerialNumber", "DeviceName"} <= set(order.command["Queries"])
    assert order.section == "device_information"


@pytest.mark.parametrize(
    ("kind", "params", "expected"),
    [
        ("inventory.refresh", {"section": "profiles"}, _HARMLESS),
        ("device.lock", {}, _DISRUPTIVE),
        ("device.lock", {"pin": "123456"}, _DESTRUCTIVE),
        ("device.restart", {}, _DISRUPTIVE),
        ("device.shutdown", {}, _DISRUPTIVE),
        ("device.clear_passcode", {}, _DISRUPTIVE),
        ("device.erase", {}, _DESTRUCTIVE),
        ("configuration.install", _install(_profile(WEB_CLIP)), _HARMLESS),
        ("configuration.install", _install(_profile(WEB_CLIP, WIFI)), _DISRUPTIVE),
        (
            "configuration.install",
            _install(_profile({"PayloadType": "com.apple.never.heard.of"})),
            _DESTRUCTIVE,
        ),
        (
            "configuration.install",
            _install(_profile({"PayloadType": "com.apple.mdm"})),
            _DESTRUCTIVE,
        ),
        (
            "configuration.install",
            _install(_profile({**WIFI, "Inner": {"PayloadType": "com.apple.mdm"}})),
            _DESTRUCTIVE,
        ),
        (
            "configuration.install",
            _install(
                _profile(WIFI, RemovalDate=datetime(2030, 1, 1, tzinfo=UTC).replace(tzinfo=None))
            ),
            _DESTRUCTIVE,
        ),
        ("configuration.install", _install(_profile(WIFI, DurationUntilRemoval=5)), _DESTRUCTIVE),
        ("configuration.install", _install(_profile(WIFI, Unheard="x")), _DESTRUCTIVE),
        (
            "configuration.install",
            _install(_profile(WIFI, EncryptedPayloadContent=b"x")),
            _DESTRUCTIVE,
        ),
        (
            "configuration.install",
            _install(
                _profile(
                    {"PayloadType": "com.apple.mobiledevice.passwordpolicy", "maxFailedAttempts": 5}
                )
            ),
            _DESTRUCTIVE,
        ),
        (
            "configuration.install",
            _install(
                _profile(
                    {"PayloadType": "com.apple.mobiledevice.passwordpolicy", "maxFailedAttempts": 6}
                )
            ),
            _DISRUPTIVE,
        ),
        *(
            ("configuration.install", _install(_profile({**WIFI, **more})), _DESTRUCTIVE)
            for more in (
                {"MaximumFailedAttempts": 5},
                {"maxFailedAttempts": "six"},
                {"maxFailedAttempts": True},
                {"Deep": [{"RemovalDate": "2030"}]},
                {"Deep": {"EncryptedPayloadContent": b"x"}},
            )
        ),
        ("raw", _raw({"RequestType": "SetFirmwarePassword", "NewPassword": "x"}), _DESTRUCTIVE),
        ("raw", _raw({"RequestType": "SecurityInfo"}), _HARMLESS),
        ("raw", _raw({"RequestType": "SecurityInfo", "Extra": 1}), _DESTRUCTIVE),
        ("raw", _raw({"RequestType": "EraseDevice"}), _DESTRUCTIVE),
        ("raw", _raw({"RequestType": "SomethingNew"}), _DESTRUCTIVE),
        ("raw", _raw({"RequestType": "UserList"}), _HARMLESS),
        ("raw", _raw({"RequestType": "UserList", "Extra": 1}), _DESTRUCTIVE),
        ("raw", _raw({"RequestType": "EnableLostMode", "Message": "m"}), _DISRUPTIVE),
        ("raw", _raw({"RequestType": "SetRecoveryLock", "NewPassword": "x"}), _DESTRUCTIVE),
        ("raw", _raw({"RequestType": "DeleteUser", "UserName": "x"}), _DESTRUCTIVE),
        ("raw", _raw({"RequestType": "ClearActivationLockBypassCode"}), _DESTRUCTIVE),
        ("raw", _raw({"RequestType": "DeviceLock", "PIN": "123456"}), _DESTRUCTIVE),
        ("raw", _raw({"RequestType": "InstallProfile", "Payload": _profile(WIFI)}), _DISRUPTIVE),
        (
            "raw",
            _raw(
                {
                    "RequestType": "InstallProfile",
                    "Payload": _profile({"PayloadType": "com.apple.mdm"}),
                }
            ),
            _DESTRUCTIVE,
        ),
    ],
)
def test_a_command_is_classed_by_what_it_holds(
    kind: str, params: dict[str, Any], expected: CommandClass
) -> None:
    assert catalogue.make(kind, params).command_class is expected


def test_an_mdm_payload_is_found_at_any_depth() -> None:
    hidden = _profile({**WIFI, "PayloadContent": [{"PayloadType": "com.apple.mdm"}]})
    assert profiles.read(hidden).management
    assert not profiles.read(_profile(WIFI)).management


def test_a_signed_profile_is_opened_and_classed_by_what_is_inside() -> None:
    signer = Authority(datetime.now(UTC)).issue("signer")
    signed = cms.sign(_profile({"PayloadType": "com.apple.mdm"}), signer.certificate, signer.key)
    order = catalogue.make("configuration.install", _install(signed))
    assert (order.command_class, order.management) == (_DESTRUCTIVE, True)
    assert order.command["Payload"] == signed


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"no profile",
        plistlib.dumps({"PayloadType": "Configuration"}),
        plistlib.dumps({"PayloadType": "x", "PayloadIdentifier": "a", "PayloadUUID": "b"}),
        _profile(),
        plistlib.dumps(plistlib.loads(_profile(WIFI)), fmt=plistlib.FMT_BINARY),
        _profile(WIFI).replace(b"<key>PayloadVersion</key>", b"<key>PayloadType</key>"),
    ],
)
def test_a_profile_that_cannot_be_judged_is_refused(data: bytes) -> None:
    with pytest.raises(CommandRefused):
        catalogue.make("configuration.install", _install(data))


@pytest.mark.parametrize(
    "command",
    [
        {"RequestType": "DeviceInformation"},
        {"RequestType": "DeviceInformation", "Queries": []},
        {"RequestType": "DeviceInformation", "Queries": [1]},
        {"RequestType": "DeviceInformation", "Queries": "UDID"},
        {"RequestType": "InstalledApplicationList", "Items": ["Nonsense"]},
        {"RequestType": "ProfileList", "ManagedOnly": 1},
        {"RequestType": "InstallProfile"},
        {"RequestType": "RemoveProfile", "Identifier": b"x"},
        {"RequestType": "DeviceLock", "PIN": "12"},
        {"RequestType": "DeviceLock", "Message": "x" * 5000},
        {"RequestType": "EraseDevice", "ObliterationBehavior": "Perhaps"},
        {"RequestType": "EraseDevice", "ReturnToService": {}},
        {"RequestType": "EraseDevice", "Unknown": 1, "PIN": "1"},
        {"RequestType": "ClearPasscode", "UnlockToken": b""},
        {"RequestType": "RestartDevice", "KextPaths": [b"x"]},
        {"RequestType": 5},
        {},
    ],
)
def test_a_raw_body_that_cannot_be_valid_is_refused(command: dict[str, Any]) -> None:
    with pytest.raises((schema.BodyError, CommandRefused)):
        catalogue.make("raw", _raw(command))


def test_a_raw_payload_may_be_the_command_alone_and_its_uuid_is_dropped() -> None:
    alone = base64.b64encode(plistlib.dumps({"RequestType": "SecurityInfo"})).decode()
    order = catalogue.make("raw", {"platform": "apple", "payload": alone})
    assert order.command == {"RequestType": "SecurityInfo"}
    assert catalogue.make("raw", _raw({"RequestType": "UserList"})).command == {
        "RequestType": "UserList"
    }


def test_a_raw_payload_with_duplicate_keys_is_refused() -> None:
    data = (
        b"<plist version='1.0'><dict><key>RequestType</key><string>SecurityInfo</string>"
        b"<key>RequestType</key><string>EraseDevice</string></dict></plist>"
    )
    with pytest.raises(CommandRefused, match="duplicate key"):
        catalogue.make("raw", {"platform": "apple", "payload": base64.b64encode(data).decode()})


@pytest.mark.parametrize("name", sorted(schema.COMMANDS))
def test_every_named_command_has_its_rule_of_eligibility(name: str) -> None:
    assert name in eligibility.RULES


def _target(**fields: Any) -> eligibility.Target:
    return eligibility.Target(
        **{
            "platform": None,
            "os_version": None,
            "ownership": None,
            "mode": "device",
            "supervised": None,
            "access_rights": None,
            "user_channel": False,
            **fields,
        }
    )


@pytest.mark.parametrize("name", sorted(eligibility.RULES))
def test_what_is_not_known_never_speaks_against_a_target(name: str) -> None:
    assert eligibility.why_not(name, _target()) is None
    assert eligibility.why_not(name, _target(platform="unknown")) is None


def test_a_user_channel_takes_only_what_its_platform_allows() -> None:
    mac = _target(platform="macos", user_channel=True)
    phone = _target(platform="ipados", user_channel=True)
    assert eligibility.why_not("ProfileList", phone) is None
    assert eligibility.why_not("CertificateList", mac) is None
    assert eligibility.why_not("CertificateList", phone) == "not eligible: the device channel only"
    assert eligibility.why_not("EraseDevice", mac) == "not eligible: the device channel only"


@given(
    st.text(max_size=20),
    st.sampled_from([None, "ios", "macos", "watchos", "android", "x"]),
    st.text(max_size=12),
    st.booleans(),
)
def test_eligibility_has_an_answer_for_anything(
    name: str, platform: str | None, version: str, user: bool
) -> None:
    for request_type in (name, "EraseDevice", "RestartDevice"):
        target = _target(platform=platform, os_version=version, user_channel=user)
        why = eligibility.why_not(request_type, target)
        assert why is None or why.startswith("not eligible")


_LEAVES = st.one_of(
    st.text(max_size=20),
    st.integers(-(2**63), 2**64 - 1),
    st.booleans(),
    st.binary(max_size=20),
    st.datetimes(timezones=st.just(UTC)),
    st.floats(allow_nan=False, allow_infinity=False),
)
_VALUES = st.recursive(
    _LEAVES,
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4)
    ),
    max_leaves=15,
)


@given(
    st.dictionaries(st.sampled_from(["Status", "CommandUUID", "ErrorChain", "UDID", "X"]), _VALUES)
)
def test_any_well_formed_report_is_read_or_refused(body: dict[str, Any]) -> None:
    try:
        answer = answers.read(body)
    except answers.AnswerError:
        return
    assert answer.status
    assert answer.state in {None, TargetState.ACKNOWLEDGED, TargetState.FAILED}
    assert len(answer.reason or "") <= 300


def test_an_error_chain_of_any_shape_is_bounded() -> None:
    chain: list[Any] = [
        {"ErrorCode": 1 << 60, "ErrorDomain": 5, "LocalizedDescription": "x" * 9000}
    ]
    answer = answers.read({"Status": "Error", "CommandUUID": "a", "ErrorChain": chain * 100 + [3]})
    assert len(answer.errors) == 20
    assert answer.errors[0].code is None
    assert len(answer.errors[0].message or "") == 4000
