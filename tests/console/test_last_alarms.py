"""Whoever was told of alarms is told for three days more when somebody switches that off."""

from __future__ import annotations

from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest

from shared.events import Event, uuid7
from shared.events.commands import GuardAlarmed
from shared.events.devices import Ownership, OwnershipAnnounced
from shared.events.people import ProviderChanged, SealedAccountUsed
from shared.runtime.testing import Trial
from tests.console.browsing import Browser, later, signed_in, words_of
from tests.console.test_webhooks import (
    NOW,
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


_OTHERS: list[tuple[str, Event, str]] = [
    (
        "enrollment",
        OwnershipAnnounced(
            device_id=uuid7(), how="asked", actor="x", ownership=Ownership.CORPORATE, due_at=NOW
        ),
        "a personal device, becomes corporate",
    ),
    (
        "console",
        SealedAccountUsed(account_id=uuid7(), name="Safe", used_at=NOW, source="192.0.2.7"),
        "the sealed account Safe was opened from 192.0.2.7",
    ),
    (
        "console",
        ProviderChanged(
            provider_id=uuid7(),
            name="Okta",
            issuer="https://idp.example",
            client_id=None,
            enabled=True,
            newcomers=False,
            change="identity_provider.use",
            by="account:x",
            changed_at=NOW,
        ),
        "changed the identity provider Okta",
    ),
]


@pytest.mark.parametrize(("by", "alarm", "said"), _OTHERS, ids=[one[0] for one in _OTHERS])
async def test_alarms_are_not_the_guards_alone(
    service: Trial, receivers: Any, by: str, alarm: Event, said: str
) -> None:
    """They are told by who is switched off as well, and stand on the overview."""
    owner, receiver = await signed_in(service, role="owner"), await receivers()
    webhook_id, _ = await _made(owner, receiver.url, event_type=[TYPE, alarm.TYPE])
    await _use(owner, webhook_id, "false")
    await _alarm(service)
    await service.hears(alarm, service=by)
    await _told(service)
    assert [alarm.TYPE.encode() in body for _, body in receiver.heard] == [True]
    owner = await signed_in(service, role="owner")
    alarms = words_of(await owner.get("/")).partition("Alarms in 24 hours")[2]
    assert said in alarms.partition("What happened")[0]
