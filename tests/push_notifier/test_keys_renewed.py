"""What push_notifier encrypts, after its keys were rotated and the old ones were taken away."""

from __future__ import annotations

from pathlib import Path

import pytest

from services.push_notifier.certificates import Certificates
from services.push_notifier.sending import Sender
from shared.events.audit import AuditRecorded
from shared.events.base import uuid7
from shared.sealed import LocalCipher
from tests.push_notifier.road import TOKEN, Road
from tests.renewed import renewed


async def test_pushes_go_on(road: Road, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    keys = tmp_path / "keys"
    held = await renewed("push_notifier", road.pool, keys, monkeypatch)
    assert held["push_certificate.key"] == 1
    said = [(one.action, one.target) for one in await road.events(AuditRecorded)]
    target = "keys:push_notifier"
    assert said[-2:] == [("keys.rotate", target), ("keys.reseal", target)]
    device = uuid7()
    channel = await road.enroll(device, TOKEN, road.clock.now())
    await road.queue(device, channel)
    cipher = LocalCipher.load(keys / "push_notifier")
    anew = Certificates(road.pool, cipher, road.calls, road.settings, road.clock)
    await Sender(road.pool, road.keyring, anew, road.settings, road.clock).run()
    assert road.tokens_pushed() == [TOKEN]
    anew.close()
