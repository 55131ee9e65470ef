"""Answers: they depend on the device, and their keys and types are those of Apple's schema."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import yaml
from cryptography import x509
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.simulator.conftest import MakeDevice
from tests.simulator.responder import Responder
from tools.simulator.answers import Answer, answer
from tools.simulator.catalogue import Kind
from tools.simulator.device import SimulatedDevice
from tools.simulator.wire import profile as profiles
from tools.simulator.wire.messages import Command, xml

SCHEMA = Path(__file__).parents[3] / "shared" / "reference" / "apple-schema"
FILES = {
    "CertificateList": "certificate.list",
    "DeviceInformation": "information.device",
    "DeviceLock": "device.lock",
    "InstalledApplicationList": "application.installed.list",
    "ProfileList": "profile.list",
    "SecurityInfo": "information.security",
}
COMMANDS = {
    *FILES,
    *("ClearPasscode", "DeclarativeManagement", "EraseDevice", "InstallProfile"),
    *("RemoveProfile", "RestartDevice", "ShutDownDevice"),
    *("DisableLostMode", "EnableLostMode", "PlayLostModeSound"),
}
TYPES: dict[str, tuple[type, ...]] = {
    "<array>": (list,),
    "<boolean>": (bool,),
    "<data>": (bytes,),
    "<date>": (dt.datetime,),
    "<dictionary>": (dict,),
    "<integer>": (int,),
    "<real>": (float,),
    "<string>": (str,),
}
PASSCODE_POLICY = {
    "PayloadType": "com.apple.mobiledevice.passwordpolicy",
    "PayloadIdentifier": "test.passcode.policy",
    "PayloadUUID": "1",
    "PayloadVersion": 1,
    "forcePIN": True,
}


def do(device: SimulatedDevice, request_type: str, **keys: Any) -> Answer:
    body = {"RequestType": request_type, **keys} if request_type else keys
    return answer(device, Command("uuid", request_type, body))


def profile_of(*payloads: Mapping[str, Any], identifier: str = "test.passcode") -> bytes:
    return xml(
        {
            "PayloadType": "Configuration",
            "PayloadIdentifier": identifier,
            "PayloadUUID": identifier,
            "PayloadVersion": 1,
            "PayloadContent": [dict(payload) for payload in payloads],
        }
    )


@pytest.fixture
async def devices(
    make_device: MakeDevice, responder: Responder, device_session: aiohttp.ClientSession
) -> dict[Kind, SimulatedDevice]:
    found: dict[Kind, SimulatedDevice] = {}
    kinds: tuple[Kind, ...] = ("iphone", "ipad", "mac")
    for index, kind in enumerate(kinds, start=10):
        found[kind] = make_device(index, kind)
        await found[kind].enroll(device_session, responder.enroll_url)
    return found


def schema(name: str) -> dict[str, Any]:
    if not SCHEMA.is_dir():
        pytest.skip("Apple's schema is not beside this checkout (../shared/reference/apple-schema)")
    text = (SCHEMA / "mdm" / "commands" / f"{name}.yaml").read_text("utf-8")
    document: dict[str, Any] = yaml.safe_load(text)
    return document


def applies(key: Mapping[str, Any], platform: str) -> bool:
    support = (key.get("supportedOS") or {}).get(platform) or {}
    return support.get("introduced") != "n/a"


def check(value: Any, key: Mapping[str, Any], platform: str, path: str) -> list[str]:
    """What about `value` the schema's `key` does not allow."""
    wrong = []
    if not isinstance(value, TYPES[key["type"]]) or (
        key["type"] == "<integer>" and isinstance(value, bool)
    ):
        wrong.append(f"{path}: {type(value).__name__} for {key['type']}")
    if "rangelist" in key and value not in key["rangelist"]:
        wrong.append(f"{path}: {value!r} is not in {key['rangelist']}")
    if not applies(key, platform):
        wrong.append(f"{path}: not on {platform}")
    members = key.get("subkeys") or []
    if isinstance(value, dict):
        wrong += check_keys(value, members, platform, path)
    elif isinstance(value, list) and members:
        for item in value:
            wrong += check(item, members[0], platform, f"{path}[]")
    return wrong


def check_keys(
    value: Mapping[str, Any], keys: Iterable[Mapping[str, Any]], platform: str, path: str
) -> list[str]:
    known = {key["key"]: key for key in keys}
    wrong = [f"{path}.{name}: unknown" for name in value if name not in known]
    for name, key in known.items():
        if name in value:
            wrong += check(value[name], key, platform, f"{path}.{name}")
        elif key.get("presence") == "required" and applies(key, platform):
            wrong.append(f"{path}.{name}: missing")
    return wrong


def platform_of(device: SimulatedDevice) -> str:
    return "macOS" if device.traits.is_mac else "iOS"


@pytest.mark.parametrize("kind", ["iphone", "ipad", "mac"])
@pytest.mark.parametrize("request_type", FILES)
async def test_answers_fit_apple_s_schema(
    kind: Kind, request_type: str, devices: dict[Kind, SimulatedDevice]
) -> None:
    document = schema(FILES[request_type])
    keys: dict[str, Any] = {}
    if request_type == "DeviceInformation":
        queries = document["payloadkeys"][0]["subkeys"][0]["subkeys"]
        keys = {"Queries": [query["key"] for query in queries]}
    if request_type == "DeviceLock":
        keys = {"Message": "Please return me"}
    made = do(devices[kind], request_type, **keys)
    assert made.status == "Acknowledged"
    wrong = check_keys(
        made.extra, document["responsekeys"], platform_of(devices[kind]), request_type
    )
    assert not wrong


def test_every_command_is_one_of_apple_s() -> None:
    if not SCHEMA.is_dir():
        pytest.skip("Apple's schema is not beside this checkout (../shared/reference/apple-schema)")
    known = {
        yaml.safe_load(path.read_text("utf-8"))["payload"]["requesttype"]
        for path in (SCHEMA / "mdm" / "commands").glob("*.yaml")
    }
    assert known >= COMMANDS


async def test_only_what_was_asked_is_answered(devices: dict[Kind, SimulatedDevice]) -> None:
    iphone, mac = devices["iphone"], devices["mac"]
    asked = ["SerialNumber", "IMEI", "IsAppleSilicon", "NoSuchQuery"]
    assert do(iphone, "DeviceInformation", Queries=asked).extra["QueryResponses"] == {
        "SerialNumber": iphone.traits.serial,
        "IMEI": iphone.traits.imei,
    }
    assert do(mac, "DeviceInformation", Queries=asked).extra["QueryResponses"] == {
        "SerialNumber": mac.traits.serial,
        "IsAppleSilicon": True,
    }


@pytest.mark.parametrize("queries", [None, "UDID", [1]])
async def test_queries_that_are_none(queries: Any, enrolled: SimulatedDevice) -> None:
    assert do(enrolled, "DeviceInformation", Queries=queries).status == "CommandFormatError"


async def test_applications_can_be_filtered(enrolled: SimulatedDevice) -> None:
    everything = do(enrolled, "InstalledApplicationList").extra["InstalledApplicationList"]
    assert {app["Identifier"] for app in everything} == {
        app.identifier for app in enrolled.state.apps
    }
    first = everything[0]["Identifier"]
    one = do(enrolled, "InstalledApplicationList", Identifiers=[first], Items=["Version"])
    assert one.extra["InstalledApplicationList"] == [
        {"Identifier": first, "Version": everything[0]["Version"]}
    ]
    managed = do(enrolled, "InstalledApplicationList", ManagedAppsOnly=True)
    assert managed.extra["InstalledApplicationList"] == []


async def test_a_profile_comes_and_goes(enrolled: SimulatedDevice) -> None:
    enrolled.state.passcode_present = False
    assert do(enrolled, "InstallProfile", Payload=profile_of(PASSCODE_POLICY)).errors == ()
    listed = do(enrolled, "ProfileList").extra["ProfileList"]
    assert [one["PayloadIdentifier"] for one in listed] == ["test.enrollment", "test.passcode"]
    security = do(enrolled, "SecurityInfo").extra["SecurityInfo"]
    assert security["PasscodeCompliantWithProfiles"] is False
    assert do(enrolled, "RemoveProfile", Identifier="test.passcode").status == "Acknowledged"
    security = do(enrolled, "SecurityInfo").extra["SecurityInfo"]
    assert security["PasscodeCompliantWithProfiles"] is True
    gone = do(enrolled, "RemoveProfile", Identifier="test.passcode")
    assert (gone.status, gone.errors[0]["ErrorCode"]) == ("Error", 12075)


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"<plist",
        b"\x30\x82\x00\x01\x00",
        xml({"PayloadType": "Configuration"}),
        profile_of({"PayloadType": "com.apple.wifi.managed"}),
        profile_of(PASSCODE_POLICY, PASSCODE_POLICY),
        profile_of({**PASSCODE_POLICY, "PayloadType": "com.apple.mdm"}),
        profile_of(
            {**PASSCODE_POLICY, "PayloadType": "com.apple.security.root", "PayloadContent": b"no"}
        ),
    ],
)
async def test_malformed_profiles_are_errors(payload: bytes, enrolled: SimulatedDevice) -> None:
    made = do(enrolled, "InstallProfile", Payload=payload)
    assert made.status == "Error"
    chain = ("ErrorCode", "ErrorDomain", "LocalizedDescription", "USEnglishDescription")
    assert set(made.errors[0]) == set(chain)
    assert list(enrolled.state.profiles) == ["test.enrollment"]


async def test_a_signed_profile_names_its_signer(
    enrolled: SimulatedDevice, responder: Responder
) -> None:
    [listed] = do(enrolled, "ProfileList").extra["ProfileList"]
    [certificate] = listed["SignerCertificates"]
    assert x509.load_der_x509_certificate(certificate) == responder.authority.ca.certificate
    [identity, root] = do(enrolled, "CertificateList").extra["CertificateList"]
    assert (identity["IsIdentity"], root["IsIdentity"]) == (True, False)
    assert root["CommonName"] == "test CA"
    assert root["Data"] == certificate


async def test_a_management_profile_cannot_move_the_device(
    enrolled: SimulatedDevice, responder: Responder
) -> None:
    moved = responder.profile(ServerURL="https://elsewhere.example.org/")
    made = do(enrolled, "InstallProfile", Payload=moved)
    assert (made.status, made.after) == ("Error", None)


async def test_clear_passcode_needs_the_token_it_gave(
    devices: dict[Kind, SimulatedDevice],
) -> None:
    iphone = devices["iphone"]
    iphone.state.passcode_present = True
    assert do(iphone, "ClearPasscode").status == "CommandFormatError"
    assert do(iphone, "ClearPasscode", UnlockToken=b"wrong").status == "Error"
    assert iphone.state.passcode_present
    token = iphone.managed.unlock_token
    assert do(iphone, "ClearPasscode", UnlockToken=token).status == "Acknowledged"
    assert not iphone.state.passcode_present
    assert do(devices["mac"], "ClearPasscode", UnlockToken=token).status == "Error"


async def test_lock(devices: dict[Kind, SimulatedDevice]) -> None:
    iphone, mac = devices["iphone"], devices["mac"]
    iphone.state.passcode_present = False
    assert do(iphone, "DeviceLock").extra == {}
    assert do(iphone, "DeviceLock", Message="Hello").extra == {"MessageResult": "NoPasscodeSet"}
    assert iphone.state.locked
    assert do(mac, "DeviceLock", PIN="12345").status == "CommandFormatError"
    assert do(mac, "DeviceLock", PIN="123456").status == "Acknowledged"


async def test_what_a_device_does_not_know_or_may_not(enrolled: SimulatedDevice) -> None:
    assert do(enrolled, "").status == "CommandFormatError"
    unknown = do(enrolled, "MakeCoffee")
    assert (unknown.status, unknown.errors[0]["ErrorCode"]) == ("Error", 12021)
    on_user_channel = answer(enrolled, Command("uuid", "EraseDevice", {}), enrolled.traits.user)
    assert on_user_channel.status == "Error"


PLIST_VALUES = st.recursive(
    st.booleans() | st.integers(-9, 9) | st.text(max_size=5) | st.binary(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=5,
)
KEYS = ("Queries", "Identifiers", "Items", "Payload", "Identifier", "PIN", "UnlockToken", "Data")


@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sampled_from(sorted(COMMANDS)), st.dictionaries(st.sampled_from(KEYS), PLIST_VALUES))
def test_no_command_makes_a_device_fail(
    enrolled: SimulatedDevice, request_type: str, keys: dict[str, Any]
) -> None:
    made = do(enrolled, request_type, **keys)
    assert made.status in {"Acknowledged", "Error", "CommandFormatError"}
    assert (made.status == "Acknowledged") is (not made.errors)
    assert xml({**made.extra, "ErrorChain": list(made.errors)})


async def test_rights_limit_commands(
    make_device: MakeDevice, responder: Responder, device_session: aiohttp.ClientSession
) -> None:
    responder.changes = {"AccessRights": 1 | 16}
    device = make_device(14)
    await device.enroll(device_session, responder.enroll_url)
    assert do(device, "ProfileList").status == "Acknowledged"
    refused = do(device, "EraseDevice")
    assert (refused.status, refused.errors[0]["ErrorCode"]) == ("Error", 12008)
    answers = do(device, "DeviceInformation", Queries=["OSVersion", "WiFiMAC"]).extra
    assert set(answers["QueryResponses"]) == {"OSVersion"}


async def test_restart_needs_supervision(make_device: MakeDevice, responder: Responder) -> None:
    unsupervised = make_device(1)
    assert not unsupervised.traits.supervised
    await unsupervised.enroll_with(profiles.read(responder.profile()))
    assert do(unsupervised, "RestartDevice").status == "Error"
    assert do(unsupervised, "ShutDownDevice").status == "Error"


async def test_lost_mode_needs_supervision_and_words(
    make_device: MakeDevice, responder: Responder
) -> None:
    devices = [make_device(index) for index in range(40)]
    phones = [one for one in devices if not one.traits.is_mac]
    lost = next(one for one in phones if one.traits.supervised)
    other = next(one for one in phones if not one.traits.supervised)
    for device in (lost, other):
        await device.enroll_with(profiles.read(responder.profile()))
    assert do(other, "EnableLostMode", Message="m").status == "Error"
    assert do(lost, "PlayLostModeSound").status == "Error"
    assert do(lost, "EnableLostMode", Footnote="f").status == "CommandFormatError"
    assert do(lost, "EnableLostMode", Message="m").status == "Acknowledged"
    asked = do(lost, "DeviceInformation", Queries=["IsMDMLostModeEnabled"]).extra
    assert asked["QueryResponses"] == {"IsMDMLostModeEnabled": True}
    assert do(lost, "PlayLostModeSound").status == "Acknowledged"
    assert do(lost, "DisableLostMode").status == "Acknowledged"
    assert do(lost, "DisableLostMode").status == "Error"


async def test_declarations_are_fetched_and_reported(
    enrolled: SimulatedDevice, responder: Responder
) -> None:
    item = {"Identifier": "one", "ServerToken": "v1"}
    kinds = ("Activations", "Assets", "Configurations", "Management")
    lists: dict[str, list[dict[str, str]]] = {kind: [] for kind in kinds}
    lists["Configurations"] = [item, {"Identifier": "gone", "ServerToken": "v1"}]
    responder.declarations = {
        "tokens": {"SyncTokens": {"DeclarationsToken": "set-1", "Timestamp": "2026-01-01T00:00Z"}},
        "declaration-items": {"Declarations": lists, "DeclarationsToken": "set-1"},
        "declaration/configuration/one": {
            **item,
            "Type": "com.apple.configuration.passcode.settings",
            "Payload": {},
        },
    }
    made = do(enrolled, "DeclarativeManagement")
    assert made.after is not None
    await made.after()
    asked = [message["Endpoint"] for message in responder.said("DeclarativeManagement")]
    assert asked == [
        "tokens",
        "declaration-items",
        "declaration/configuration/one",
        "declaration/configuration/gone",
        "status",
    ]
    status = json.loads(responder.said("DeclarativeManagement")[-1]["Data"])
    assert status["FullReport"] is True
    reported = status["StatusItems"]["management"]["declarations"]["configurations"]
    assert [(one["identifier"], one["server-token"]) for one in reported] == [("one", "v1")]
    assert enrolled.complaints["declarations: declaration answered 404"] == 1
    await made.after()
    assert len(responder.said("DeclarativeManagement")) == 6  # only the tokens were asked again


async def test_an_empty_set_of_declarations_is_fine(
    enrolled: SimulatedDevice, responder: Responder
) -> None:
    kinds = ("Activations", "Assets", "Configurations", "Management")
    responder.declarations = {
        "declaration-items": {
            "Declarations": {kind: [] for kind in kinds},
            "DeclarationsToken": "empty",
        },
    }
    data = json.dumps({"SyncTokens": {"DeclarationsToken": "empty"}}).encode()
    made = do(enrolled, "DeclarativeManagement", Data=data)
    assert made.after is not None
    await made.after()
    asked = [message["Endpoint"] for message in responder.said("DeclarativeManagement")]
    assert asked == ["declaration-items", "status"]
    assert not enrolled.complaints
