"""Fleets and signatures: made once, kept, and such that servers believe them."""

from __future__ import annotations

import json
import os
import plistlib
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography import x509

from shared.apple import cms
from tools.bench import bodies, signing
from tools.bench.fleet import Fleet, prepare


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Fleet]:
    folder = tmp_path_factory.mktemp("fleet")
    return folder, prepare(folder, 5, keys=2)


def test_a_fleet_is_kept_and_grows(fleet: tuple[Path, Fleet]) -> None:
    folder, first = fleet
    again, more = prepare(folder, 3), prepare(folder, 40)
    assert list(again.devices) == list(first.devices)[:3]
    assert list(more.devices)[:5] == list(first.devices)
    assert len({device.udid for device in more.devices}) == 40
    assert len({device.certificate for device in more.devices}) == 40
    authority = x509.load_pem_x509_certificate(more.authority)
    for device in more.devices:
        x509.load_der_x509_certificate(device.certificate).verify_directly_issued_by(authority)
    assert (folder / "fleet.json").stat().st_mode & 0o077 == 0


def test_a_damaged_fleet_is_made_anew(tmp_path: Path) -> None:
    (tmp_path / "fleet.json").write_text("{")
    assert len(prepare(tmp_path, 1, keys=1).devices) == 1
    assert json.loads((tmp_path / "fleet.json").read_text())["devices"]


def test_requests_carry_signatures_that_hold(fleet: tuple[Path, Fleet], tmp_path: Path) -> None:
    _, made = fleet
    messages = [(device, bodies.idle(device)) for device in made.devices]
    signed = signing.signed(messages, tmp_path)
    for device, (body, signature) in zip(made.devices, signed, strict=True):
        verified = cms.verify(cms.decode(signature), body, allow_sha1=False)
        der = x509.load_der_x509_certificate(device.certificate)
        assert verified.certificate == der
        assert plistlib.loads(body) == {"Status": "Idle", "UDID": device.udid}
    request = signing.connects("/connect", "here:1", signed)[0]
    head, _, body = request.partition(b"\r\n\r\n")
    assert head.startswith(b"PUT /connect HTTP/1.1\r\nHost: here:1\r\n")
    assert f"Content-Length: {len(body)}".encode() in head


def test_signatures_are_kept_until_they_would_be_too_old(
    fleet: tuple[Path, Fleet], tmp_path: Path
) -> None:
    _, made = fleet
    messages = [(device, bodies.idle(device)) for device in made.devices]
    kept = signing.signed(messages, tmp_path)
    assert signing.signed(messages, tmp_path) == kept
    (path,) = tmp_path.iterdir()
    old = time.time() - 13 * 3600
    os.utime(path, (old, old))
    signing.forget_old(tmp_path)
    assert not path.exists()
    signing.signed([(made.devices[0], bodies.security_info(made.devices[0], "x"))], tmp_path)
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize("make", [bodies.authenticate, bodies.token_update])
def test_check_ins_name_topic_and_device(
    fleet: tuple[Path, Fleet], make: Callable[..., bodies.Body]
) -> None:
    device = fleet[1].devices[0]
    body = make(device, "com.apple.mgmt.External.x")
    assert (body["UDID"], body["Topic"]) == (device.udid, "com.apple.mgmt.External.x")
