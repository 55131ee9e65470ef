"""The push certificate is what the whole fleet is woken by: that it was replaced is an alarm."""

from __future__ import annotations

from collections.abc import Sequence

from shared.bus import outbox
from shared.db.pool import Connection
from shared.events import Event, uuid7
from shared.events.commands import GuardAlarmed
from shared.events.pushes import PushCertificateChanged


async def changed(tx: Connection, events: Sequence[PushCertificateChanged]) -> None:
    """The first of all takes the place of none, and alarms nobody."""
    await outbox.emit(tx, [_alarm(event) for event in events if event.former_topic])


def _alarm(event: PushCertificateChanged) -> Event:
    what = "Devices of its topic are woken by it from now on"
    if event.former_topic != event.topic:
        what = f"New devices are enrolled under {event.topic}, no longer under {event.former_topic}"
    alarm = GuardAlarmed(
        alarm_id=uuid7(),
        kind="push_certificate",
        actor=event.by or "service:push_notifier",
        reason=what,
    )
    return alarm.because(event)
