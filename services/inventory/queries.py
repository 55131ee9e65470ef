"""What people and programs ask of inventory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from services.inventory import refresh
from services.inventory.facts import FACTS, LISTS, MAIN, SECTIONS
from services.inventory.filters import Filters
from services.inventory.store import devices, facts, items, reports
from shared.bus import outbox
from shared.db.locks import lock_devices
from shared.db.pool import Connection, Pool, transaction
from shared.events import uuid7
from shared.events.audit import AuditRecorded
from shared.events.inventory import Section
from shared.runtime.clock import Clock
from shared.runtime.http import Caller, Reach
from shared.runtime.paging import page_of
from shared.runtime.problems import Problem

REFRESH = "inventory.refresh"

Row = dict[str, Any]
Rows = tuple[Sequence[Row], str | None]
"""A page and the cursor of the next."""


@dataclass(frozen=True)
class Past:
    """Where a page of history goes on: after the period that began `since` for `name`."""

    since: datetime
    name: str


class Inventory:
    """Reads what is stored, and asks devices for news in a person's name.

    `reach`: the groups whose devices the caller may see; None: all devices.
    """

    def __init__(self, pool: Pool, clock: Clock) -> None:
        self._pool, self._clock = pool, clock

    async def devices(self, filters: Filters, reach: Reach, after: UUID | None, limit: int) -> Rows:
        async with transaction(self._pool) as tx:
            rows = await devices.page(tx, filters, MAIN, after, reach, limit + 1)
        return page_of(rows, limit, lambda row: [str(row["device_id"])])

    async def device(self, device_id: UUID, reach: Reach) -> Row:
        """One device with all its facts and when each section was reported."""
        async with transaction(self._pool) as tx:
            row = await _known(tx, device_id, reach)
            found = await facts.read(tx, device_id, None)
            row["facts"] = {fact["name"]: fact["value"] for fact in found}
            row["reported"] = await reports.of_device(tx, device_id)
        return row

    async def facts(self, device_id: UUID, reach: Reach, at: datetime | None) -> list[Row]:
        """Facts by name, now or at an instant, each with its section and meaning."""
        async with transaction(self._pool) as tx:
            await _known(tx, device_id, reach)
            rows = await facts.read(tx, device_id, at)
        return [dict(row) for row in rows]

    async def items(
        self,
        section: Section,
        device_id: UUID,
        reach: Reach,
        after: str | None,
        limit: int,
        at: datetime | None,
    ) -> tuple[Rows, datetime | None]:
        """A page of a list, and when the list was last reported (None: never)."""
        async with transaction(self._pool) as tx:
            await _known(tx, device_id, reach)
            rows = await items.page(tx, section, device_id, after, limit + 1, at)
            reported = await reports.of_device(tx, device_id)
        return page_of(rows, limit, lambda row: [row["key"]]), reported.get(section)

    async def fact_history(
        self, device_id: UUID, reach: Reach, name: str | None, past: Past | None, limit: int
    ) -> Rows:
        """Periods of one fact or of all, newest first."""
        if name is not None and name not in FACTS:
            raise Problem(404, "fact_unknown", f"No fact is called {name[:100]}.")
        async with transaction(self._pool) as tx:
            await _known(tx, device_id, reach)
            after = (past.since, past.name) if past else None
            rows = await facts.history(tx, device_id, name, after, limit + 1)
        return page_of(rows, limit, lambda row: [row["valid_from"], row["name"]])

    async def item_history(
        self,
        section: Section,
        device_id: UUID,
        reach: Reach,
        key: str | None,
        past: Past | None,
        limit: int,
    ) -> Rows:
        """Periods of a list's entries, newest first."""
        if section not in LISTS:
            raise Problem(400, "section_is_no_list", f"{section} has facts: ask for its names.")
        async with transaction(self._pool) as tx:
            await _known(tx, device_id, reach)
            after = (past.since, past.name) if past else None
            rows = await items.history(tx, section, device_id, key, after, limit + 1)
        return page_of(rows, limit, lambda row: [row["valid_from"], row["key"]])

    async def refresh(
        self, device_id: UUID, sections: Sequence[Section], reason: str | None, who: Caller
    ) -> list[Section]:
        """Ask a device for sections now; within one minute the same request is one command."""
        wanted = [s for s in SECTIONS if s in (sections or SECTIONS)]
        minute = self._clock.now().strftime("%Y-%m-%dT%H:%M")
        async with transaction(self._pool) as tx:
            managed = await devices.is_managed(tx, device_id, who.reach(REFRESH))
            if managed is None:
                raise unknown()
            if not managed:
                raise Problem(409, "device_not_managed", "Enroll the device first: it is ended.")
            await lock_devices(tx, [device_id])
            await outbox.emit(
                tx,
                [
                    *(
                        refresh.request(
                            device_id,
                            section,
                            f"{device_id}:{minute}",
                            why="asked",
                            actor=who.actor,
                            reason=reason,
                        )
                        for section in wanted
                    ),
                    AuditRecorded(
                        audit_id=uuid7(),
                        actor=who.actor,
                        permission=REFRESH,
                        action="inventory.refresh",
                        target=str(device_id),
                        after={"sections": wanted},
                        reason=reason,
                        source=who.source,
                        via=who.via,
                    ),
                ],
            )
        return wanted


def unknown() -> Problem:
    return Problem(404, "device_unknown", "No device has this id.")


async def _known(tx: Connection, device_id: UUID, reach: Reach) -> Row:
    row = await devices.one(tx, device_id, reach)
    if row is None:
        raise unknown()
    return row
