"""What devices of the bench say: the bodies of an ordinary iPhone."""

from __future__ import annotations

import hashlib
from typing import Any

from tools.bench.fleet import Device

TOPIC = "com.apple.mgmt.External.8f4d2a70-bench"

Body = dict[str, Any]


def authenticate(device: Device, topic: str = TOPIC) -> Body:
    return {
        "BuildVersion": "22F76",
        "DeviceName": f"iPhone {device.serial}",
        "MessageType": "Authenticate",
        "Model": "MTJV3LL",
        "ModelName": "iPhone",
        "OSVersion": "18.5",
        "ProductName": "iPhone17,1",
        "SerialNumber": device.serial,
        "Topic": topic,
        "UDID": device.udid,
    }


def token_update(device: Device, topic: str = TOPIC) -> Body:
    """Without UnlockToken: what is encrypted and sealed for it depends on the server, and the
    figures that others published are without it.
    """
    return {
        "AwaitingConfiguration": False,
        "MessageType": "TokenUpdate",
        "PushMagic": push_magic(device),
        "Token": push_token(device),
        "Topic": topic,
        "UDID": device.udid,
    }


def push_magic(device: Device) -> str:
    return hashlib.sha256(b"magic" + device.udid.encode()).hexdigest()[:36].upper()


def push_token(device: Device) -> bytes:
    return hashlib.sha256(b"token" + device.udid.encode()).digest()


def idle(device: Device) -> Body:
    return {"Status": "Idle", "UDID": device.udid}


def security_info(device: Device, command_uuid: str, *, passcode: bool = True) -> Body:
    """The answer to SecurityInfo."""
    return {
        "CommandUUID": command_uuid,
        "SecurityInfo": {
            "HardwareEncryptionCaps": 3,
            "PasscodePresent": passcode,
            "PasscodeCompliant": passcode,
            "PasscodeCompliantWithProfiles": True,
            "PasscodeLockGracePeriodEnforced": 0,
        },
        "Status": "Acknowledged",
        "UDID": device.udid,
    }


def without_passcode(device: Device, command_uuid: str) -> Body:
    """The answer of a device whose owner has taken the passcode off."""
    return security_info(device, command_uuid, passcode=False)
