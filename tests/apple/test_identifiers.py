"""Who speaks (apple.md §1.2; checklist 16)."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.apple.identifiers import (
    SHARED_IPAD_USER_ID,
    Channel,
    IdentifierError,
    channel_of,
)

UDID = "00008030-001C2D3E4F50002E"


@pytest.mark.parametrize(
    ("body", "channel"),
    [
        ({"UDID": UDID}, Channel("udid", UDID)),
        ({"UDID": UDID, "EnrollmentID": "E-1"}, Channel("udid", UDID)),
        ({"UDID": "", "EnrollmentID": "E-1"}, Channel("enrollment_id", "E-1")),
        ({"UDID": UDID, "UserID": ""}, Channel("udid", UDID)),
        ({"UDID": UDID, "UserID": "U-1"}, Channel("udid", UDID, "user_id", "U-1")),
        (
            {"EnrollmentID": "E-1", "EnrollmentUserID": "EU-1"},
            Channel("enrollment_id", "E-1", "enrollment_user_id", "EU-1"),
        ),
        (
            {"UDID": UDID, "UserID": SHARED_IPAD_USER_ID, "UserShortName": "ann@example.org"},
            Channel("udid", UDID, "short_name", "ann@example.org"),
        ),
    ],
)
def test_channel(body: dict[str, Any], channel: Channel) -> None:
    assert channel_of(body) == channel
    assert channel_of(body).device == Channel(channel.device_kind, channel.device_key)
    assert channel_of(body).is_user == (channel.user_key is not None)


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"UserID": "U-1"},
        {"UDID": 5},
        {"UDID": "a b"},
        {"UDID": "a\n"},
        {"UDID": "x" * 129},
        {"UDID": "ü"},
        {"UDID": UDID, "UserID": ["U"]},
        {"UDID": UDID, "UserID": SHARED_IPAD_USER_ID},
        {"UDID": UDID, "UserID": SHARED_IPAD_USER_ID, "UserShortName": "a\x1b[2J"},
        {"UDID": UDID, "UserID": SHARED_IPAD_USER_ID, "UserShortName": "n" * 256},
    ],
)
def test_no_channel(body: dict[str, Any]) -> None:
    with pytest.raises(IdentifierError):
        channel_of(body)


def test_joined_looks_do_not_make_two_channels_one() -> None:
    device = channel_of({"UDID": "A:B"})
    user = channel_of({"UDID": "A", "UserID": "B"})
    assert device != user


@given(st.dictionaries(st.sampled_from(["UDID", "UserID", "EnrollmentID"]), st.text() | st.none()))
def test_anything_is_a_channel_or_an_error(body: dict[str, Any]) -> None:
    try:
        channel = channel_of(body)
    except IdentifierError:
        return
    assert channel.device_key.isascii()
