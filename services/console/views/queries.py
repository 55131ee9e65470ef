"""What people ask of the read model. `reach`: the groups whose devices they see; None: all."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from typing import Any, Final
from uuid import UUID

from services.console.store import view_activity as activity
from services.console.store import view_lists as lists
from services.console.store import view_tallies as tallies
from services.console.store import view_verdicts as verdicts
from services.console.store.view_conditions import Conditions, conditions, named
from services.console.views import export
from services.console.views.filters import MONTH, Filters, Order, Place, Sort, as_id
from services.console.views.sentences import actor_text
from services.console.views.telling import told
from shared.db.pool import READING, Connection, Pool, transaction
from shared.events import uuid7
from shared.runtime import turns
from shared.runtime.clock import Clock
from shared.runtime.http import Reach
from shared.runtime.paging import encode_cursor
from shared.runtime.problems import Problem

Row = dict[str, Any]
COUNTED: Final = 1000
"""What is not kept as a number is counted so far and no further."""
TREND_DAYS: Final = 30
_FIRST_CHUNK = 50
_CHUNK = 500
"""Rows of CSV at a time: while they are written nobody else is served."""


@dataclass(frozen=True)
class Total:
    """How many devices a list has; `exact` is False where counting was stopped."""

    count: int
    exact: bool


@dataclass(frozen=True)
class DevicePage:
    items: Sequence[Row]
    next: str | None
    previous: str | None
    total: Total
    known: UUID
    """No device that this page could show has a higher id; it tells of none which that is."""
    as_of: datetime


@dataclass(frozen=True)
class Overview:
    """The fleet in numbers. Trends are of the whole fleet: None for people who see a part."""

    counts: tallies.Counts
    policies: Sequence[Row]
    trend: Mapping[str, Mapping[date, int]] | None
    expiring: Sequence[Row]
    push_certificates: Sequence[Row]
    activity: Sequence[Row]
    as_of: datetime


class Views:
    """Reads lists, devices, numbers and what happened."""

    def __init__(self, pool: Pool, clock: Clock) -> None:
        self._pool, self._clock = pool, clock

    def now(self) -> datetime:
        """What pages say they are as of."""
        return self._clock.now()

    def _reading(self) -> AbstractAsyncContextManager[Connection]:
        return transaction(self._pool, READING)

    async def devices(self, filters: Filters, order: Order, limit: int, reach: Reach) -> DevicePage:
        """A page of the list, the cursors of its neighbours, and how long the list is."""
        now = self._clock.now()
        async with self._reading() as tx:
            matching, total = await found_by(tx, filters, reach, now)
            rows = await lists.page(tx, matching, order, limit + 1)
            names = await lists.group_names(tx)
            newest = await lists.newest(tx)
        more = len(rows) > limit
        rows = (rows[1:] if order.back else rows[:-1]) if more else rows
        following = bool(rows) and (order.back or more)
        preceding = bool(rows) and (more if order.back else order.after is not None)
        return DevicePage(
            items=_shown(rows, names, reach),
            next=_cursor(order.sort, rows[-1]) if following else None,
            previous=_cursor(order.sort, rows[0]) if preceding else None,
            total=total,
            known=_ceiling(newest),
            as_of=now,
        )

    async def newcomers(self, filters: Filters, known: UUID, most: int, reach: Reach) -> int:
        """How many devices that came since a page are on its list now, at most so many. Only what
        came since is looked at, however large the fleet is.
        """
        async with self._reading() as tx:
            matching = conditions(filters, reach, self._clock.now())
            matching.add("device.device_id > {0}", known)
            await lists.search(tx, matching, filters.words)
            return await lists.count(tx, matching, most)

    async def export(self, filters: Filters, order: Order, reach: Reach) -> AsyncIterator[str]:
        """The whole list as CSV, a chunk a transaction: a slow reader holds nothing open. Which
        devices a short list has is decided once, at its beginning.
        """
        now = self._clock.now()
        order = replace(order, after=None, back=False)
        text, chunk = export.header(), _FIRST_CHUNK
        async with self._reading() as tx:
            matching, _ = await found_by(tx, filters, reach, now)
        while True:
            async with self._reading() as tx:
                rows = await lists.page(tx, matching, order, chunk)
                names = await lists.group_names(tx)
            yield text + export.lines(_named(row) for row in _shown(rows, names, reach))
            if len(rows) < chunk:
                return
            text, chunk = "", _CHUNK
            await turns.pause()
            last = rows[-1]
            order = replace(order, after=Place(last["sort_key"], last["device_id"]))

    async def device(self, device_id: UUID, reach: Reach) -> Row:
        async with self._reading() as tx:
            row = await lists.one(tx, device_id, reach)
            names = await lists.group_names(tx)
        if row is None:
            raise unknown()
        return {**_shown([row], names, reach)[0], "as_of": self._clock.now()}

    async def called(self, words: str, reach: Reach) -> Row | None:
        """The device that somebody means by its id, serial number or name."""
        async with self._reading() as tx:
            device_id = as_id(words) or await lists.called(tx, words.strip(), reach)
            return None if device_id is None else await lists.one(tx, device_id, reach)

    async def some(self, device_ids: Sequence[UUID], reach: Reach) -> list[Row]:
        """Those of some devices that may be seen: what an open page reads again."""
        async with self._reading() as tx:
            rows = await lists.some(tx, device_ids, reach)
            names = await lists.group_names(tx)
        return _shown(rows, names, reach)

    async def verdicts(self, device_id: UUID, reach: Reach) -> list[Row]:
        async with self._reading() as tx:
            if await lists.one(tx, device_id, reach) is None:
                raise unknown()
            return await verdicts.of_device(tx, device_id)

    async def happened(
        self, device_id: UUID, before: UUID | None, limit: int, reach: Reach
    ) -> list[Row]:
        """What happened to a device, newest first."""
        async with self._reading() as tx:
            if await lists.one(tx, device_id, reach) is None:
                raise unknown()
            return await told(tx, await activity.of_device(tx, device_id, before, limit))

    async def alarms(self, span: timedelta, most: int) -> list[Row]:
        """Alarms of a time that is just over, and none buried by others; they are everybody's."""
        after = uuid7(self._clock.now() - span)
        async with self._reading() as tx:
            return await told(tx, await activity.alarms(tx, after, most))

    async def feed(self, before: UUID | None, limit: int, reach: Reach) -> list[Row]:
        """What happened that everybody should know, newest first."""
        async with self._reading() as tx:
            return await told(tx, await activity.feed(tx, reach, before, limit))

    async def overview(self, reach: Reach) -> Overview:
        now = self._clock.now()
        async with self._reading() as tx:
            counts = await (tallies.read(tx) if reach is None else tallies.count(tx, reach))
            trend = None
            if reach is None:
                trend = await tallies.read_daily(tx, (now - timedelta(days=TREND_DAYS)).date())
            return Overview(
                counts=counts,
                policies=await _policies(tx) if reach is None else [],
                trend=trend,
                expiring=await lists.expiring(tx, now + MONTH, reach, 6),
                push_certificates=await lists.push_certificates(tx, now),
                activity=await told(tx, await activity.feed(tx, reach, None, 10)),
                as_of=now,
            )

    async def actors(self, actors: Sequence[str]) -> dict[str, str]:
        """Actor → what to call them."""
        wanted = sorted(set(actors))
        async with self._reading() as tx:
            names = await activity.actors(tx, wanted)
        return {one: actor_text(names.get(one, one)) for one in wanted}

    async def choices(self, reach: Reach) -> dict[str, dict[str, str]]:
        """What filters may be set to: groups and policies by name, versions in the fleet."""
        async with self._reading() as tx:
            groups = await lists.group_names(tx)
            policies = await verdicts.policies(tx)
        seen = {key: name for key, name in groups.items() if reach is None or key in reach}
        return {
            "group": {str(key): name for key, name in seen.items()},
            "failing": {str(key): name for key, name in policies.items()},
        }


def unknown() -> Problem:
    return Problem(404, "device_unknown", "No device has this id.")


async def found_by(
    tx: Connection, filters: Filters, reach: Reach, now: datetime
) -> tuple[Conditions, Total]:
    """What is on a list, and how long it is: a kept number where there is one, else counted so far.

    Whatever has few devices is found first and ordered then: a walk along the order until enough of
    them have come would be long, and nobody can tell PostgreSQL how long.
    """
    matching = conditions(filters, reach, now)
    if reach is None and filters == Filters(status=filters.status):
        of_status = (await tallies.read(tx, ["status"])).get("status", {})
        wanted = filters.status or tuple(of_status)
        count = sum(of_status.get(one, 0) for one in wanted)
        if count > COUNTED or not filters.status:
            return matching, Total(count, exact=True)
    many = await lists.search(tx, matching, filters.words)
    if many and lists.FEW >= COUNTED and reach is None and filters == Filters(words=filters.words):
        return matching, Total(COUNTED, exact=False)
    found = await lists.few(tx, matching, COUNTED + 1)
    if len(found) > COUNTED:
        return matching, Total(COUNTED, exact=False)
    return named(found), Total(len(found), exact=True)


async def _policies(tx: Connection) -> list[Row]:
    """Policies with their devices by state, those with the most failures first."""
    names = await verdicts.policies(tx)
    counts: dict[UUID, dict[str, int]] = {policy_id: {} for policy_id in names}
    for value, count in (await tallies.read(tx, ["policy"])).get("policy", {}).items():
        policy_id, _, state = value.partition(" ")
        if UUID(policy_id) in counts:
            counts[UUID(policy_id)][state] = count
    rows: list[Row] = [
        {"policy_id": policy_id, "name": names[policy_id], "counts": of_policy}
        for policy_id, of_policy in counts.items()
    ]
    return sorted(rows, key=lambda row: -row["counts"].get("noncompliant", 0))


def _ceiling(device_id: UUID | None) -> UUID:
    """The last id of its millisecond, so that people who may not see the device learn no id."""
    return UUID(int=device_id.int | (1 << 80) - 1) if device_id else UUID(int=0)


def _cursor(sort: Sort, row: Row) -> str:
    return encode_cursor([sort, row["sort_key"], row["device_id"]])


def _shown(rows: Sequence[Row], names: Mapping[UUID, str], reach: Reach) -> list[Row]:
    """Rows with their groups by name; groups beyond somebody's reach are none of theirs."""
    return [
        {
            **row,
            "groups": [
                {"group_id": key, "name": names[key]}
                for key in row["groups"]
                if key in names and (reach is None or key in reach)
            ],
        }
        for row in rows
    ]


def _named(row: Row) -> Row:
    return {**row, "groups": [one["name"] for one in row["groups"]]}
