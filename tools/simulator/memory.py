"""What a device keeps when the simulator stops, so that the next run goes on with the same fleet.

Without it a restarted fleet would enroll again with new certificates: to the server that is known
hardware without proof, which it must quarantine.
"""

from __future__ import annotations

import os
import plistlib
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from tools.simulator import enrollment as enrollments
from tools.simulator import keys
from tools.simulator import state as states
from tools.simulator.device import SimulatedDevice
from tools.simulator.wire import profile as profiles
from tools.simulator.wire.cms import Identity


class Memory:
    """One file a device in `folder`, readable by its owner only: it holds the device's key."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._saved: dict[str, tuple[Any, ...]] = {}
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)

    def save(self, device: SimulatedDevice) -> None:
        """Write the device down, unless nothing of it changed since."""
        version = _version(device)
        if self._saved.get(device.udid) == version:
            return
        self._saved[device.udid] = version
        path = self._path(device)
        temporary = path.with_suffix(f".{os.getpid()}")
        temporary.touch(mode=0o600)
        temporary.write_bytes(plistlib.dumps(_remembered(device), fmt=plistlib.FMT_BINARY))
        temporary.replace(path)

    def restore(self, device: SimulatedDevice) -> bool:
        """Bring back what was saved; whether the device is enrolled."""
        path = self._path(device)
        if not path.exists():
            return False
        _recall(device, plistlib.loads(path.read_bytes()))
        return device.enrollment is not None

    def _path(self, device: SimulatedDevice) -> Path:
        return self._folder / f"{device.udid}.plist"


def _version(device: SimulatedDevice) -> tuple[Any, ...]:
    """Changes whenever something that is kept does."""
    state, enrollment = device.state, device.enrollment
    return (
        device.life,
        device.erased_in,
        state.passcode_present,
        state.declarations_token,
        tuple(profile.uuid for profile in state.profiles.values()),
        enrollment and (enrollment.life, enrollment.identity.certificate, len(enrollment.users)),
    )


def _remembered(device: SimulatedDevice) -> dict[str, Any]:
    state, enrollment = device.state, device.enrollment
    document: dict[str, Any] = {
        "life": device.life,
        "erased_in": device.erased_in,
        "passcode_present": state.passcode_present,
        "profiles": [profile.raw for profile in state.profiles.values()],
        "declarations": state.declarations,
    }
    if state.declarations_token is not None:
        document["declarations_token"] = state.declarations_token
    if enrollment is not None and isinstance(enrollment.identity.key, rsa.RSAPrivateKey):
        document["enrollment"] = {
            "life": enrollment.life,
            "profile": enrollment.profile.raw,
            "key": keys.dump(enrollment.identity.key),
            "certificate": enrollment.identity.certificate.public_bytes(serialization.Encoding.DER),
            "has_user": bool(enrollment.users),
        }
    return document


def _recall(device: SimulatedDevice, document: dict[str, Any]) -> None:
    device.life = document["life"]
    device.erased_in = document["erased_in"]
    device.state = states.fresh(device.traits, device.erased_in)
    device.state.passcode_present = document["passcode_present"]
    device.state.declarations = document["declarations"]
    device.state.declarations_token = document.get("declarations_token")
    for raw in document["profiles"]:
        profile = profiles.read(raw)
        device.state.profiles[profile.identifier] = profile
    kept = document.get("enrollment")
    if kept is None:
        return
    identity = Identity(keys.load(kept["key"]), x509.load_der_x509_certificate(kept["certificate"]))
    profile = profiles.read(kept["profile"])
    device.enrollment = enrollments.begin(device.traits, profile, identity, kept["life"])
    if kept["has_user"]:
        enrollments.user_channel(device.traits, device.enrollment, device.traits.user)
