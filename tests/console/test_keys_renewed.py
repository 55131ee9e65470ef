"""What the console encrypts, after its keys were rotated and the old ones were taken away."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from services.console.http.keys import SENDING
from services.console.webhooks.sending import Sending
from shared.runtime.outbound import opened
from shared.runtime.testing import Trial
from shared.sealed import WEBHOOK_KEYS, LocalCipher
from tests.console.browsing import signed_in
from tests.console.test_webhooks import _happens, _made, receivers, service
from tests.renewed import renewed

__all__ = ["receivers", "service"]

pytestmark = pytest.mark.usefixtures("proven")


async def test_codes_and_webhooks_go_on(
    service: Trial, receivers: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    owner, receiver = await signed_in(service, role="owner"), await receivers()
    await _made(owner, receiver.url)
    await _happens(service)
    context = service.context
    held = await renewed("console", context.pool, tmp_path, monkeypatch)
    assert held["webhook.secret"] == 1
    # One that runs since before the rotation, and one that was started after it.
    await service.parts.values[SENDING].run()
    await service.parts.values[SENDING].settled()
    assert len(receiver.heard) == 1
    await _happens(service)
    async with opened(context.settings) as client:
        cipher = LocalCipher.load(tmp_path / WEBHOOK_KEYS)
        anew = Sending(context.pool, context.clock, cipher, client)
        await anew.run()
        await anew.settled()
    assert len(receiver.heard) == 2
