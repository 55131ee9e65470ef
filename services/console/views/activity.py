"""What happened, from everybody's events: kept for people to read, and counted by the day."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, timedelta
from typing import Any, Final, TypeVar
from uuid import UUID

from services.console import metrics
from services.console.settings import ConsoleSettings
from services.console.store import view_activity as store
from services.console.store import view_devices as devices
from services.console.store import view_tallies as tallies
from services.console.views import live
from shared.bus.handlers import Handler, Handlers
from shared.db import partitions
from shared.db.pool import Connection, Pool, after_commit, transaction
from shared.events import Event
from shared.events.commands import (
    CommandCancelled,
    CommandClass,
    CommandContinued,
    CommandCreated,
    CommandFinished,
    CommandReleased,
    GuardAlarmed,
)
from shared.events.compliance import VerdictChanged
from shared.events.devices import (
    CertificateIssued,
    CertificateRevoked,
    DeviceChanged,
    DeviceEnrolled,
    DeviceImported,
    DeviceQuarantined,
    DeviceRefused,
    DeviceReleased,
    DeviceUnenrolled,
    OwnershipAnnounced,
)
from shared.events.people import ProviderChanged, SealedAccountUsed
from shared.runtime.clock import Clock

E = TypeVar("E", bound=Event)
GRAVE: Final = frozenset(
    {"device.erase", "device.lock", "device.unenroll", "device.clear_passcode", "lost_mode.enable"}
)
"""Commands whose outcome everybody should see."""
ROUTINE: Final = "inventory.refresh"
_FAILED: Final = frozenset({"failed", "unconfirmed", "expired"})
_SERVICES: Final = ("service:", "rule:", "job:")


async def _note(tx: Connection, happenings: Sequence[store.Happening]) -> None:
    await store.add(tx, happenings)
    live.changed(tx, [one.device_id for one in happenings if one.device_id])


async def _count(tx: Connection, happened: Iterable[tuple[Event, str]]) -> None:
    days = Counter((event.meta.time.astimezone(UTC).date(), what) for event, what in happened)
    await tallies.add_daily(tx, days)


def _happening(
    event: Event,
    kind: str,
    actor: str | None = None,
    *,
    loud: bool = True,
    device_id: UUID | None = None,
    **detail: Any,
) -> store.Happening:
    return store.Happening(
        activity_id=event.meta.event_id,
        at=event.meta.time,
        kind=kind,
        device_id=device_id or event.device,
        actor=actor,
        detail={name: value for name, value in detail.items() if value is not None},
        loud=loud,
    )


def noting(describe: Callable[[E], store.Happening], what: str | None = None) -> Handler:
    """A handler that keeps what `describe` says of each event, and counts it as `what`."""

    async def handle(tx: Connection, events: Sequence[E]) -> None:
        await _note(tx, [describe(event) for event in events])
        if what:
            await _count(tx, [(event, what) for event in events])

    return handle


def _enrolled(event: DeviceEnrolled) -> store.Happening:
    return _happening(event, "device.enrolled", again=event.again or None)


def _imported(event: DeviceImported) -> store.Happening:
    return _happening(event, "device.imported", event.actor)


def _unenrolled(event: DeviceUnenrolled) -> store.Happening:
    return _happening(event, "device.unenrolled", event.actor, reason=event.reason)


def _quarantined(event: DeviceQuarantined) -> store.Happening:
    return _happening(event, "device.quarantined", reasons=event.reasons)


def _refused(event: DeviceRefused) -> store.Happening:
    return _happening(event, "device.refused", event.actor, how=event.how, reason=event.reason)


def _owned(event: OwnershipAnnounced) -> store.Happening:
    due = event.due_at.strftime("%d %B %Y, %H:%M UTC") if event.due_at else None
    return _happening(event, "device.ownership", event.actor, how=event.how, due=due)


def _released(event: DeviceReleased) -> store.Happening:
    return _happening(event, "device.released", event.actor, reason=event.reason)


def _changed(event: DeviceChanged) -> store.Happening:
    fields = sorted(
        name
        for name in {*event.before, *event.after}
        if event.before.get(name) != event.after.get(name)
    )
    return _happening(event, "device.changed", event.actor, fields=fields)


async def requests(tx: Connection, events: Sequence[CommandCreated]) -> None:
    """Keep what people ask for, and whatever does harm: a service asks every device every day."""
    await _note(tx, [_created(event) for event in events if not _is_routine(event)])


def _is_routine(event: CommandCreated) -> bool:
    return event.command_class == CommandClass.HARMLESS and event.actor.startswith(_SERVICES)


def _created(event: CommandCreated) -> store.Happening:
    return _happening(
        event,
        "command.created",
        event.actor,
        command_id=str(event.command_id),
        command=event.kind,
        targets=event.target_count,
        state=event.state,
        reason=event.reason,
    )


def _cancelled(event: CommandCancelled) -> store.Happening:
    return _happening(
        event,
        "command.cancelled",
        event.actor,
        command_id=str(event.command_id),
        reason=event.reason,
    )


def _approved(event: CommandReleased) -> store.Happening:
    return _happening(
        event,
        "command.released",
        event.approvers[-1],
        command_id=str(event.command_id),
        approvers=len(event.approvers),
    )


def _continued(event: CommandContinued) -> store.Happening:
    return _happening(
        event,
        "command.continued",
        event.actor,
        command_id=str(event.command_id),
        targets=event.targets,
    )


def _alarmed(event: GuardAlarmed) -> store.Happening:
    return _happening(
        event,
        "guard.alarmed",
        event.actor,
        device_id=event.about,
        what=event.kind,
        command_id=str(event.command_id) if event.command_id else None,
        account_id=str(event.account_id) if event.account_id else None,
        counts_from=event.counts_from.isoformat() if event.counts_from else None,
        targets=event.target_count or None,
        reason=event.reason[:300],
    )


def _opened(event: SealedAccountUsed) -> store.Happening:
    return _happening(event, "sealed.used", event.subject, name=event.name, source=event.source)


def _provider(event: ProviderChanged) -> store.Happening:
    return _happening(event, "provider.changed", event.by, name=event.name, what=event.change)


def _finished(event: CommandFinished) -> store.Happening:
    return _happening(
        event,
        "command.finished",
        event.actor,
        loud=event.kind in GRAVE or (event.state in _FAILED and event.kind != ROUTINE),
        command_id=str(event.command_id),
        command=event.kind,
        state=event.state,
        reason=event.reason,
    )


async def outcomes(tx: Connection, events: Sequence[CommandFinished]) -> None:
    """Count every outcome; keep those that are not the daily round's, and its failures."""
    kept = [e for e in events if e.kind != ROUTINE or e.state in _FAILED]
    await _note(tx, [_finished(event) for event in kept])
    live.changed(tx, [event.device_id for event in events])
    await _count(tx, [(event, f"command.{event.state}") for event in events])


async def verdicts(tx: Connection, events: Sequence[VerdictChanged]) -> None:
    """Keep verdicts that flipped, where somebody who looks at the device finds them."""
    flipped = [event for event in events if event.previous != event.state]
    await _note(
        tx,
        [
            _happening(
                event,
                "verdict.changed",
                loud=False,
                policy=event.policy_name,
                state=event.state,
                previous=event.previous,
            )
            for event in flipped
        ],
    )


async def alarms(tx: Connection, events: Sequence[GuardAlarmed]) -> None:
    """Keep them for people, and count them for who is on call."""
    await _note(tx, [_alarmed(event) for event in events])

    def count() -> None:
        for event in events:
            metrics.GUARD_ALARMS.labels(event.kind).inc()

    after_commit(tx, count)


async def certify(tx: Connection, events: Sequence[CertificateIssued]) -> None:
    await devices.certify(tx, [(e.device_id, e.sha256, e.not_after) for e in events])
    live.changed(tx, [event.device_id for event in events])


async def revoke(tx: Connection, events: Sequence[CertificateRevoked]) -> None:
    await devices.revoke(tx, [(event.device_id, event.sha256) for event in events])
    live.changed(tx, [event.device_id for event in events])


NOTED: Final[Handlers] = {
    DeviceEnrolled: noting(_enrolled, "enrolled"),
    DeviceImported: noting(_imported, "imported"),
    DeviceUnenrolled: noting(_unenrolled, "unenrolled"),
    DeviceQuarantined: noting(_quarantined, "quarantined"),
    DeviceRefused: noting(_refused),
    DeviceReleased: noting(_released),
    DeviceChanged: noting(_changed),
    OwnershipAnnounced: noting(_owned),
    CommandCancelled: noting(_cancelled),
    CommandReleased: noting(_approved),
    CommandContinued: noting(_continued),
    GuardAlarmed: alarms,
    SealedAccountUsed: noting(_opened),
    ProviderChanged: noting(_provider),
}
"""Events that are only noted and counted."""


class Retention:
    """Makes room for what will happen, and drops what happened too long ago."""

    def __init__(self, pool: Pool, settings: ConsoleSettings, clock: Clock) -> None:
        self._pool, self._settings, self._clock = pool, settings, clock

    async def run(self) -> None:
        before = self._clock.now() - timedelta(days=self._settings.activity_days)
        await partitions.make_ahead(self._pool, "activity")
        await partitions.drop_old(self._pool, "activity", before)
        async with transaction(self._pool) as tx:
            await tallies.drop_daily(tx, self._clock.now().date() - timedelta(days=400))
