"""What devices reported, as inventory and command_queue tell of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar
from uuid import UUID

from services.compliance.judging import Judge, Work, observe_delay
from services.compliance.rules import SEEN, application_input, fact_input
from services.compliance.store import devices, inputs
from services.compliance.store.inputs import Told
from services.compliance.verdicts import Occasion
from shared.db.pool import Connection
from shared.events.commands import DeviceCommandEvent, DeviceSeen
from shared.events.inventory import (
    ApplicationsChanged,
    FactsChanged,
    InventoryEvent,
    SectionReported,
)
from shared.runtime.clock import Clock

E = TypeVar("E", bound=InventoryEvent | DeviceCommandEvent)


class Observations:
    """Stores what is told, and has the rules judged that read it. A batch holds a device once."""

    def __init__(self, judge: Judge, clock: Clock) -> None:
        self._judge, self._clock = judge, clock

    async def facts(self, tx: Connection, events: Sequence[FactsChanged]) -> None:
        await inputs.record_facts(
            tx,
            [
                _told(event, change.name, change.value)
                for event in events
                for change in event.changes
            ],
        )
        await self._judged(
            tx, events, [[fact_input(change.name) for change in e.changes] for e in events]
        )

    async def applications(self, tx: Connection, events: Sequence[ApplicationsChanged]) -> None:
        came = [(e, app) for e in events for app in (*e.installed, *e.updated)]
        gone = [(e.device_id, app.identifier) for e in events for app in e.removed]
        told = [_told(e, app.identifier, app.short_version or app.version) for e, app in came]
        await inputs.record_applications(tx, told, gone)
        await self._judged(
            tx,
            events,
            [
                [
                    application_input(app.identifier)
                    for app in (*event.installed, *event.updated, *event.removed)
                ]
                for event in events
            ],
        )

    async def sections(self, tx: Connection, events: Sequence[SectionReported]) -> None:
        """Let facts be as old as the report that confirmed them. Only a first report, or one that
        answers otherwise, can change what is compliant.
        """
        await inputs.record_sections(
            tx, [(e.device_id, e.section, e.observed_at, e.meta.event_id) for e in events]
        )
        await inputs.confirm_facts(
            tx, [(e.device_id, name, e.observed_at) for e in events for name in e.answered]
        )
        read = [[f"section:{e.section}", *map(fact_input, e.answered)] for e in events]
        await self._judged(tx, events, read, confirmed=True)

    async def seen(self, tx: Connection, events: Sequence[DeviceSeen]) -> None:
        await devices.seen(tx, [(e.device_id, e.seen_at, e.meta.event_id) for e in events])
        await self._judged(tx, events, [[SEEN]] * len(events), confirmed=True)

    async def _judged(
        self,
        tx: Connection,
        events: Sequence[E],
        changed: Sequence[Sequence[str]],
        *,
        confirmed: bool = False,
    ) -> None:
        occasions: dict[UUID, Occasion] = {
            event.device_id: Occasion(frozenset(names), confirmed)
            for event, names in zip(events, changed, strict=True)
        }
        causes = {event.device_id: event for event in events}
        await self._judge.judge(tx, Work(occasions, causes=causes), "report")
        observe_delay(events, self._clock.now())


def _told(event: InventoryEvent, name: str, value: object) -> Told:
    return Told(
        device_id=event.device_id,
        name=name,
        value=value,
        at=event.observed_at,
        evidence=event.meta.event_id,
        sequence=event.meta.sequence,
    )
