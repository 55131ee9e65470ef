"""Check-in messages: what each must carry, and what is refused (checklist 1–5, 15–17, 19, 20)."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.enrollment.apple import messages
from services.enrollment.apple.messages import MessageError
from shared.apple import plist
from shared.apple.identifiers import SHARED_IPAD_USER_ID, Channel

UDID = "00008030-001C2D3E4F50002E"
TOPIC = "com.apple.mgmt.External.1"
DEVICE = Channel("udid", UDID)
USER = Channel("udid", UDID, "user_id", "U-1")


def parse(kind: str, /, **keys: Any) -> messages.Message:
    return messages.parse({"MessageType": kind, "UDID": UDID} | keys)


def test_authenticate() -> None:
    message = parse(
        "Authenticate", Topic=TOPIC, DeviceName="Ann’s Mac", SerialNumber="C02X", OSVersion="15.1"
    )
    assert isinstance(message, messages.Authenticate)
    assert (message.channel, message.topic) == (DEVICE, TOPIC)
    assert (message.device_name, message.serial_number) == ("Ann’s Mac", "C02X")
    assert (message.os_version, message.imei) == ("15.1", None)


def test_token_update() -> None:
    message = parse("TokenUpdate", Topic=TOPIC, Token=b"t" * 9, PushMagic="M-1")
    assert isinstance(message, messages.TokenUpdate)
    assert message.token == b"t" * 9  # field note 6: as short as nine bytes
    assert message.unlock_token is None  # absent: a stored one stays
    assert message.awaiting_configuration is False


def test_token_update_of_a_user() -> None:
    message = parse(
        "TokenUpdate",
        Topic=TOPIC,
        Token=b"t",
        PushMagic="M",
        UserID="U-1",
        UserShortName="ann",
        UserLongName="Ann Example",
        UnlockToken=b"u",
    )
    assert isinstance(message, messages.TokenUpdate)
    assert message.channel == USER
    assert message.user_long_name == "Ann Example"
    assert message.unlock_token is None


def test_token_update_of_a_shared_ipad_user() -> None:
    keys = {"Topic": TOPIC, "Token": b"t", "PushMagic": "M", "UserID": SHARED_IPAD_USER_ID}
    message = parse("TokenUpdate", **keys, UserShortName="ann@example.org")
    assert message.channel == Channel("udid", UDID, "short_name", "ann@example.org")


def test_check_out() -> None:
    assert parse("CheckOut", Topic=TOPIC) == messages.CheckOut(DEVICE, TOPIC)


def test_bootstrap_tokens() -> None:
    message = parse("SetBootstrapToken", BootstrapToken=b"b", AwaitingConfiguration=True)
    assert message == messages.SetBootstrapToken(DEVICE, b"b", awaiting_configuration=True)
    for keys in ({}, {"BootstrapToken": b""}):
        assert parse("SetBootstrapToken", **keys) == messages.SetBootstrapToken(
            DEVICE, None, awaiting_configuration=False
        )
    assert parse("GetBootstrapToken") == messages.GetBootstrapToken(
        DEVICE, awaiting_configuration=False
    )


def test_user_authenticate() -> None:
    first = parse("UserAuthenticate", UserID="U-1", UserShortName="ann")
    assert isinstance(first, messages.UserAuthenticate)
    assert (first.channel, first.digest_response) == (USER, None)
    second = parse("UserAuthenticate", UserID="U-1", DigestResponse="Digest …")
    assert isinstance(second, messages.UserAuthenticate)
    assert second.digest_response == "Digest …"
    with pytest.raises(MessageError, match="no user"):
        parse("UserAuthenticate")


def test_get_token() -> None:
    keys = {"SecurityToken": "s", "PhoneUDID": "p", "WatchUDID": "w"}
    message = parse("GetToken", TokenServiceType="com.apple.watch.pairing", TokenParameters=keys)
    assert message == messages.GetToken(DEVICE, "com.apple.watch.pairing", "s", "p", "w")
    plain = parse("GetToken", TokenServiceType="com.apple.maid")
    assert plain == messages.GetToken(DEVICE, "com.apple.maid", None, None, None)


def test_return_to_service_and_declarations() -> None:
    assert parse("ReturnToService") == messages.ReturnToService(DEVICE)
    report = parse("DeclarativeManagement", Endpoint="status", Data=b"{}")
    assert report == messages.DeclarativeManagement(DEVICE, "status", b"{}")
    asked = parse("DeclarativeManagement", Endpoint="declaration/configuration/a.b-c")
    assert asked == messages.DeclarativeManagement(DEVICE, "declaration/configuration/a.b-c", None)


@pytest.mark.parametrize(
    ("kind", "keys"),
    [
        ("", {}),
        ("Unknown", {}),
        ("Authenticate", {}),
        ("Authenticate", {"Topic": 5}),
        ("Authenticate", {"Topic": "a b"}),
        ("Authenticate", {"Topic": TOPIC, "SerialNumber": 5}),
        ("Authenticate", {"Topic": TOPIC, "UDID": "a b"}),
        ("TokenUpdate", {"Topic": TOPIC, "PushMagic": "M"}),
        ("TokenUpdate", {"Topic": TOPIC, "PushMagic": "M", "Token": b""}),
        ("TokenUpdate", {"Topic": TOPIC, "PushMagic": "M", "Token": "text"}),
        ("TokenUpdate", {"Topic": TOPIC, "PushMagic": "M", "Token": b"t" * 257}),
        ("TokenUpdate", {"Topic": TOPIC, "PushMagic": "", "Token": b"t"}),
        ("TokenUpdate", {"Topic": TOPIC, "PushMagic": "a\nb", "Token": b"t"}),
        ("TokenUpdate", {"Topic": TOPIC, "PushMagic": "M", "Token": b"t", "UnlockToken": "u"}),
        (
            "TokenUpdate",
            {"Topic": TOPIC, "PushMagic": "M", "Token": b"t", "AwaitingConfiguration": 1},
        ),
        ("SetBootstrapToken", {"BootstrapToken": b"b" * 65537}),
        ("GetToken", {}),
        ("GetToken", {"TokenServiceType": "x" * 101}),
        ("GetToken", {"TokenServiceType": "com.apple.maid", "TokenParameters": []}),
        ("GetToken", {"TokenServiceType": "a", "TokenParameters": {"PhoneUDID": "p" * 256}}),
        ("DeclarativeManagement", {"Endpoint": "a b"}),
        ("DeclarativeManagement", {"Endpoint": "status", "Data": "{}"}),
    ],
)
def test_refused(kind: str, keys: dict[str, Any]) -> None:
    with pytest.raises(MessageError) as caught:
        parse(kind, **keys)
    assert len(caught.value.reason) < 80


@pytest.mark.parametrize(
    "kind",
    ["Authenticate", "CheckOut", "SetBootstrapToken", "GetBootstrapToken", "ReturnToService"],
)
def test_only_the_device_channel_may(kind: str) -> None:
    with pytest.raises(MessageError, match="device channel only"):
        parse(kind, Topic=TOPIC, UserID="U-1")


def test_the_message_type_must_be_text() -> None:
    for kind in (None, 5, ["Authenticate"], {"a": "b"}):
        with pytest.raises(MessageError, match="MessageType"):
            messages.parse({"MessageType": kind, "UDID": UDID})


def test_names_of_people_are_cleaned_not_refused() -> None:
    message = parse("Authenticate", Topic=TOPIC, DeviceName="\x1b[2J" + "n" * 10_000, Model="  ")
    assert isinstance(message, messages.Authenticate)
    assert message.device_name is not None
    assert message.device_name.startswith("[2Jn")
    assert len(message.device_name) == 255
    assert message.model is None
    family = "👨‍👩‍👧"
    assert (
        getattr(parse("Authenticate", Topic=TOPIC, DeviceName=family), "device_name", 0) == family
    )


def test_secrets_stay_out_of_the_repr() -> None:
    marked = [
        parse(
            "TokenUpdate",
            Topic=TOPIC,
            Token=b"MARKED",
            PushMagic="MARKED",
            UnlockToken=b"MARKED",
        ),
        parse("SetBootstrapToken", BootstrapToken=b"MARKED"),
        parse("UserAuthenticate", UserID="U-1", DigestResponse="MARKED"),
        parse("GetToken", TokenServiceType="a", TokenParameters={"SecurityToken": "MARKED"}),
    ]
    assert all("MARKED" not in repr(message) for message in marked)


def test_answers() -> None:
    assert messages.bootstrap_token(None) == b""
    assert plist.parse(messages.bootstrap_token(b"b")) == {"BootstrapToken": b"b"}
    assert plist.parse(messages.no_return_to_service()) == {"ReturnToService": {"Enabled": False}}


KEYS = [
    *("Topic", "UserID", "Token", "PushMagic", "UnlockToken", "AwaitingConfiguration"),
    *("BootstrapToken", "TokenServiceType", "TokenParameters", "Endpoint", "Data", "DeviceName"),
]


@given(
    st.sampled_from(["Authenticate", "TokenUpdate", "GetToken", "DeclarativeManagement", "X"]),
    st.dictionaries(
        st.sampled_from(KEYS),
        st.text(max_size=5) | st.binary(max_size=5) | st.booleans() | st.integers() | st.just([]),
    ),
)
def test_anything_is_a_message_or_an_error(kind: str, keys: dict[str, Any]) -> None:
    with contextlib.suppress(MessageError):
        assert parse(kind, **keys).channel.device == DEVICE
