"""Whoever was told of alarms is told for three days more when somebody switches that off."""

from __future__ import annotations

from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest

from shared.events import uuid7
from shared.events.commands import GuardAlarmed
from shared.runtime.testing import Trial
from tests.console.browsing import Browser, later, signed_in
from tests.console.test_webhooks import (
    PAGE,
    TYPE,
    _happens,
    _made,
    _told,
    receivers,
    service,
)

__all__ = ["receivers", "service"]
pytestmark = pytest.mark.usefixtures("proven")


async def _alarm(service: Trial) -> None:
    alarm = GuardAlarmed(alarm_id=uuid7(), kind="empowered", actor="account:x", reason="Mallory")
    await service.hears(alarm, service="command_queue")


async def _use(owner: Browser, webhook_id: UUID, enabled: str) -> None:
    fields = {"enabled": enabled}
    assert (await owner.post(f"{PAGE}/{webhook_id}/use", fields)).status == 303


async def test_alarms_go_on_for_three_days_and_nothing_else(service: Trial, receivers: Any) -> None:
    owner, receiver = await signed_in(service, role="owner"), await receivers()
    webhook_id, _ = await _made(owner, receiver.url, event_type=[TYPE, GuardAlarmed.TYPE])
    await _use(owner, webhook_id, "false")
    await _happens(service)
    await _alarm(service)
    await _told(service)
    assert len(receiver.heard) == 1
    assert GuardAlarmed.TYPE.encode() in receiver.heard[0][1]
    # Switching it off again makes it neither longer nor shorter.
    owner = await signed_in(service, role="owner")
    await _use(owner, webhook_id, "false")
    later(service, timedelta(hours=71))
    await _alarm(service)
    await _told(service)
    assert len(receiver.heard) == 2
    later(service, timedelta(hours=1))
    await _alarm(service)
    await _told(service)
    assert len(receiver.heard) == 2


async def test_who_did_not_want_alarms_gets_none(service: Trial, receivers: Any) -> None:
    owner, receiver = await signed_in(service, role="owner"), await receivers()
    webhook_id, _ = await _made(owner, receiver.url)
    await _use(owner, webhook_id, "false")
    await _alarm(service)
    await _happens(service)
    await _told(service)
    assert receiver.heard == []
