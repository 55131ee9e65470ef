"""Asking devices what they are: at enrollment, on a schedule, after changes, on request."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

from services.inventory import metrics
from services.inventory.facts import SECTIONS
from services.inventory.settings import InventorySettings
from services.inventory.store import devices as store
from shared.bus import outbox
from shared.db.locks import lock_devices
from shared.db.pool import Connection, Pool, transaction
from shared.events.commands import CommandFinished, CommandRequested, TargetState
from shared.events.devices import DeviceEnrolled, DeviceImported
from shared.events.inventory import Section
from shared.runtime.clock import Clock

KIND: Final = "inventory.refresh"
ACTOR: Final = "service:inventory"
_SETTLED: Final = frozenset({TargetState.ACKNOWLEDGED, TargetState.VERIFIED})
_CONFIGURES: Final = frozenset({"configuration.install", "configuration.remove"})


def request(
    device_id: UUID,
    section: Section,
    key: str,
    *,
    why: str,
    actor: str = ACTOR,
    reason: str | None = None,
    expires: timedelta = timedelta(days=7),
) -> CommandRequested:
    """Ask for one section; `key` makes repeats one command. `why` is counted."""
    metrics.REFRESHES.labels(why).inc()
    return CommandRequested(
        device_id=device_id,
        kind=KIND,
        params={"section": section},
        idempotency_key=f"{why}:{key}:{section}",
        actor=actor,
        reason=reason or why,
        expires_in_seconds=int(expires.total_seconds()),
    )


def first_due(device_id: UUID, now: datetime, every: timedelta) -> datetime:
    """Where a device's turn falls: spread over the interval by the id's random bits."""
    share = (device_id.int & 0xFFFF_FFFF) / 2**32
    return now + every * share


async def after_enrollment(tx: Connection, events: Sequence[DeviceEnrolled]) -> None:
    """Ask a device for everything, once for each generation of its enrollment."""
    await outbox.emit(
        tx,
        [
            request(
                event.device_id,
                section,
                f"{event.enrollment_id}:{event.generation}",
                why="enrolled",
            ).because(event)
            for event in events
            for section in SECTIONS
        ],
    )


async def after_import(
    tx: Connection, events: Sequence[DeviceImported], *, every: timedelta, clock: Clock
) -> None:
    """Bring the turn of these devices forward: a whole fleet may have come in a few minutes, and
    the schedule asks it at its own pace. Who is not in a hurry waits for the daily round.
    """
    now = clock.now()
    hurried = [event.device_id for event in events if event.refresh]
    due = {device_id: first_due(device_id, now, every) - every for device_id in hurried}
    await store.hurry(tx, due, now, every)


def after_configuration(events: Iterable[CommandFinished]) -> list[CommandRequested]:
    """Ask for the profiles again: an acknowledged install is only the device's promise."""
    return [
        request(event.device_id, "profiles", str(event.command_id), why="configured").because(event)
        for event in events
        if event.kind in _CONFIGURES and event.state in _SETTLED
    ]


def is_answer(event: CommandFinished) -> bool:
    """Whether the event brings a section. Only our own kind does: a raw InstalledApplicationList
    may have been filtered, and would make all other applications look removed.
    """
    return event.kind == KIND and event.state in _SETTLED and event.section in SECTIONS


class Schedule:
    """Asks each managed device for everything once in an interval, by an index of due times."""

    def __init__(self, pool: Pool, settings: InventorySettings, clock: Clock) -> None:
        self._pool, self._settings, self._clock = pool, settings, clock

    async def run(self) -> None:
        """Ask the devices that are due, at most a batch of them."""
        now, every = self._clock.now(), self._settings.refresh_every
        async with transaction(self._pool) as tx:
            due = await store.due(tx, now, self._settings.refresh_batch)
            await lock_devices(tx, due)
            taken = await store.take_due(tx, due, now, every)
            await outbox.emit(
                tx,
                [
                    request(
                        device_id,
                        section,
                        f"{device_id}:{due_at.isoformat()}",
                        why="scheduled",
                        expires=every,
                    )
                    for device_id, due_at in taken.items()
                    for section in SECTIONS
                ],
            )
