"""Reading devices: lists by filter and order, one device, the number of those that match."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from services.console.store.view_conditions import GRAM, Conditions
from services.console.views.filters import Order, Place, Sort
from shared.db.pool import Connection

Row = dict[str, Any]
FEW: Final = 1000
"""So many found devices are named to the statement that lists them."""
NEAR: Final = 1000
"""So many devices along an order are looked at for a text that many have, before all are found."""

KEYS: Final[Mapping[Sort, str]] = {
    Sort.NAME: "name_key",
    Sort.SERIAL: "serial_key",
    Sort.USER: "user_key",
    Sort.MODEL: "model_key",
    Sort.PLATFORM: "platform",
    Sort.OS: "os_key",
    Sort.OWNERSHIP: "ownership",
    Sort.STATUS: "status",
    Sort.COMPLIANCE: "compliance_key",
    Sort.ENROLLED: "enrolled_at",
    Sort.SEEN: "device_seen.last_seen_at",
    Sort.CERTIFICATE: "certificate_until",
}
_ALWAYS: Final = frozenset({Sort.PLATFORM, Sort.OWNERSHIP, Sort.STATUS})
"""Every device has these."""
COLUMNS: Final = """
    device.device_id, coalesce(name, reported_name) AS name, serial, udid, user_name AS "user",
    coalesce(reported_model, model) AS model, product, platform, os_version, ownership, supervised,
    status, enrolled_at, ended_at, end_reason, compliance, certificate_until, tags, groups,
    (SELECT seen.last_seen_at FROM device_seen AS seen WHERE seen.device_id = device.device_id)
        AS last_seen_at
"""
ONE = f"""
SELECT {COLUMNS} FROM device
WHERE device_id = $1 AND sequence > 0 AND ($2::uuid[] IS NULL OR groups && $2)
"""
SOME = f"""
SELECT {COLUMNS} FROM device
WHERE device_id = ANY($1::uuid[]) AND sequence > 0 AND ($2::uuid[] IS NULL OR groups && $2)
"""
# By serial number rather than by name, which several may have: the newest of these is meant.
CALLED = """
(SELECT device_id FROM device
 WHERE serial_key = lower($1) AND sequence > 0 AND ($2::uuid[] IS NULL OR groups && $2)
 ORDER BY device_id DESC LIMIT 1)
UNION ALL
(SELECT device_id FROM device
 WHERE name_key = lower($1) AND sequence > 0 AND ($2::uuid[] IS NULL OR groups && $2)
 ORDER BY device_id DESC LIMIT 1)
LIMIT 1
"""
# Ids rise as devices come.
NEWEST = "SELECT device_id FROM device WHERE sequence <> 0 ORDER BY device_id DESC LIMIT 1"
GROUP_NAMES = "SELECT group_id, name FROM device_group WHERE NOT deleted ORDER BY lower(name)"
EXPIRING = """
SELECT device_id, coalesce(name, reported_name, serial) AS name, certificate_until FROM device
WHERE certificate_until < $1 AND status = 'enrolled' AND sequence > 0
  AND ($2::uuid[] IS NULL OR groups && $2)
ORDER BY certificate_until, device_id LIMIT $3
"""
PUSH_CERTIFICATES = """
SELECT topic, not_after, current FROM push_certificate WHERE current OR not_after > $1
ORDER BY not_after
"""


async def search(tx: Connection, found: Conditions, words: Sequence[str]) -> bool:
    """Let only devices match that all words are found of; whether many have them.

    A word of three letters or more is found anywhere, a shorter one where a word begins. Few
    devices are looked up first and named, since no statistics tell how many a text will find, or
    where in an order they lie; so are those of a small group or tag. What many others have is
    looked for along the order: see `_wide`.
    """
    texts = [word if len(word) >= GRAM else f" {word}" for word in words]
    if not texts:
        return False
    indexed = Conditions([], [])
    indexed.having(texts, by_index=True)
    named = await _named(tx, indexed)
    if len(named) > FEW and found.sets is not None:
        members = await few(tx, found.sets, FEW + 1)
        if len(members) <= FEW:
            among = Conditions(["device_id = ANY($1::uuid[])"], [members])
            among.having(texts, by_index=False)
            named = await _named(tx, among)
    if len(named) <= FEW:
        found.add("device.device_id = ANY({0}::uuid[])", named)
        return False
    found.texts = texts
    return True


async def _named(tx: Connection, wanted: Conditions) -> list[UUID]:
    """Devices by their words, as many as a statement may name, or one more."""
    statement = f"SELECT device_id FROM search WHERE {wanted.where} LIMIT {FEW + 1}"
    return [row["device_id"] for row in await tx.fetch(statement, *wanted.values)]


async def page(tx: Connection, matching: Conditions, order: Order, limit: int) -> list[Row]:
    """At most `limit` devices in order, each with its `sort_key`.

    Devices without a key come last, whichever way it goes: they are a part of the list of their
    own, which is begun when the other one is through.
    """
    descending = order.descending != order.back
    rows: list[Row] = []
    for blank, after in _parts(order):
        left = limit - len(rows)
        if left > 0:
            # Blank ones go by their id, up in both directions unless one pages back.
            down = order.back if blank else descending
            part = _Part(KEYS[order.sort], blank, down, after)
            read = _wide if matching.texts else _narrow
            rows += await read(tx, matching, part, left)
    return rows[::-1] if order.back else rows


def _parts(order: Order) -> Iterator[tuple[bool, Place | None]]:
    """Yield the parts of the list that may hold the page: (without keys?, where to go on)."""
    after = order.after
    valued = [False] if order.sort in _ALWAYS else [False, True]
    parts = valued[::-1] if order.back else valued
    for blank in parts:
        if after is None:
            yield blank, None
        elif blank == (after.key is None):
            yield blank, after
            after = None


@dataclass(frozen=True)
class _Part:
    """A part of an order: with keys or without, from a place on."""

    key: str
    blank: bool
    down: bool
    after: Place | None

    @property
    def join(self) -> str:
        """What has the key beside the device's row."""
        table, _, _ = self.key.rpartition(".")
        return f" JOIN {table} ON {table}.device_id = device.device_id" if table else ""

    @property
    def place(self) -> str:
        return f"{self.key.rpartition('.')[0] or 'device'}.device_id"

    @property
    def by(self) -> str:
        direction = "DESC" if self.down else "ASC"
        keyed = "" if self.blank else f"{self.key} {direction}, "
        return f"ORDER BY {keyed}{self.place} {direction}"

    def bound(self, wanted: Conditions) -> None:
        wanted.parts.append(f"{self.key} IS {'' if self.blank else 'NOT '}NULL")
        sign = "<" if self.down else ">"
        if self.after is not None and self.blank:
            wanted.add(f"{self.place} {sign} {{0}}", self.after.device_id)
        elif self.after is not None:
            place = f"({self.key}, {self.place}) {sign} ({{0}}, {{1}})"
            wanted.add(place, self.after.key, self.after.device_id)


async def _narrow(tx: Connection, matching: Conditions, part: _Part, limit: int) -> list[Row]:
    """Read along the order until enough have come that match."""
    wanted = matching.copy()
    part.bound(wanted)
    statement = (
        f"SELECT {COLUMNS}, {part.key} AS sort_key FROM {wanted.source}{part.join}"
        f" WHERE {wanted.where} {part.by} LIMIT {limit}"
    )
    return [dict(row) for row in await tx.fetch(statement, *wanted.values)]


async def _wide(tx: Connection, matching: Conditions, part: _Part, limit: int) -> list[Row]:
    """Find what many have: mostly enough of them lie near. Where they do not, as names that begin
    alike in the order of names, all are found first, and the order is read by its index alone.
    """
    near = await _near(tx, matching, part, limit)
    return near if len(near) == limit else await _far(tx, matching, part, limit)


async def _near(tx: Connection, matching: Conditions, part: _Part, limit: int) -> list[Row]:
    """Those among the next of the order, whatever else they are, that match."""
    wanted = matching.copy()
    nearest = Conditions(values=wanted.values)
    part.bound(nearest)
    # Texts are looked up last: what other filters leave out costs little.
    most = NEAR if wanted.parts == nearest.parts[:1] else 5 * NEAR
    probe = Conditions([], wanted.values)
    probe.having(matching.texts, by_index=False)
    statement = (
        f"SELECT {COLUMNS}, {part.key} AS sort_key FROM ("
        f"SELECT device.* FROM device{part.join} WHERE {nearest.where} {part.by} LIMIT {most}"
        f") AS device{part.join} WHERE {wanted.where} AND (SELECT {probe.where} FROM search"
        f" WHERE search.device_id = device.device_id) {part.by} LIMIT {limit}"
    )
    return [dict(row) for row in await tx.fetch(statement, *wanted.values)]


async def _far(tx: Connection, matching: Conditions, part: _Part, limit: int) -> list[Row]:
    """IS TRUE keeps the found ones a set that is asked: no join would keep the order."""
    wanted = matching.copy()
    part.bound(wanted)
    found = Conditions([], wanted.values)
    found.having(matching.texts, by_index=True)
    statement = (
        f"SELECT {COLUMNS}, {part.key} AS sort_key FROM ("
        f"SELECT {part.place} AS found_id FROM {wanted.source}{part.join} WHERE {wanted.where}"
        f" AND (device.device_id IN (SELECT device_id FROM search WHERE {found.where})) IS TRUE"
        f" {part.by} LIMIT {limit}"
        f") AS found JOIN device ON device.device_id = found_id{part.join} {part.by}"
    )
    return [dict(row) for row in await tx.fetch(statement, *wanted.values)]


async def few(tx: Connection, matching: Conditions, most: int) -> list[UUID]:
    """Devices that match, in no order, at most so many."""
    where, values = _everything(matching)
    statement = f"SELECT device_id FROM device WHERE {where} LIMIT {most}"
    return [row["device_id"] for row in await tx.fetch(statement, *values)]


async def count(tx: Connection, matching: Conditions, most: int) -> int:
    """How many match, at most so many."""
    where, values = _everything(matching)
    statement = f"SELECT count(*) FROM (SELECT FROM device WHERE {where} LIMIT {most}) AS found"
    return int(await tx.fetchval(statement, *values))


def _everything(matching: Conditions) -> tuple[str, list[Any]]:
    """The conditions with the search for what many have."""
    wanted = matching.copy()
    if matching.texts:
        found = Conditions([], wanted.values)
        found.having(matching.texts, by_index=False)
        wanted.parts.append(
            f"device.device_id IN (SELECT device_id FROM search WHERE {found.where})"
        )
    return wanted.where, wanted.values


async def one(tx: Connection, device_id: UUID, reach: Sequence[UUID] | None) -> Row | None:
    row = await tx.fetchrow(ONE, device_id, reach)
    return None if row is None else dict(row)


async def called(tx: Connection, words: str, reach: Sequence[UUID] | None) -> UUID | None:
    """The device that has this serial number, else one that has this name."""
    device_id: UUID | None = await tx.fetchval(CALLED, words, reach)
    return device_id


async def some(
    tx: Connection, device_ids: Sequence[UUID], reach: Sequence[UUID] | None
) -> list[Row]:
    """Those of these devices that may be seen, in no order."""
    return [dict(row) for row in await tx.fetch(SOME, list(device_ids), reach)]


async def newest(tx: Connection) -> UUID | None:
    """The device that came last, of all that are known."""
    device_id: UUID | None = await tx.fetchval(NEWEST)
    return device_id


async def group_names(tx: Connection) -> dict[UUID, str]:
    return {row["group_id"]: row["name"] for row in await tx.fetch(GROUP_NAMES)}


async def expiring(
    tx: Connection, before: datetime, reach: Sequence[UUID] | None, limit: int
) -> list[Row]:
    """Enrolled devices whose certificate ends first."""
    return [dict(row) for row in await tx.fetch(EXPIRING, before, reach, limit)]


async def push_certificates(tx: Connection, now: datetime) -> list[Row]:
    return [dict(row) for row in await tx.fetch(PUSH_CERTIFICATES, now)]
