"""Marked secrets on every path, good and bad; then logs, events, tables and answers are searched.

What is found in the clear anywhere but where it was sent to fails (security.md, Secrets and keys).
"""

from __future__ import annotations

import base64
import json
import logging
import plistlib
from typing import Any
from uuid import uuid4

import pytest

from shared.apple import cms as our_cms
from shared.events.device_state import DeviceState
from tests.attacks.marked import Marked, everything_kept, everything_logged, everything_told
from tests.command_queue.fleet import CONNECT, Fleet
from tests.enrollment.conftest import TOPIC, House
from tools.simulator.wire import cms, scep


def test_the_search_finds_what_is_there() -> None:
    marked = Marked()
    secret = marked.text("secret")
    for leak in (
        secret,
        f'{{"a": "{base64.b64encode(secret.encode()).decode()}"}}',
        base64.b64encode(b"12" + secret.encode() + b"3456").decode(),
        secret.encode().hex(),
    ):
        assert marked.found_in(f"before {leak} after") == ["secret"]
    assert marked.found_in("nothing here") == []


async def _bad_days(house: House, marked: Marked, token: str, challenge: str) -> list[str]:
    """The same secrets where they do not belong; what is answered."""
    odd = await house.enrolled()
    secret = marked.text("secret in a bad message")
    bad: list[dict[str, Any] | bytes] = [
        odd.message("TokenUpdate", Topic=secret + " ", Token=secret.encode(), PushMagic=secret),
        odd.message("TokenUpdate", Topic=TOPIC, Token=secret, PushMagic=secret),
        odd.message("SetBootstrapToken", BootstrapToken=secret),
        odd.message("SetBootstrapToken", BootstrapToken=secret.encode() * 3000),
        odd.message("GetToken", TokenServiceType=secret),
        odd.message(secret),
        odd.message("UserAuthenticate", UserID="A", DigestResponse=secret),
        odd.message("DeclarativeManagement", Endpoint="status", Data=secret.encode()),
        odd.message("DeclarativeManagement", Endpoint=secret + "\n"),
        f"<plist version='1.0'><dict><key>a</key><data>{secret}!</data></dict></plist>".encode(),
        f"<!DOCTYPE plist [<!ENTITY {secret} '{secret}'>]><plist/>".encode(),
    ]
    answers = [await house.check_in(odd, message) for message in bad]
    assert odd.identity is not None
    signature = base64.b64encode(cms.sign(secret.encode(), [odd.identity])).decode()
    marked.know("signature", signature[-80:])
    for header in (signature, secret, f"{signature}{secret}"):
        headers = {"Mdm-Signature": header}
        path = "/mdm/apple/checkin"
        answers.append(await house.service.send("devices", "PUT", path, b"rubbish", headers))
    answers += [
        await house.device_get(path)
        for path in (
            f"{token}{secret}",
            f"{token}?unsigned=1",
            f"/scep/{secret}?operation={secret}",
            f"{challenge}?operation=PKIOperation&message={secret}",
            f"{challenge}?operation=GetCACaps&operation={secret}",
        )
    ]
    for bearer in (secret, f"eyJhbGciOiJub25lIn0.{secret}.", f"{house.service.token()}{secret}"):
        headers = {"Authorization": f"Bearer {bearer}", "Content-Type": "application/json"}
        data = json.dumps({"name": {"nested": secret}, "token": secret}).encode()
        path = "/api/v1/enrollment/credentials"
        answers.append(await house.service.send("api", "POST", path, data, headers))
    with pytest.raises(scep.ScepRefused):
        await house.issue(challenge, secret)
    house.others.failing.add("command_queue")
    answers.append(await house.check_in(odd, odd.authenticate(DeviceName="x")))
    house.others.failing.clear()
    assert answers.pop().status == 503
    body = {"name": 7, "serial": [secret], "user": secret * 10}
    answers.append(await house.service.call("POST", "/api/v1/enrollment/credentials", body))
    return [f"{one.status} {one.text}" for one in answers]


@pytest.mark.filterwarnings("ignore::ResourceWarning")
async def test_enrollment_tells_nobody(house: House) -> None:
    marked = Marked()
    with everything_logged() as log:
        token = await house.credential(max_uses=3)
        marked.know("credential", token.rpartition("/")[2])
        document = await house.profile(token)
        payload = next(p for p in document["PayloadContent"] if p["PayloadType"].endswith(".scep"))
        challenge = payload["PayloadContent"]["URL"].removeprefix("https://mdm.example.org")
        marked.know("challenge", payload["PayloadContent"]["Challenge"])
        mac = house.device(product="Mac15,3")
        mac.identity = await house.identity_of(document)
        await house.check_in(mac, mac.authenticate())
        update = mac.token_update(
            Token=marked.text("push token").encode(),
            PushMagic=marked.text("push magic"),
            UnlockToken=marked.text("unlock token").encode(),
        )
        assert (await house.check_in(mac, update)).status == 200
        bootstrap = marked.text("bootstrap token")
        message = mac.message("SetBootstrapToken", BootstrapToken=bootstrap.encode())
        assert (await house.check_in(mac, message)).status == 200
        asked = mac.message(
            "GetToken",
            TokenServiceType="com.apple.maid",
            TokenParameters={"SecurityToken": marked.text("security token")},
        )
        assert (await house.check_in(mac, asked)).status == 404
        given = await house.check_in(mac, mac.message("GetBootstrapToken"))
        assert plistlib.loads(given.body) == {"BootstrapToken": bootstrap.encode()}
        answers = await _bad_days(house, marked, token, challenge)
        marked.know("access token", house.service.token()[-40:])
        device_id = await house.id_of(mac)
        answers += [
            json.dumps(await house.call("GET", path))
            for path in ("/devices", f"/devices/{device_id}", "/credentials", "/certificates")
        ]
    assert "canary" in log.getvalue()
    assert "A certificate was refused" in log.getvalue()
    assert "A request could not be served now" in log.getvalue()
    assert marked.found_in(log.getvalue()) == []
    assert marked.found_in(await everything_kept(house.service)) == []
    assert marked.found_in(await everything_told(house.service)) == []
    assert marked.found_in("\n".join(answers)) == []
    assert not [one for one in answers if one.startswith("5")]


async def test_a_log_line_is_one_line_whatever_a_device_is_called(house: House) -> None:
    """Line feeds, ANSI colours and forged JSON in names stay values of the one line they are in."""
    evil = 'x\n{"level": "critical", "message": "forged"}\r\nred\u2028\u2029\u202e'
    with everything_logged() as log:
        device = house.device()
        device.identity = await house.identity(await house.credential())
        await house.check_in(device, device.authenticate(DeviceName=evil, ModelName=evil))
        await house.check_in(device, device.token_update(Topic=evil))
        await house.device_get("/enroll/apple/x%0a%7B%22level%22:%22critical%22%7D")
        await house.service.call(
            "GET", "/api/v1/enrollment/devices", headers={"X-Correlation-Id": evil.encode().hex()}
        )
        coloured = f"\x1b[31m{evil}"
        logging.getLogger("attack").warning("told: %s", coloured, extra={"about": coloured})
    lines = [json.loads(line) for line in log.getvalue().rstrip("\n").split("\n")]
    assert any(line["logger"] == "attack" for line in lines)
    assert not [line for line in lines if line.get("message") == "forged"]
    assert "\x1b" not in log.getvalue()


def _profile(secret: str) -> bytes:
    payload = {
        "PayloadType": "com.apple.wifi.managed",
        "PayloadIdentifier": "wifi",
        "PayloadUUID": str(uuid4()),
        "SSID_STR": "office",
        "Password": secret,
    }
    return plistlib.dumps(
        {
            "PayloadType": "Configuration",
            "PayloadIdentifier": "com.example.wifi",
            "PayloadUUID": str(uuid4()),
            "PayloadContent": [payload],
        }
    )


async def _ask(fleet: Fleet, device: str, kind: str, params: dict[str, Any], **more: Any) -> str:
    body = {
        "kind": kind,
        "params": params,
        "device_ids": [device],
        "idempotency_key": str(uuid4()),
        **more,
    }
    answer = await fleet.trial.call("POST", "/api/v1/commands", body)
    return f"{answer.status} {answer.text}"


@pytest.mark.filterwarnings("ignore::ResourceWarning")
async def test_command_queue_tells_nobody(fleet: Fleet) -> None:
    marked = Marked()
    unlock = marked.text("unlock token")
    with everything_logged() as log:
        phone = await fleet.enroll(unlock_token=unlock.encode())
        device = str(phone.device_id)
        wifi = _profile(marked.text("Wi-Fi password"))
        raw = plistlib.dumps(
            {"Command": {"RequestType": "SetRecoveryLock", "NewPassword": marked.text("raw")}}
        )
        secret = marked.text("secret in a bad request")
        answers = [
            await _ask(fleet, device, kind, params)
            for kind, params in (
                ("configuration.install", {"profile": base64.b64encode(wifi).decode()}),
                ("device.clear_passcode", {}),
                ("raw", {"platform": "apple", "payload": base64.b64encode(raw).decode()}),
                ("device.lock", {"pin": secret}),
                ("device.erase", {"pin": [secret], "obliteration_behavior": secret}),
                ("configuration.install", {"profile": secret}),
                (
                    "configuration.install",
                    {"profile": base64.b64encode(b"<" + secret.encode()).decode()},
                ),
                (
                    "raw",
                    {"platform": "apple", "payload": base64.b64encode(secret.encode()).decode()},
                ),
                ("raw", {"platform": secret, "payload": secret}),
            )
        ]
        assert [one[:3] for one in answers] == ["202"] * 3 + ["422"] * 6
        await fleet.job("expand targets")
        for given in await phone.drain():
            assert given.request_type in {"InstallProfile", "ClearPasscode", "SetRecoveryLock"}
        await fleet.ask(phone)
        one = await phone.idle()
        assert one
        said = {
            "SecurityInfo": {
                "FDE_PersonalRecoveryKeyCMS": marked.text("recovery key").encode(),
                "PasscodePresent": True,
            },
            "UnlockToken": marked.text("answered unlock token").encode(),
            "RotateResult": {"EncryptedNewRecoveryKey": marked.text("rotated").encode()},
        }
        assert await phone.say("Acknowledged", one.command_uuid, **said) is None
        broken = marked.text("secret in rubbish").encode()
        for body in (
            b"<plist version='1.0'><dict><key>" + broken + b"</key></dict></plist>",
            b"<plist version='1.0'><dict><key>Status</key><date>"
            + broken
            + b"</date></dict></plist>",
        ):
            assert (await phone.send(body)).status == 200
        header = base64.b64encode(
            our_cms.sign(broken, phone.identity.certificate, phone.identity.key)
        ).decode()
        refused = await fleet.trial.send(
            "devices", "PUT", CONNECT, b"another", {"Mdm-Signature": header}
        )
        answers.append(refused.text)
        for path in ("/api/v1/commands", f"/api/v1/commands/devices/{device}"):
            shown = await fleet.trial.call("GET", path)
            assert shown.status == 200
            answers.append(shown.text)
    assert "canary" in log.getvalue()
    assert marked.found_in(log.getvalue()) == []
    assert marked.found_in(await everything_kept(fleet.trial)) == []
    assert marked.found_in(await everything_told(fleet.trial)) == []
    assert marked.found_in("\n".join(answers)) == []


async def test_a_quarantined_device_is_told_no_secret_and_tells_none(house: House) -> None:
    """Its tokens do not leave enrollment, and what the victim escrowed stays the victim's."""
    victim = await house.enrolled()
    await house.check_in(victim, victim.message("SetBootstrapToken", BootstrapToken=b"escrowed"))
    thief = house.device(serial=victim.serial)
    thief.udid, thief.identity = victim.udid, await house.identity(await house.credential())
    assert (await house.check_in(thief, thief.authenticate())).status == 200
    update = thief.token_update(UnlockToken=b"thief's", Token=b"t" * 32)
    assert (await house.check_in(thief, update)).status == 200
    answer = await house.check_in(thief, thief.message("GetBootstrapToken"))
    assert (answer.status, answer.body) == (200, b"")
    state = (await house.told()).of(DeviceState)[-1]
    [waiting] = [one for one in state.enrollments if one.state == "quarantined"]
    assert [(c.open, c.push, c.unlock_token) for c in waiting.channels] == [(False, None, None)]
