"""The devices of a bench: simulated ones, with certificates from the real SCEP server."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp

from tools.bench.signing import Signer
from tools.simulator import enrollment as enrollments
from tools.simulator.device import SimulatedDevice
from tools.simulator.enrollment import Enrollment
from tools.simulator.keys import KeyStore

_AT_ONCE = 8
_SHARED_KEYS = 64


@dataclass(frozen=True)
class Member:
    """One device with its certificate, and the bodies it will send."""

    signer: Signer
    authenticate: dict[str, Any]
    token_update: dict[str, Any]

    @property
    def idle(self) -> dict[str, Any]:
        return {"Status": "Idle", "UDID": self.signer.udid}

    def answer(self, command_uuid: str) -> dict[str, Any]:
        return {
            "Status": "Acknowledged",
            "UDID": self.signer.udid,
            "CommandUUID": command_uuid,
            "SecurityInfo": {"PasscodePresent": True, "PasscodeCompliant": True},
        }


async def prepare(
    count: int, enroll_url: str, keys: Path, seed: str, session: aiohttp.ClientSession
) -> list[Member]:
    """Profiles and certificates for `count` devices; none of them has checked in yet."""
    store = KeyStore(keys, shared=_SHARED_KEYS)
    turns = asyncio.Semaphore(_AT_ONCE)

    async def one(index: int) -> Member:
        device = SimulatedDevice(seed, index, keys=store, session=session)
        device.link.patience = 8  # the first push certificate may be on its way
        async with turns:
            profile = await device.fetch_profile(enroll_url)
            return _member(device, await device.prepare(profile))

    try:
        return list(await asyncio.gather(*(one(index) for index in range(count))))
    finally:
        store.close()


def _member(device: SimulatedDevice, enrollment: Enrollment) -> Member:
    details = enrollments.authenticate_details(device.traits, enrollment.mdm.access_rights)
    topic = enrollment.mdm.topic
    authenticate = device.message("Authenticate", Topic=topic) | details
    token_update = device.message("TokenUpdate", Topic=topic) | {
        "Token": enrollment.push.token,
        "PushMagic": enrollment.push.magic,
        "AwaitingConfiguration": False,
    }
    if enrollment.unlock_token is not None:
        token_update["UnlockToken"] = enrollment.unlock_token
    signer = Signer.of(device.udid, enrollment.identity)
    return Member(signer, authenticate, token_update)


def udids(fleet: Sequence[Member]) -> list[str]:
    return [member.signer.udid for member in fleet]
