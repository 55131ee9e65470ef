"""Bootstrap tokens, and the services that are politely refused."""

from __future__ import annotations

import json
import plistlib

import pytest

from shared.events.devices import BootstrapTokenChanged
from tests.enrollment.conftest import DECLARATIONS, Apple, House


async def bootstrap_token(house: House, mac: Apple) -> bytes:
    answer = await house.check_in(mac, mac.message("GetBootstrapToken"))
    assert answer.status == 200
    if not answer.body:
        return b""
    token: bytes = plistlib.loads(answer.body)["BootstrapToken"]
    return token


async def test_get_before_set_is_an_empty_success(house: House) -> None:
    """apple.md §1.11, 4."""
    mac = await house.enrolled(product="Mac15,3")
    answer = await house.check_in(mac, mac.message("GetBootstrapToken"))
    assert (answer.status, answer.body) == (200, b"")


@pytest.mark.parametrize("gone", [b"", None])
async def test_set_with_empty_data_deletes(house: House, gone: bytes | None) -> None:
    """apple.md §1.11, 5: absent and empty mean the same."""
    mac = await house.enrolled(product="Mac15,3")
    await house.told()
    await house.check_in(mac, mac.message("SetBootstrapToken", BootstrapToken=b"bootstrap"))
    assert await bootstrap_token(house, mac) == b"bootstrap"
    assert (await house.told()).one(BootstrapTokenChanged).escrowed
    [row] = await house.query("SELECT bootstrap_token FROM enrollment")
    assert b"bootstrap" not in row["bootstrap_token"]
    await house.check_in(mac, mac.message("SetBootstrapToken", BootstrapToken=gone))
    assert await bootstrap_token(house, mac) == b""
    assert not (await house.told()).one(BootstrapTokenChanged).escrowed


async def test_return_to_service_is_declined_in_so_many_words(house: House) -> None:
    """apple.md §1.11, 19: a server that is not set up for it must say Enabled=false."""
    device = await house.enrolled()
    answer = await house.check_in(device, device.message("ReturnToService"))
    assert answer.status == 200
    assert plistlib.loads(answer.body) == {"ReturnToService": {"Enabled": False}}


async def test_no_token_service_is_offered(house: House) -> None:
    device = await house.enrolled()
    message = device.message("GetToken", TokenServiceType="com.apple.maid")
    answer = await house.check_in(device, message)
    assert (answer.status, answer.text) == (404, "no_token_service\n")


async def test_declarations_come_from_configuration(house: House) -> None:
    device = await house.enrolled()
    tokens = {"SyncTokens": {"DeclarationsToken": "t", "Timestamp": "2026-01-01T00:00:00Z"}}
    house.others.answers["configuration", DECLARATIONS] = {"status": 200, "body": tokens}
    answer = await house.check_in(
        device, device.message("DeclarativeManagement", Endpoint="tokens")
    )
    assert answer.status == 200
    assert json.loads(answer.body) == tokens
    assert answer.headers["Content-Type"] == "application/json"

    house.others.answers["configuration", DECLARATIONS] = {"status": 404, "body": None}
    unknown = device.message("DeclarativeManagement", Endpoint="declaration/asset/x")
    answer = await house.check_in(device, unknown)
    assert (answer.status, answer.body) == (404, b"")

    house.others.answers["configuration", DECLARATIONS] = {"status": 200, "body": None}
    status = device.message("DeclarativeManagement", Endpoint="status", Data=b"{}")
    answer = await house.check_in(device, status)
    assert (answer.status, answer.body) == (200, b"")
    assert house.others.calls[-1][3] == {
        "device_id": str(await house.id_of(device)),
        "endpoint": "status",
        "data": "e30=",
    }


async def test_a_device_comes_again_while_configuration_is_away(house: House) -> None:
    device = await house.enrolled()
    house.others.failing.add("configuration")
    answer = await house.check_in(
        device, device.message("DeclarativeManagement", Endpoint="tokens")
    )
    assert answer.status == 503
